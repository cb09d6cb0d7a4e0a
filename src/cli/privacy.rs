//! Keeps our memory, where tokens are, to ourselves: no core dump, and no other process of the same
//! user may look into us (T24, F84). `/proc/self` then belongs to root; what is read from there
//! (`status`, `mountinfo`, `cgroup`) everybody may read, so nothing is lost by it. Programs that we
//! start are not covered by the second: the kernel lifts it at `exec`.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Best effort: a sandbox that forbids these calls has its own rules, and is not a reason not to start.
pub fn keep() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}
