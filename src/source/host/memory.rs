//! How much of the machine's memory and swap is in use, in numbers and words.
//!
//! By what is available to new programs. The cache of ZFS (the ARC) is given back when it is asked for, down to a
//! least size, but the kernel does not count it; this does.

use super::proc::{Gap, Memory, Seen};
use super::words::kib;
use crate::core::signal::Reading;

/// Percent of memory in use. `arc`: what the cache of ZFS would give back, in KiB; missing without ZFS.
pub fn in_use(memory: &Memory, arc: &Seen<u64>) -> Seen<(Reading, String)> {
    let (available, estimated) = match (memory.available, memory.estimate) {
        (Some(available), _) => (available, ""),
        (None, Some(estimate)) => (estimate, " (estimated, the kernel does not say)"),
        (None, None) => {
            return Err(Gap::Broken(
                "meminfo has no MemAvailable, and not the figures to estimate it from".to_string(),
            ));
        }
    };
    let available = available.min(memory.total);
    // More than is in use at all cannot be given back.
    let back = arc.as_ref().copied().unwrap_or(0).min(memory.total - available);
    let cache = match arc {
        Ok(_) if back > 0 => format!(", {} of that in the ZFS cache", kib(back)),
        Err(Gap::Broken(why)) => format!("; the ZFS cache counts as used: {why}"),
        _ => String::new(),
    };
    let available = available + back;
    let percent = (memory.total - available) as f64 / memory.total as f64 * 100.0;
    let fact =
        format!("{percent:.0} % in use, {} of {} available{estimated}{cache}", kib(available), kib(memory.total));
    Ok((Reading::Value(percent), fact))
}

/// Percent of swap in use.
pub fn swap_in_use(memory: &Memory) -> (Reading, String) {
    if memory.swap_total == 0 {
        // Swap that was switched off holds nothing back.
        return (Reading::Value(0.0), "no swap".to_string());
    }
    let free = memory.swap_free.min(memory.swap_total);
    let percent = (memory.swap_total - free) as f64 / memory.swap_total as f64 * 100.0;
    (Reading::Value(percent), format!("{percent:.0} % in use, {} of {} free", kib(free), kib(memory.swap_total)))
}
