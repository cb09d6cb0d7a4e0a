//! The end of the program: one deadline that all its parts share, and nothing on this thread that waits for a disk.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::{Program, note};
use crate::client::children;
use crate::deliver;

/// A disk that takes longer than this for one line is not asked for more at the end: a thread that waits for a
/// disk holds the whole process, even when that is killed.
const PROMPT: Duration = Duration::from_secs(1);
/// With less time left than this at the end, the last pass was held up, which only a disk can do.
const UNHURRIED: Duration = Duration::from_secs(3);
/// How long killing what checks have started may take at the end; it is usually a few milliseconds.
const KILL: Duration = Duration::from_secs(1);

impl Program {
    /// Ends everything before `by`, the one deadline that all parts share: what checks have started, repairs,
    /// couriers (which deliver until then what is still undelivered), traces, server, state file. Nothing that
    /// may wait for a disk is done on this thread; what is not done by then is left, as after a kill.
    pub fn stop(self, by: Instant) {
        children::end_all(by.min(Instant::now() + KILL));
        let once = self.tick.once;
        // The loop comes late when its last pass waited for the disk.
        let began = Instant::now();
        let is_late = by.saturating_duration_since(began) < UNHURRIED;
        let noted = (!once && !is_late).then(|| {
            let (store, now) = (self.tick.store.clone(), self.clock.now());
            aside(move || {
                note(&store, now, "stopped", "asked to stop");
                began.elapsed()
            })
        });
        let mut tick = self.tick;
        let couriers = std::mem::take(&mut tick.couriers);
        // Everybody is asked before anybody is waited for.
        couriers.iter().for_each(|courier| courier.ask_to_stop(by));
        if let Some(repairs) = tick.repairs.take() {
            repairs.stop(by);
        }
        for late in deliver::stop_all(couriers, by) {
            tracing::warn!("{late} did not answer in time; what it has not taken stays in the outbox");
        }
        if let Some(deadman) = tick.deadman.take().filter(|_| once) {
            deadman.finish(self.root.timeout.0);
        }
        if let Some(server) = self.server {
            server.stop(by);
        }
        if once {
            return;
        }
        let is_prompt = noted.and_then(|noted| wait_for(&noted, by)).is_some_and(|took| took < PROMPT);
        if is_prompt {
            // The last to let go of the state file tidies it up, which waits for the disk.
            wait_for(&aside(move || drop(tick)), by);
        } else {
            // What is not tidied up now is at the next start.
            std::mem::forget(tick);
        }
    }
}

/// Does `work` in a thread of its own. What it gives comes out of the channel; nothing ever does when no thread
/// was to be had.
fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> mpsc::Receiver<T> {
    let (done, waiting) = mpsc::sync_channel(1);
    // Nobody may be waiting any more.
    let run = move || drop(done.try_send(work()));
    let _ = thread::Builder::new().name("end".to_string()).spawn(run);
    waiting
}

/// What that work gives, unless it is not done by then.
fn wait_for<T>(work: &mpsc::Receiver<T>, by: Instant) -> Option<T> {
    work.recv_timeout(by.saturating_duration_since(Instant::now())).ok()
}
