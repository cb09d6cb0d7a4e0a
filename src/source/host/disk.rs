//! Asks how full a disk is, without ever waiting for one that hangs.
//!
//! statvfs on a dead network mount blocks for ever and cannot be cancelled, so each path has at most
//! one thread out, and nobody waits for it longer than a moment. A path whose thread is still out is
//! not asked again until it returns; the threads are bounded by the paths.

use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, StatVfsMountFlags};

use crate::client::shortage;

/// An answer later than this means that the disk hangs.
pub const LIMIT: Duration = Duration::from_secs(5);

/// How full one disk is, in blocks of `block` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of one block.
    pub block: u64,
    /// All blocks.
    pub blocks: u64,
    /// Free blocks, with those reserved for root.
    pub free: u64,
    /// Free blocks for everybody.
    pub available: u64,
    /// All inodes; 0 where the file system has no fixed number.
    pub inodes: u64,
    /// Free inodes.
    pub inodes_free: u64,
    /// Mounted read-only here.
    pub read_only: bool,
    /// The number of the mount that answered; `None` where the kernel does not say.
    pub mount: Option<u64>,
    /// The file system's own number; 0 where it has none.
    pub fsid: u64,
}

impl Usage {
    /// Percent of the disk in use, as `df` counts: of what is used and what everybody may still use.
    pub fn percent(&self) -> Option<f64> {
        share(self.blocks.saturating_sub(self.free), self.available)
    }

    /// Percent of the inodes in use; `None` where their number is not fixed.
    pub fn inodes_percent(&self) -> Option<f64> {
        share(self.inodes.saturating_sub(self.inodes_free), self.inodes_free)
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.blocks.saturating_sub(self.free).saturating_mul(self.block)
    }

    /// Bytes that everybody may still use.
    pub fn left(&self) -> u64 {
        self.available.saturating_mul(self.block)
    }
}

fn share(used: u64, left: u64) -> Option<f64> {
    let all = used as f64 + left as f64;
    (all > 0.0).then(|| used as f64 / all * 100.0)
}

/// The call that says how full a disk is.
pub type Statvfs = Arc<dyn Fn(&Path) -> io::Result<Usage> + Send + Sync>;

/// The kernel's statvfs, and which mount answered it. Both are asked of the same open place, so that no mount in
/// between can make them speak of different things.
pub fn statvfs(path: &Path) -> io::Result<Usage> {
    // This mounts what is mounted on demand; to open the place alone would not.
    let found = rustix::fs::statvfs(path)?;
    let place = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    // Some kernels that only look like Linux do not take a place that is open without rights.
    let found = rustix::fs::fstatvfs(&place).unwrap_or(found);
    let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", place.as_raw_fd())).unwrap_or_default();
    let mount = about.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    Ok(Usage {
        mount,
        fsid: found.f_fsid,
        block: found.f_frsize,
        blocks: found.f_blocks,
        free: found.f_bfree,
        available: found.f_bavail,
        inodes: found.f_files,
        inodes_free: found.f_ffree,
        read_only: found.f_flag.contains(StatVfsMountFlags::RDONLY),
    })
}

/// What came of asking.
#[derive(Debug)]
pub enum Asked {
    /// The disk answered.
    Usage(Usage),
    /// It could not be asked; the reason in words.
    Failed(io::ErrorKind, String),
    /// No answer yet, but not for long enough to call it hanging.
    Waiting,
    /// No answer within [`LIMIT`].
    Hangs,
}

/// One path that is watched.
pub struct Disk {
    place: PathBuf,
    out: Option<(Instant, Receiver<io::Result<Usage>>)>,
}

impl Disk {
    /// Watches what is at `place`.
    pub fn new(place: PathBuf) -> Disk {
        Disk { place, out: None }
    }

    /// Where it is asked.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// It is asked at this place from the next question on.
    pub fn move_to(&mut self, place: PathBuf) {
        self.place = place;
    }

    /// Sends the question out, unless one is out already.
    pub fn ask(&mut self, call: &Statvfs) {
        if self.out.is_some() {
            return;
        }
        let (answer, answered) = sync_channel(1);
        let (call, place) = (Arc::clone(call), self.place.clone());
        let spawned = thread::Builder::new().name("statvfs".to_string()).stack_size(64 * 1024).spawn(move || {
            // Nobody listens any more when the program ends meanwhile.
            let _ = answer.send(call(&place));
        });
        match spawned {
            Ok(_) => self.out = Some((Instant::now(), answered)),
            Err(error) => {
                shortage::seen_starting(&error);
            }
        }
    }

    /// Takes the answer, waiting for it until `deadline` at most, and not at all for a disk that hangs.
    pub fn take(&mut self, deadline: Instant) -> Asked {
        let Some((since, answered)) = &self.out else {
            return Asked::Failed(
                io::ErrorKind::Other,
                "no thread could be started to ask for it, see watchdog/limits".to_string(),
            );
        };
        let hangs = since.elapsed() >= LIMIT;
        let wait = if hangs { Duration::ZERO } else { deadline.saturating_duration_since(Instant::now()) };
        let answer = match answered.recv_timeout(wait) {
            Ok(Ok(usage)) => Asked::Usage(usage),
            Ok(Err(error)) => Asked::Failed(error.kind(), shortage::words(&error)),
            Err(RecvTimeoutError::Disconnected) => {
                Asked::Failed(io::ErrorKind::Other, "the question was lost".to_string())
            }
            Err(RecvTimeoutError::Timeout) => {
                return if since.elapsed() >= LIMIT { Asked::Hangs } else { Asked::Waiting };
            }
        };
        self.out = None;
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USAGE: Usage = Usage {
        block: 4096,
        blocks: 1000,
        free: 300,
        available: 250,
        inodes: 0,
        inodes_free: 0,
        read_only: false,
        mount: None,
        fsid: 0,
    };

    #[test]
    fn percent_is_what_df_says() {
        // 700 used, 250 left, 50 kept for root: 700 / 950.
        assert!((USAGE.percent().unwrap() - 73.684).abs() < 0.001);
        assert_eq!(USAGE.inodes_percent(), None);
        assert_eq!(Usage { inodes: 100, inodes_free: 25, ..USAGE }.inodes_percent(), Some(75.0));
        assert_eq!(Usage { blocks: 0, free: 0, available: 0, ..USAGE }.percent(), None);
        assert_eq!(Usage { blocks: 1, free: u64::MAX, available: u64::MAX, block: u64::MAX, ..USAGE }.left(), u64::MAX);
        let full = Usage { free: 50, available: 0, ..USAGE };
        assert_eq!(full.percent(), Some(100.0));
    }

    #[test]
    fn this_machines_root_answers() {
        let call: Statvfs = Arc::new(statvfs);
        let mut disk = Disk::new(PathBuf::from("/"));
        disk.ask(&call);
        let Asked::Usage(usage) = disk.take(Instant::now() + LIMIT) else { panic!("no answer") };
        assert!(usage.blocks > 0 && usage.percent().unwrap() <= 100.0);
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let id = format!("{} ", usage.mount.unwrap());
        assert!(mounts.lines().any(|line| line.starts_with(&id)), "{id}in {mounts}");
        let mut nowhere = Disk::new(PathBuf::from("/no/such/place"));
        nowhere.ask(&call);
        assert!(
            matches!(nowhere.take(Instant::now() + LIMIT), Asked::Failed(io::ErrorKind::NotFound, why) if why.contains("No such file"))
        );
    }
}
