//! One daemon for one state file, whatever the file is called and whatever became of its lock file.

use std::path::Path;
use std::process::{Command, Output};

use crate::daemon::{Daemon, watchdog};
use crate::parts;
use crate::setup::Setup;

/// Starts a second daemon in `dir` with this state file, which must end by itself.
fn second(dir: &Path, state: &Path) -> Output {
    let state = format!("state={}", state.display());
    watchdog(dir).args(["--set", "listen=", "--set", &state, "run", "--once"]).output().unwrap()
}

fn assert_refused(output: &Output, holder: u32, how: &str) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1), "{how}: {} {said}", output.status);
    assert!(said.contains("is using it") && said.contains(&format!("process {holder}")), "{how}: {said}");
}

#[test]
fn a_second_daemon_on_the_same_file_is_refused_under_every_name() {
    let dir = tempfile::tempdir().unwrap();
    Setup::new("100ms").write(dir.path());
    let first = Daemon::start(dir.path());
    let state = dir.path().join("state.db");
    let elsewhere = tempfile::tempdir_in(dir.path()).unwrap();
    let (hard, soft) = (elsewhere.path().join("hard.db"), elsewhere.path().join("soft.db"));
    std::fs::hard_link(&state, &hard).unwrap();
    std::os::unix::fs::symlink(&state, &soft).unwrap();
    assert_refused(&second(dir.path(), &state), first.pid(), "the same path");
    assert_refused(&second(dir.path(), &soft), first.pid(), "a symbolic link");
    assert_refused(&second(dir.path(), &hard), first.pid(), "a hard link");
    std::fs::remove_file(dir.path().join("state.db.lock")).unwrap();
    assert_refused(&second(dir.path(), &state), first.pid(), "its lock file was deleted");
    if parts::mount() {
        let script = "mount --bind \"$1\" \"$2\" && exec \"$3\" --set listen= --set state=\"$2/state.db\" run --once";
        let program = watchdog(dir.path());
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(dir.path()).arg("/mnt").arg(program.get_program());
        assert_refused(&command.current_dir(dir.path()).output().unwrap(), first.pid(), "a bind mount");
    }
    // The first one was not disturbed by any of it.
    first.wait_pass();
    assert_eq!(first.status()["state_file"], "ok");
    first.terminate();
    let alone = second(dir.path(), &hard);
    assert!(alone.status.success(), "{}", String::from_utf8_lossy(&alone.stderr));
}

#[test]
fn a_file_that_was_replaced_while_in_use_is_locked_anew() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new("100ms")
        .block("[[probe]]\nname = \"one\"\ncommand = [\"sh\", \"-c\", \"test ! -e bad\"]\ninterval = \"100ms\"\n");
    setup.write(dir.path());
    let first = Daemon::start(dir.path());
    let state = dir.path().join("state.db");
    std::fs::remove_file(&state).unwrap();
    std::fs::write(dir.path().join("bad"), "").unwrap();
    first.wait_state("probe/one", "firing");
    crate::daemon::wait("the new file", || state.exists().then_some(()));
    let hard = dir.path().join("hard.db");
    std::fs::hard_link(&state, &hard).unwrap();
    assert_refused(&second(dir.path(), &hard), first.pid(), "a hard link to the new file");
}
