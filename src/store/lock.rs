//! One writer per state file: an exclusive lock on `<file>.lock`, held while the program lives.
//!
//! The kernel releases it when the process ends, however it ends. The lock file also holds the
//! number of the last commit, written after the commit without waiting for the disk: a state file
//! that knows fewer commits at the next start has lost some, and that is told (F81). It is never
//! read to decide anything else, and never removed, because removing it would let two in.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// The lock, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
    tick: i64,
}

/// Why the lock was not taken.
#[derive(Debug)]
pub enum Refused {
    /// Another process has it; in words who.
    Held(String),
    /// The lock file cannot be used.
    Unusable(io::Error),
}

impl Lock {
    /// Takes the lock that belongs to `path`, without waiting.
    pub fn take(path: &Path) -> Result<Lock, Refused> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
            .open(super::beside(path, ".lock"))
            .map_err(Refused::Unusable)?;
        let mut text = String::new();
        // What is written inside is a courtesy; a lock file that cannot be read still locks.
        let _ = (&mut file).take(64).read_to_string(&mut text);
        let mut words = text.split_whitespace();
        let holder = words.next().and_then(|word| word.parse::<u32>().ok());
        let tick = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock { file, tick }),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(Refused::Held(holder.map_or("a process".to_string(), |pid| format!("process {pid}"))))
            }
            Err(error) => Err(Refused::Unusable(error.into())),
        }
    }

    /// The number of the last commit, as far as the lock file knows.
    pub fn tick(&self) -> i64 {
        self.tick
    }

    /// Writes the number of the last commit. Failing is no matter.
    pub fn mark(&mut self, tick: i64) {
        self.tick = tick;
        let _ = self.file.write_all_at(format!("{:>10} {tick:>20}\n", std::process::id()).as_bytes(), 0);
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a child process between fork and exec shares the open file, and with it the lock.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_and_names_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let mut first = Lock::take(&path).unwrap();
        first.mark(41);
        match Lock::take(&path) {
            Err(Refused::Held(holder)) => assert_eq!(holder, format!("process {}", std::process::id())),
            other => panic!("{other:?}"),
        }
        drop(first);
        assert_eq!(Lock::take(&path).unwrap().tick(), 41);
    }

    #[test]
    fn rubbish_in_the_lock_file_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        for rubbish in [&b"\xff\xfe\x00"[..], b"-1 -1", b"", &[b'9'; 500]] {
            std::fs::write(super::super::beside(&path, ".lock"), rubbish).unwrap();
            Lock::take(&path).unwrap().mark(7);
        }
    }
}
