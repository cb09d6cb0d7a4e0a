//! One writer per state file: exclusive locks on `<file>.lock` and on the file itself, held while the
//! program lives.
//!
//! The kernel releases them when the process ends, however it ends. The lock file is there before the state file
//! and stays when that is replaced; but a file has more names than one (hard links), and a lock file can be
//! deleted. The lock on the file's own inode sees through both. It is a `flock`, which does not meet `SQLite`'s
//! byte-range locks, except on a network file system that makes one of the other: there it is not taken.
//! The lock file also holds the number of the last commit, written after the commit without waiting for the disk: a state file
//! that knows fewer commits at the next start has lost some, and that is told (F81). It is never
//! read to decide anything else, and never removed, because removing it would let two in.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// The lock, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
    tick: i64,
    /// The state file itself, with what tells that it is still the same. Never closed while `SQLite` has that file
    /// open: closing any descriptor of a file lets go of all byte-range locks that the process has on it.
    claimed: Option<(File, (u64, u64))>,
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
            Ok(()) => Ok(Lock { file, tick, claimed: None }),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(Refused::Held(holder.map_or("a process".to_string(), |pid| format!("process {pid}"))))
            }
            Err(error) => Err(Refused::Unusable(error.into())),
        }
    }

    /// Takes the lock on what `path` names now, unless it is held already. To be called before `SQLite` opens the
    /// file. One that cannot be opened, or is not there, is not locked.
    pub fn claim(&mut self, path: &Path) -> Result<(), Refused> {
        // By its name, without opening it: to close it again would cost `SQLite` its locks.
        let identity = |found: &std::fs::Metadata| (found.dev(), found.ino());
        let is_held = |identity| self.claimed.as_ref().is_some_and(|(_, held)| *held == identity);
        match std::fs::metadata(path) {
            Ok(found) if found.is_file() && !is_held(identity(&found)) => {}
            _ => return Ok(()),
        }
        // Reading is enough for a lock; a pipe would wait for its other end.
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let Ok(file) = OpenOptions::new().read(true).custom_flags(flags).open(path) else { return Ok(()) };
        let Ok(found) = file.metadata() else { return Ok(()) };
        let identity = identity(&found);
        let locked = if is_remote(&file) { Ok(()) } else { flock(&file, FlockOperation::NonBlockingLockExclusive) };
        if locked == Err(rustix::io::Errno::WOULDBLOCK) {
            let holder = holder(identity).map_or("a process".to_string(), |pid| format!("process {pid}"));
            return Err(Refused::Held(format!("{holder}, under another name of the file or without its lock file")));
        }
        // Also where the file system has no such locks: the lock file has to do then.
        self.claimed = Some((file, identity));
        Ok(())
    }

    /// The number of the last commit, as far as the lock file knows.
    pub fn tick(&self) -> i64 {
        self.tick
    }

    /// Writes the number of the last commit. Failing does no harm.
    pub fn mark(&mut self, tick: i64) {
        self.tick = tick;
        let _ = self.file.write_all_at(format!("{:>10} {tick:>20}\n", std::process::id()).as_bytes(), 0);
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a child process between fork and exec shares the open file, and with it the lock.
        if let Some((file, _)) = &self.claimed {
            let _ = flock(file, FlockOperation::Unlock);
        }
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// True on file systems that make a `flock` a byte-range lock of the whole file, which would lock `SQLite` out.
fn is_remote(file: &File) -> bool {
    // NFS, SMB, SMB 2, CIFS, Ceph, 9P, AFS, and FUSE, behind which may be any of them.
    const REMOTE: [u32; 8] =
        [0x6969, 0x517b, 0xfe53_4d42, 0xff53_4d42, 0x00c3_6400, 0x0102_1997, 0x5346_414f, 0x6573_5546];
    rustix::fs::fstatfs(file).is_ok_and(|found| u32::try_from(found.f_type).is_ok_and(|kind| REMOTE.contains(&kind)))
}

/// Who has a `flock` on this file, as the kernel lists it.
fn holder((device, inode): (u64, u64)) -> Option<u32> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let wanted = format!("{major:02x}:{minor:02x}:{inode}");
    let list = std::fs::read_to_string("/proc/locks").ok()?;
    // `1: FLOCK  ADVISORY  WRITE 812 00:2a:4711 0 EOF`
    list.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (kind, holder, of) = (words.nth(1)?, words.nth(2)?, words.next()?);
        (kind == "FLOCK" && of == wanted).then(|| holder.parse().ok())?
    })
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
    fn the_file_itself_is_locked_under_every_name_and_the_holder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one.db"), dir.path().join("two.db"));
        std::fs::write(&one, "").unwrap();
        std::fs::hard_link(&one, &two).unwrap();
        let mut first = Lock::take(&one).unwrap();
        first.claim(&one).unwrap();
        first.claim(&two).unwrap();
        let mut second = Lock::take(&two).unwrap();
        match second.claim(&two) {
            Err(Refused::Held(holder)) => {
                assert!(holder.starts_with(&format!("process {},", std::process::id())), "{holder}");
            }
            other => panic!("{other:?}"),
        }
        // Replaced: another file, which nobody has.
        std::fs::remove_file(&two).unwrap();
        std::fs::write(&two, "").unwrap();
        second.claim(&two).unwrap();
        assert!(matches!(first.claim(&two), Err(Refused::Held(_))));
        drop(first);
        second.claim(&one).unwrap();
        second.claim(&dir.path().join("nowhere")).unwrap();
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
