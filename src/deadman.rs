//! The dead-man's switch: a URL that is fetched while all is well with the watchdog itself.
//!
//! Only the loop calls [`Deadman::beat`], after a full pass, so that a loop that hangs stops the
//! beats; and it does not beat while an alert has been undelivered for long (F60). The request runs in
//! a thread of its own and never holds the loop. The URL is a secret and is never shown.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::client::http::{Http, Options};
use crate::config::value::Secret;
use crate::config::{Config, ConfigError, form};
use crate::core::time::Mono;

/// Least time between two beats.
const PAUSE: Duration = Duration::from_mins(1);
/// An alert undelivered for this long stops the beats.
pub const UNDELIVERED: Duration = Duration::from_mins(10);

/// The URL of the dead-man's switch, when one is set.
///
/// # Errors
/// One that cannot be fetched.
pub fn url(config: &Config) -> Result<Option<Secret>, ConfigError> {
    let root = config.root();
    let url = config.secret("heartbeat_url", root.heartbeat_url.as_ref(), root.heartbeat_url_file.as_deref())?;
    let Some(url) = url.map(|url| Secret::new(url.expose().trim())) else { return Ok(None) };
    let from_file = config.root().heartbeat_url.as_ref().is_none_or(Secret::is_empty);
    let key = if from_file { "heartbeat_url_file" } else { "heartbeat_url" };
    form::url(url.expose()).map_err(|what| config.error(key, what))?;
    Ok(Some(url))
}

/// Beats while the loop is alive.
pub struct Deadman {
    beats: SyncSender<()>,
    last: Option<Mono>,
    outcome: Arc<Mutex<Option<Outcome>>>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

/// How a beat ended; the words never hold the URL.
pub type Outcome = Result<(), String>;

impl Deadman {
    /// A switch that fetches `url`, each time within `timeout`.
    pub fn start(url: Secret, timeout: Duration) -> std::io::Result<Deadman> {
        let (beats, due) = mpsc::sync_channel::<()>(1);
        let outcome: Arc<Mutex<Option<Outcome>>> = Arc::default();
        let said = Arc::clone(&outcome);
        let (alive, ended) = mpsc::channel();
        thread::Builder::new().name("deadman".to_string()).spawn(move || {
            let _alive: mpsc::Sender<()> = alive;
            let http = Http::new(Options { timeout, body_limit: 64 * 1024, redirects: 3, ..Options::default() });
            while due.recv().is_ok() {
                let outcome = match http.get(url.expose(), &[]) {
                    Ok(answer) if answer.status < 400 => Ok(()),
                    Ok(answer) => Err(format!("heartbeat_url answered with status {}", answer.status)),
                    Err(e) => Err(format!("heartbeat_url: {e}")),
                };
                let mut last = said.lock().unwrap_or_else(PoisonError::into_inner);
                if let Err(what) = &outcome
                    && last.as_ref() != Some(&outcome)
                {
                    tracing::warn!("{what}");
                }
                *last = Some(outcome);
            }
        })?;
        Ok(Deadman { beats, last: None, outcome, ended })
    }

    /// Takes the place of `old` (the configuration was read again): its last beat and how it ended hold on.
    #[must_use]
    pub fn after(self, old: &Deadman) -> Deadman {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = old.outcome();
        Deadman { last: old.last, ..self }
    }

    /// Beats, unless the last beat was within a minute or something has been undelivered for long.
    pub fn beat(&mut self, now: Mono, oldest_undelivered: Duration) {
        if oldest_undelivered > UNDELIVERED || self.last.is_some_and(|last| now.since(last) < PAUSE && now >= last) {
            return;
        }
        self.last = Some(now);
        // A beat that finds the one before still under way is not needed.
        let _ = self.beats.try_send(());
    }

    /// Waits until the beat under way has been answered, or for `limit`: for a single pass, which
    /// ends before its request would.
    pub fn finish(self, limit: Duration) {
        drop(self.beats);
        let _ = self.ended.recv_timeout(limit);
    }

    /// How the last beat ended; `None` before the first has.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
