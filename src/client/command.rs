//! One command of the system, run to its end: a limit on its time, a limit on what it may say, and nothing left behind.
//!
//! It runs without a shell, without standard input, without our own settings in its environment, and speaks English.
//! Its output and what it complains of are kept apart. Policy is the caller's: an exit code is given, not judged.

use std::io::{self, PipeReader, Read as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::AsFd as _;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use rustix::time::Timespec;

use super::children::Groups;
use super::shortage;
use crate::core::time::people;

/// Bytes of output after which the command is killed.
const OUTPUT: usize = 1024 * 1024;
/// Bytes of its complaints that are kept.
const COMPLAINT: usize = 4 * 1024;
/// How often it is looked whether the command has ended while its output stays open.
const STEP: Duration = Duration::from_millis(20);

/// What a command came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Its output.
    pub output: String,
    /// What it complained of.
    pub complaint: String,
}

/// Why a command came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// There is no such program.
    #[error("{0} is not installed here")]
    Missing(String),
    /// It could not be started.
    #[error("cannot run {0}: {1}")]
    Unstarted(String, String),
    /// It took too long, and was killed.
    #[error("{} did not end within {}", .0, people(*.1))]
    Late(String, Duration),
    /// It said too much, and was killed.
    #[error("{0} printed more than {OUTPUT} bytes")]
    Loud(String),
    /// The program ends, or its configuration is being read again.
    #[error("{0} was cut short: the watchdog is ending or was told to reload")]
    Closed(String),
}

/// Runs `program` with these arguments, for at most `limit`.
///
/// # Errors
/// Why it did not come to an end.
pub fn run(groups: &Groups, program: &str, arguments: &[&str], limit: Duration) -> Result<Said, CommandError> {
    let deadline = Instant::now() + limit;
    let name = || program.rsplit('/').next().unwrap_or(program).to_string();
    let unstarted = |error: &io::Error| CommandError::Unstarted(name(), shortage::words(error));
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command.env_clear().env("LC_ALL", "C").env("TZ", "UTC").env("SYSTEMD_COLORS", "0").env("SYSTEMD_URLIFY", "0");
    for kept in ["PATH", "HOME", "DBUS_SYSTEM_BUS_ADDRESS"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    let (output, writer) = io::pipe().map_err(|error| unstarted(&error))?;
    let (complaint, complaints) = io::pipe().map_err(|error| unstarted(&error))?;
    command.stdout(writer).stderr(complaints);
    let started = groups.start(&mut command);
    // Our copies of the writing ends go away here: only the command holds them now.
    drop(command);
    let (mut child, leader) = started.map_err(|error| match error.kind() {
        _ if groups.is_closed() => CommandError::Closed(name()),
        io::ErrorKind::NotFound => CommandError::Missing(name()),
        _ => match shortage::seen_starting(&error) {
            Some(lack) => CommandError::Unstarted(name(), lack.to_string()),
            None => CommandError::Unstarted(name(), error.to_string()),
        },
    })?;
    let mut heard = Heard { pipes: [Some(output), Some(complaint)], texts: [Vec::new(), Vec::new()] };
    let end = heard.follow(leader, deadline);
    let status = groups.end(&mut child, leader);
    if groups.is_closed() {
        return Err(CommandError::Closed(name()));
    }
    match end {
        End::Late => return Err(CommandError::Late(name(), limit)),
        End::Loud => return Err(CommandError::Loud(name())),
        End::Own => {}
    }
    let [output, complaint] = heard.texts.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let code = status.map_err(|error| unstarted(&error))?.code();
    Ok(Said { code, output, complaint })
}

/// How a run came to its end.
enum End {
    Own,
    Late,
    Loud,
}

/// What was heard of a command: its output, and its complaints.
struct Heard {
    /// `None` once it has ended.
    pipes: [Option<PipeReader>; 2],
    texts: [Vec<u8>; 2],
}

impl Heard {
    /// Reads until the command has ended and its pipes are empty.
    fn follow(&mut self, leader: Pid, deadline: Instant) -> End {
        loop {
            let over = is_over(leader);
            let left = deadline.saturating_duration_since(Instant::now());
            let heard = self.read(if over { Duration::ZERO } else { left.min(STEP) });
            if self.texts.iter().any(|text| text.len() > OUTPUT) {
                return End::Loud;
            }
            if over && !heard {
                return End::Own;
            }
            if left.is_zero() && !over {
                return End::Late;
            }
        }
    }

    /// Waits for something to read, and reads it; true when there was something.
    fn read(&mut self, wait: Duration) -> bool {
        let open: Vec<usize> = (0..2).filter(|place| self.pipes.get(*place).is_some_and(Option::is_some)).collect();
        let limit =
            Timespec { tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX), tv_nsec: wait.subsec_nanos().into() };
        let ready: Vec<bool> = {
            let pipes = self.pipes.iter().flatten();
            let mut fds: Vec<PollFd<'_>> =
                pipes.map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)).collect();
            // An interrupted poll is one that found nothing.
            let _ = poll(&mut fds, Some(&limit));
            fds.iter().map(|fd| !fd.revents().is_empty()).collect()
        };
        let mut heard = false;
        for (place, _) in open.into_iter().zip(ready).filter(|(_, ready)| *ready) {
            let Some(pipe) = self.pipes.get_mut(place) else { continue };
            let mut piece = [0; 16 * 1024];
            match pipe.as_mut().map(|pipe| pipe.read(&mut piece)) {
                Some(Ok(0)) => *pipe = None,
                Some(Ok(count)) => {
                    heard = true;
                    let piece = piece.get(..count).unwrap_or_default();
                    if let Some(text) = self.texts.get_mut(place) {
                        let room = if place == 0 { usize::MAX } else { COMPLAINT.saturating_sub(text.len()) };
                        text.extend(piece.iter().take(room));
                    }
                }
                Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => *pipe = None,
            }
        }
        heard
    }
}

/// True when the command has ended; leaves it to be reaped.
fn is_over(leader: Pid) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    !matches!(waitid(WaitId::Pid(leader), look), Ok(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: u64) -> Result<Said, CommandError> {
        run(&Groups::default(), "sh", &["-c", script], Duration::from_millis(limit))
    }

    #[test]
    fn output_and_complaints_are_kept_apart_and_the_exit_code_is_given() {
        let said = sh("echo out; echo no >&2; exit 3", 20_000).unwrap();
        assert_eq!(said, Said { code: Some(3), output: "out\n".to_string(), complaint: "no\n".to_string() });
        let said = sh("kill -9 $$", 20_000).unwrap();
        assert_eq!(said.code, None);
        let long = sh("head -c 300000 /dev/zero | tr '\\0' x; head -c 100000 /dev/zero >&2", 20_000).unwrap();
        assert_eq!((long.output.len(), long.complaint.len()), (300_000, COMPLAINT));
    }

    #[test]
    fn nothing_takes_longer_or_says_more_than_it_may() {
        let begun = Instant::now();
        let error = sh("sleep 300 & exec sleep 300", 200).unwrap_err();
        assert_eq!(error.to_string(), "sh did not end within 200 ms");
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert_eq!(sh("exec yes", 20_000).unwrap_err(), CommandError::Loud("sh".to_string()));
        // Whoever holds the output open after the end is not waited for.
        let begun = Instant::now();
        assert_eq!(sh("sleep 300 & echo done", 20_000).unwrap().output, "done\n");
        assert!(begun.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn what_cannot_be_run_says_so() {
        let run =
            |program: &str| run(&Groups::default(), program, &[], Duration::from_secs(5)).unwrap_err().to_string();
        assert_eq!(run("/nonexistent/systemctl"), "systemctl is not installed here");
        assert!(run("/etc/passwd").starts_with("cannot run passwd: "), "{}", run("/etc/passwd"));
    }
}
