//! Delivery: from the outbox to the channels, one courier thread per channel.
//!
//! [`Courier`] holds the rules and is moved step by step, by a test with a clock in its hand or by
//! the thread that [`spawn`] starts. The tick only rings the bell and reads [`ChannelStatus`]: it
//! never waits for a channel, and no channel waits for another. What is not acknowledged stays in
//! the store, so a courier may end at any point (`adr/0005-notifications-fail-open.md`).

mod courier;
mod hold;
mod status;

use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::notifier::Notifier;
use crate::store::Store;

pub use self::courier::{BACKOFF_LIMIT, BATCH, Courier, Manners, REFUSED_PAUSE, REFUSED_WAIT, Rest};
pub use self::status::{ChannelState, ChannelStatus, Counts, Standing};

/// A courier at work in its own thread. Dropping it ends the thread without a last attempt.
pub struct Delivery {
    status: Arc<ChannelStatus>,
    store: Store,
    bell: Arc<Bell>,
    ended: mpsc::Receiver<()>,
}

#[derive(Default)]
struct Bell {
    asked: Mutex<Asked>,
    changed: Condvar,
}

#[derive(Default)]
struct Asked {
    rung: bool,
    /// The notifier of a configuration that was read again, and how to speak.
    equip: Option<(Box<dyn Notifier>, Manners)>,
    stop_by: Option<Instant>,
}

/// Starts the courier's thread. It looks at its outbox at once, and then whenever it is rung.
///
/// # Errors
/// When the system gives no thread.
pub fn spawn(mut courier: Courier, clock: Clock) -> std::io::Result<Delivery> {
    let (status, store) = (courier.status(), courier.store());
    let bell = Arc::new(Bell::default());
    let (end, ended) = mpsc::sync_channel(1);
    let rung = Arc::clone(&bell);
    thread::Builder::new().name(format!("deliver-{}", status.name())).spawn(move || {
        let stop_by = loop {
            let rest = courier.step(clock.now());
            let stop_by = rung.wait(rest);
            if let Some((notifier, manners)) = rung.equipment() {
                courier.equip(notifier, manners);
            }
            if let Some(stop_by) = stop_by {
                break stop_by;
            }
        };
        drain(&mut courier, &clock, stop_by);
        // Nobody may be waiting for the end.
        let _ = end.try_send(());
    })?;
    Ok(Delivery { status, store, bell, ended })
}

/// Tries to deliver what is pending until nothing is, the channel wants more patience, or time is up.
fn drain(courier: &mut Courier, clock: &Clock, stop_by: Instant) {
    courier.hurry();
    while Instant::now() < stop_by {
        match courier.step(clock.now()) {
            Rest::For(span) if Instant::now() + span < stop_by => thread::sleep(span),
            Rest::For(_) | Rest::UntilRung => return,
        }
    }
}

impl Delivery {
    /// Says that there is something to deliver. Never waits for the channel.
    pub fn ring(&self) {
        if let Ok(backlog) = self.store.backlog(self.status.name()) {
            self.status.set_backlog(backlog);
        }
        self.bell.ask(|asked| asked.rung = true);
    }

    /// Goes on with this notifier, from the next attempt on. Never waits for the channel; what the courier must
    /// keep to (the channel's pace, waits, a message that was begun) it keeps, see [`Courier::equip`].
    pub fn equip(&self, notifier: Box<dyn Notifier>, manners: impl Into<Manners>) {
        let manners = manners.into();
        self.bell.ask(|asked| {
            asked.equip = Some((notifier, manners));
            asked.rung = true;
        });
    }

    /// How the channel stands; may be kept and read at any time.
    pub fn status(&self) -> &Arc<ChannelStatus> {
        &self.status
    }

    /// Ends the thread after a last attempt to deliver what is pending, within `limit`. False when
    /// a call was still under way then; it is left behind, and what it carried stays in the store.
    pub fn stop(self, limit: Duration) -> bool {
        stop_all(vec![self], Instant::now() + limit).is_empty()
    }

    /// Asks for the end without waiting for it, see [`Delivery::stop`].
    pub fn ask_to_stop(&self, stop_by: Instant) {
        self.bell.ask(|asked| asked.stop_by = Some(stop_by));
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.bell.ask(|asked| {
            asked.stop_by.get_or_insert_with(Instant::now);
        });
    }
}

/// Stops all of them at once before `stop_by`, see [`Delivery::stop`]. Returns the names of those that were late.
pub fn stop_all(deliveries: Vec<Delivery>, stop_by: Instant) -> Vec<String> {
    for delivery in &deliveries {
        delivery.ask_to_stop(stop_by);
    }
    let mut late = Vec::new();
    for delivery in &deliveries {
        let left = stop_by.saturating_duration_since(Instant::now());
        // A disconnected channel means that the thread is gone, which is an end too.
        if delivery.ended.recv_timeout(left) == Err(mpsc::RecvTimeoutError::Timeout) {
            late.push(delivery.status.name().to_string());
        }
    }
    late
}

impl Bell {
    fn ask(&self, what: impl FnOnce(&mut Asked)) {
        what(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    fn equipment(&self) -> Option<(Box<dyn Notifier>, Manners)> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).equip.take()
    }

    /// Waits until the rest is over or somebody asks for something; the instant to stop by, if asked.
    fn wait(&self, rest: Rest) -> Option<Instant> {
        let until = match rest {
            Rest::For(span) => Instant::now().checked_add(span),
            Rest::UntilRung => None,
        };
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        while !asked.rung && asked.stop_by.is_none() {
            asked = match until {
                None => self.changed.wait(asked).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    self.changed.wait_timeout(asked, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        asked.rung = false;
        asked.stop_by
    }
}
