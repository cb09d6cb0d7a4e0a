//! The only reader of time. Everything else takes a [`Now`] or an instant as an argument.
//!
//! A [`Clock`] is either the machine's own clocks or one that a test moves by hand; the two are
//! one type, so that no test switch hides in the paths that matter.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use crate::core::time::{Mono, Now, Wall};

/// Reads the clocks.
#[derive(Clone, Default)]
pub struct Clock {
    by_hand: Option<Arc<Mutex<Now>>>,
}

impl Clock {
    /// The machine's clocks.
    pub fn system() -> Clock {
        Clock::default()
    }

    /// A clock that stands at `now` until it is moved, and the handle that moves it.
    pub fn by_hand(now: Now) -> (Clock, Arc<Mutex<Now>>) {
        let hand = Arc::new(Mutex::new(now));
        (Clock { by_hand: Some(Arc::clone(&hand)) }, hand)
    }

    /// Reads all clocks together.
    pub fn now(&self) -> Now {
        match &self.by_hand {
            Some(hand) => *hand.lock().unwrap_or_else(PoisonError::into_inner),
            None => Now { wall: wall(), mono: read(ClockId::Boottime), awake: read(ClockId::Monotonic) },
        }
    }
}

fn wall() -> Wall {
    // Before 1970 only on a machine whose clock was never set; zero is as good as any answer there.
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Wall(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

/// True on a machine whose clock says a time before 1970: it was never set. Libraries that reckon in unix time
/// cannot be asked for anything then, and some end the program.
pub fn was_never_set() -> bool {
    SystemTime::now() < SystemTime::UNIX_EPOCH
}

fn read(id: ClockId) -> Mono {
    let time = clock_gettime(id);
    Mono(time.tv_sec.saturating_mul(1_000).saturating_add(time.tv_nsec / 1_000_000))
}

/// The kernel's name for this boot, or an empty text where it cannot be read.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_string()).unwrap_or_default()
}
