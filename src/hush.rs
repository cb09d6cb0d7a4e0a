//! Silences in the running program: kept in the state file, changed by commands, applied to each pass.
//!
//! Carries out what came in over the command socket ([`crate::command`]) and remembers it before it is answered; a
//! pass hands its edges through [`Hush::sift`]. What a silence is and what it keeps back is `core/silence.rs`'s to
//! decide (`adr/0033-silences-and-the-command-socket.md`).

use crate::command::{Desk, Reply, Request, Waiting};
use crate::core::edge::Edge;
use crate::core::signal::SignalKey;
use crate::core::silence::{Silence, Silences};
use crate::core::time::{Now, Wall};
use crate::core::watch::Watch;
use crate::store::{HistoryEntry, Store};

/// Under this the store remembers them.
const PLACE: (&str, &str) = ("silences", "in force");

/// The silences and the desk at which they are changed.
#[derive(Default)]
pub struct Hush {
    silences: Silences,
    /// What was remembered last.
    kept: Silences,
    /// Where commands wait; none without a state file and in single passes.
    pub desk: Option<Desk>,
    lines: Vec<HistoryEntry>,
}

/// A command that was carried out and waits for the commit to be answered.
pub type Answered = (Waiting, Reply);

impl Hush {
    /// What an earlier run left in force.
    pub fn restored(store: &Store) -> Hush {
        let kept = store.remembered(PLACE.0).unwrap_or_default();
        let silences: Silences = match kept.get(PLACE.1).map(|text| serde_json::from_str(text)) {
            None => Silences::default(),
            Some(Ok(silences)) => silences,
            Some(Err(error)) => {
                tracing::warn!("state: the silences cannot be read, so nothing is silenced: {error}");
                Silences::default()
            }
        };
        Hush { kept: silences.clone(), silences, ..Hush::default() }
    }

    /// Carries out what waits at the desk. The answers are given after the commit.
    pub fn obey(&mut self, watch: &Watch, now: Now) -> Vec<Answered> {
        for ended in self.silences.expire(now.wall) {
            self.note(now.wall, "unsilenced", &ended.pattern, "the silence has ended".to_string());
        }
        let waiting = self.desk.as_ref().map(Desk::take).unwrap_or_default();
        let answer = |waiting: Waiting| {
            let reply = self.carry_out(&waiting.request, watch, now.wall);
            (waiting, reply)
        };
        waiting.into_iter().map(answer).collect()
    }

    /// Takes out of a pass what is not told, and adds what is due because a silence has ended. Gives the lines that
    /// the audit log gets for it, those of commands among them.
    pub fn sift(&mut self, edges: &mut Vec<Edge>, watch: &Watch, now: Now) -> Vec<HistoryEntry> {
        if !self.silences.is_empty() {
            let kept_back = self.silences.sift(edges, now.wall, |key| watch.open_edge(key, now));
            for edge in kept_back {
                self.lines.push(HistoryEntry {
                    at: now.wall,
                    kind: "silenced".to_string(),
                    subject: edge.key.to_string(),
                    incident: Some(edge.incident),
                    severity: Some(edge.severity),
                    text: format!("{} not told: {}", edge.kind.as_str(), edge.fact),
                });
            }
        }
        std::mem::take(&mut self.lines)
    }

    /// Remembers what changed. Before the commit of the pass: an alert that is kept back must stay owed after a crash.
    pub fn keep(&mut self, store: &Store) {
        if self.silences == self.kept {
            return;
        }
        let text = serde_json::to_string(&self.silences).unwrap_or_default();
        match store.remember(PLACE.0, PLACE.1, &text) {
            Ok(()) => self.kept = self.silences.clone(),
            Err(error) => tracing::error!("state: the silences were not kept: {error}"),
        }
    }

    /// Those in force.
    pub fn in_force(&self) -> &[Silence] {
        &self.silences.silences
    }

    fn carry_out(&mut self, request: &Request, watch: &Watch, now: Wall) -> Reply {
        match request {
            Request::Silences => Reply { silences: self.silences.silences.clone(), ..Reply::done("") },
            Request::Unsilence { pattern } => match self.silences.remove(pattern) {
                0 => Reply::refused(format!("no silence covers {pattern}; `watchdog silences` lists those in force")),
                count => {
                    self.note(now, "unsilenced", pattern, "by a command".to_string());
                    Reply::done(if count == 1 {
                        "1 silence ended".to_string()
                    } else {
                        format!("{count} silences ended")
                    })
                }
            },
            Request::Silence { pattern, until, reason } => {
                let is_name = !pattern.contains(['*', '?']);
                if is_name && watch.looked(&SignalKey::new(pattern)).is_none() {
                    return Reply::refused(format!(
                        "there is no signal {pattern}; `watchdog status` lists them; a glob such as \"{}*\" also covers those to come",
                        pattern.split_once('/').map_or("container/", |(kind, _)| kind)
                    ));
                }
                let silence = Silence { pattern: pattern.clone(), since: now, until: *until, reason: reason.clone() };
                if let Err(why) = self.silences.add(silence, now) {
                    return Reply::refused(why);
                }
                let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                self.note(now, "silenced", pattern, format!("until {until}{because}"));
                let firing = watch.tracked().filter(|tracked| tracked.is_alerted());
                let covered = firing.map(|tracked| &tracked.spec.key);
                let covered = covered.filter(|key| self.silences.covering(key, now).is_some());
                Reply { covered: covered.map(ToString::to_string).take(100).collect(), ..Reply::done("") }
            }
        }
    }

    fn note(&mut self, at: Wall, kind: &str, subject: &str, text: String) {
        let subject = subject.to_string();
        self.lines.push(HistoryEntry { at, kind: kind.to_string(), subject, incident: None, severity: None, text });
    }
}
