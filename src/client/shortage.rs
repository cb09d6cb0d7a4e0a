//! When the watchdog itself runs short: of file descriptors, memory, threads.
//!
//! What cannot be looked at for that reason is unknown, never down, and the reason is said as ours. Every
//! place where an error of the system becomes a verdict asks [`seen`] first (a thread or process that could not
//! be started: [`seen_starting`]). What was seen last is kept for the signal `watchdog/limits`.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that a lookup of a name needs at most: its configuration, its hosts file, sockets to the servers.
const LOOKUP: usize = 8;
/// A shortage this recent explains a name that was not found: the lookup itself does not say why.
const JUST_NOW: Duration = Duration::from_secs(5);
/// Open files that are enough for the most that is ever watched; more is not asked for, because every command
/// inherits it and some close all that there could be.
const FILES: u64 = 16_384;

static LAST: Mutex<Option<(Instant, Shortage)>> = Mutex::new(None);

/// What there is too little of. `Display` says so, and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// This process may not open another file or connection.
    Files,
    /// Nobody on this machine may.
    AllFiles,
    /// Memory.
    Memory,
    /// Another thread or process may not be started.
    Threads,
}

impl Shortage {
    /// What is short, in words.
    pub fn what(self) -> String {
        match self {
            Shortage::Files => {
                let limit = getrlimit(Resource::Nofile).current.map(|limit| format!(" (its limit is {limit})"));
                format!("the watchdog may not open another file or connection{}", limit.unwrap_or_default())
            }
            Shortage::AllFiles => "no file can be opened on this machine any more".to_string(),
            Shortage::Memory => "the watchdog gets no more memory".to_string(),
            Shortage::Threads => "the watchdog may not start another thread or process".to_string(),
        }
    }

    /// What to do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Shortage::Files => "raise LimitNOFILE (systemd), ulimits.nofile (compose) or `ulimit -n`",
            Shortage::AllFiles => "find who holds so many (lsof), or raise fs.file-max",
            Shortage::Memory => "raise MemoryMax (systemd) or mem_limit (compose)",
            Shortage::Threads => "raise TasksMax (systemd), pids_limit (compose) or `ulimit -u`",
        }
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what(), self.advice())
    }
}

/// Whether this error of the system means that we run short; then that is remembered.
pub fn seen(error: &io::Error) -> Option<Shortage> {
    let shortage = match Errno::from_io_error(error)? {
        Errno::MFILE => Shortage::Files,
        Errno::NFILE => Shortage::AllFiles,
        Errno::NOMEM | Errno::NOBUFS => Shortage::Memory,
        _ => return None,
    };
    Some(remember(shortage))
}

/// The same where a thread or process was to be started, which is refused in other words.
pub fn seen_starting(error: &io::Error) -> Option<Shortage> {
    if Errno::from_io_error(error) == Some(Errno::AGAIN) { Some(remember(Shortage::Threads)) } else { seen(error) }
}

/// The error in words: what we lack and what to do, or else what the system says.
pub fn words(error: &io::Error) -> String {
    seen(error).map_or_else(|| error.to_string(), |shortage| shortage.to_string())
}

/// Whether a lookup that found no such name may have failed for lack of files. The resolver reads its
/// configuration first, and says that there is no such name when it cannot.
pub fn behind_lookup() -> Option<Shortage> {
    within(JUST_NOW).or_else(|| now(LOOKUP))
}

/// Whether not even this many files can be opened now.
pub fn now(files: usize) -> Option<Shortage> {
    let opened: Result<Vec<File>, io::Error> = (0..files).map(|_| File::open("/dev/null")).collect();
    seen(&opened.err()?)
}

/// The shortage that was seen last, if that is not longer ago.
pub fn within(span: Duration) -> Option<Shortage> {
    let last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    last.filter(|(at, _)| at.elapsed() < span).map(|(_, shortage)| shortage)
}

fn remember(shortage: Shortage) -> Shortage {
    *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), shortage));
    shortage
}

/// Lets this process open as many files as it may, up to what it could ever need. The usual soft limit of
/// 1,024 is for programs that use `select`.
pub fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(FILES, |maximum| maximum.min(FILES));
    if current.is_some_and(|current| current < wanted) {
        // Refused, it stays as it is; running short is told when it happens.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_we_lack_is_a_shortage_and_says_what_to_do() {
        let error = |errno: Errno| io::Error::from(errno);
        let table = [
            (Errno::MFILE, "LimitNOFILE"),
            (Errno::NFILE, "fs.file-max"),
            (Errno::NOMEM, "mem_limit"),
            (Errno::NOBUFS, "mem_limit"),
        ];
        for (errno, advice) in table {
            let shortage = seen(&error(errno)).unwrap();
            assert!(shortage.to_string().contains(advice), "{shortage}");
            assert!(words(&error(errno)).contains(advice));
        }
        assert!(seen_starting(&error(Errno::AGAIN)).unwrap().to_string().contains("pids_limit"));
        for errno in [Errno::AGAIN, Errno::CONNREFUSED, Errno::NOENT, Errno::ACCESS, Errno::TIMEDOUT] {
            assert_eq!(seen(&error(errno)), None);
        }
        assert_eq!(seen(&io::Error::other("something")), None);
        assert!(within(Duration::from_mins(1)).is_some());
    }
}
