//! The dead-man's switch: a URL that is fetched while all is well with the watchdog itself.
//!
//! Only the loop calls [`Deadman::beat`], after a full pass, so that a loop that hangs stops the
//! beats; and it does not beat while an alert has been undelivered for long (F60). The request runs in
//! a thread of its own and never holds the loop. A receiver that answers 200 and did not take the beat is known by its
//! words. The URL is a secret and is never shown.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::client::http::{Http, Options};
use crate::client::proxy::Proxies;
use crate::client::trust::Trust;
use crate::config::value::{MASK, Secret};
use crate::config::{Config, ConfigError, form};
use crate::core::message;
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

/// What is fetched, and what counts as an answer.
pub struct Beat {
    /// The URL; a secret.
    pub url: Secret,
    /// Text that the body of the answer must contain.
    pub expect: Option<String>,
    /// How it is fetched.
    pub options: Options,
}

impl Beat {
    /// The beat to `url` as the top-level settings say. Errors: a file or a proxy that cannot be used.
    pub fn of(config: &Config, url: Secret) -> Result<Beat, ConfigError> {
        let root = config.root();
        let trust = Trust::by(root.heartbeat_ca_file.as_deref(), "heartbeat_ca_file")
            .map_err(|what| config.error("heartbeat_ca_file", what))?;
        let (proxy, file) = (root.heartbeat_proxy.as_ref(), root.heartbeat_proxy_file.as_deref());
        let proxies = Proxies::of(config, "heartbeat_proxy", proxy, file)?;
        let expect = root.heartbeat_expect.clone().filter(|text| !text.is_empty());
        Ok(Beat { url, expect, options: Options { timeout: root.timeout.0, trust, proxies, ..Beat::options() } })
    }

    /// The limits of every beat.
    pub fn options() -> Options {
        Options { body_limit: 64 * 1024, redirects: 3, ..Options::default() }
    }

    fn fetch(&self, http: &Http) -> Outcome {
        let answer = http.get(self.url.expose(), &[]).map_err(|error| format!("heartbeat_url: {error}"))?;
        let words = refusal(&answer.body).map(|words| self.clean(&words));
        if answer.status >= 400 {
            let words = words.map(|words| format!(" ({words})")).unwrap_or_default();
            return Err(format!("heartbeat_url answered with status {}{words}", answer.status));
        }
        if let Some(words) = words {
            return Err(format!("heartbeat_url was refused: {words}; check that the address is still the right one"));
        }
        match &self.expect {
            Some(text) if !String::from_utf8_lossy(&answer.body).contains(text.as_str()) => {
                Err("heartbeat_url answered without what heartbeat_expect says".to_string())
            }
            _ => Ok(()),
        }
    }

    /// The receiver's words, short and without any part of the address.
    fn clean(&self, words: &str) -> String {
        let parts = self.url.expose().split(['/', '?', '&', '=', '@']).filter(|part| part.len() >= 6);
        let words = parts.fold(words.to_string(), |words, part| words.replace(part, MASK));
        message::clean(&words, 100)
    }
}

/// The words of a receiver that did not take the beat, whatever its status says; `None` when nothing speaks for that.
///
/// Healthchecks answers 200 `OK (not found)` and `OK (rate limited)`; Uptime Kuma, and others like it, a JSON object
/// with `"ok": false` and a `msg`.
fn refusal(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body.get(..4_096).unwrap_or(body));
    let text = text.trim();
    if let Some(why) = text.strip_prefix("OK (").and_then(|rest| rest.strip_suffix(')')) {
        return Some(why.to_string());
    }
    let object: serde_json::Value = serde_json::from_str(text).ok()?;
    let is_false = |name: &str| object.get(name) == Some(&serde_json::Value::Bool(false));
    if !is_false("ok") && !is_false("success") {
        return None;
    }
    let why = ["msg", "message", "error"].iter().find_map(|name| object.get(*name)?.as_str());
    Some(why.unwrap_or("it says that it did not take the beat").to_string())
}

impl Deadman {
    /// A switch that sends this beat.
    pub fn start(beat: Beat) -> std::io::Result<Deadman> {
        let (beats, due) = mpsc::sync_channel::<()>(1);
        let outcome: Arc<Mutex<Option<Outcome>>> = Arc::default();
        let said = Arc::clone(&outcome);
        let (alive, ended) = mpsc::channel();
        thread::Builder::new().name("deadman".to_string()).spawn(move || {
            let _alive: mpsc::Sender<()> = alive;
            let http = Http::new(beat.options.clone());
            while due.recv().is_ok() {
                let outcome = beat.fetch(&http);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receivers_that_answer_well_and_mean_no_are_known_by_their_words() {
        let table = [
            ("OK (not found)", Some("not found")),
            ("OK (rate limited)\n", Some("rate limited")),
            (r#"{"ok":false,"msg":"Monitor not found or not active."}"#, Some("Monitor not found or not active.")),
            (r#"{"success": false, "error": "unknown token"}"#, Some("unknown token")),
            (r#"{"ok":false}"#, Some("it says that it did not take the beat")),
            (r#"{"ok":true,"msg":"OK"}"#, None),
            ("OK", None),
            ("", None),
            ("Got it, thanks!", None),
            ("null", None),
            ("[false]", None),
            ("<html>OK (not found)</html>", None),
        ];
        for (body, words) in table {
            assert_eq!(refusal(body.as_bytes()).as_deref(), words, "{body}");
        }
        assert_eq!(refusal(&vec![0xff; 70_000]), None);
    }
}
