//! The commands that change what is told: each is carried out within a pass, and refused with what to do instead.

use std::fmt::Write as _;

use super::{DIGEST, Hush};
use crate::command::{Reply, Request};
use crate::core::signal::{SignalKey, State};
use crate::core::silence::{Silence, TEXT};
use crate::core::time::{Now, Wall};
use crate::core::watch::{Outcome, Refusal, Watch};
use crate::gather::Gather;

/// Signals that a new silence covers are named in its reply up to this many.
const NAMED: usize = 100;
/// Bytes of a signal's key at most; a longer one names none, and is not repeated in a reply.
const LONGEST: usize = 1_000;

impl Hush {
    pub(super) fn carry_out(
        &mut self,
        request: &Request,
        watch: &mut Watch,
        outcome: &mut Outcome,
        gather: &Gather,
        now: Now,
    ) -> Reply {
        match request {
            Request::Silences => Reply { mutes: self.mutes(now.wall), ..Reply::done("") },
            Request::Unsilence { pattern } => self.unsilence(pattern, now.wall),
            Request::Silence { pattern, until, reason } => {
                let (pattern, reason) = (pattern.clone(), reason.clone());
                self.silence(Silence { pattern, since: now.wall, until: *until, reason }, watch, now.wall)
            }
            Request::Forget { subject } => self.forget(&SignalKey::new(subject), watch, outcome, gather, now),
        }
    }

    fn unsilence(&mut self, pattern: &str, now: Wall) -> Reply {
        if pattern.len() > LONGEST {
            return Reply::refused(format!("no silence has a glob of more than {TEXT} characters"));
        }
        let planned = self.cover(&SignalKey::new(pattern), now).filter(|cover| cover.is_planned);
        match self.silences.remove(pattern) {
            0 if planned.is_some() => {
                let what = "is silenced by a [[maintenance]] window; change the window and send SIGHUP to reload";
                Reply::refused(format!("{pattern} {what}"))
            }
            0 => Reply::refused(format!("no silence covers {pattern}; `watchdog silences` lists those in force")),
            count => {
                self.note(now, "unsilenced", pattern, "by a command".to_string());
                self.ended.push(pattern.to_string());
                Reply::done(if count == 1 { "1 silence ended".into() } else { format!("{count} silences ended") })
            }
        }
    }

    fn silence(&mut self, silence: Silence, watch: &Watch, now: Wall) -> Reply {
        let pattern = silence.pattern.clone();
        if pattern.len() > LONGEST {
            return Reply::refused(format!("a silence needs a signal's key or a glob of at most {TEXT} characters"));
        }
        let is_name = !pattern.contains(['*', '?']);
        if is_name && watch.looked(&SignalKey::new(&pattern)).is_none() {
            return Reply::refused(format!(
                "no signal is called {pattern}; `watchdog status --all` lists them; a glob such as \"{}*\" also covers those to come",
                pattern.split_once('/').map_or("container/", |(kind, _)| kind)
            ));
        }
        let because = if silence.reason.is_empty() { String::new() } else { format!(": {}", silence.reason) };
        let until = silence.until;
        if let Err(why) = self.silences.add(silence, now) {
            return Reply::refused(why);
        }
        self.note(now, "silenced", &pattern, format!("until {until}{because}"));
        let firing = watch.tracked().filter(|tracked| tracked.is_alerted());
        let covered = firing.map(|tracked| &tracked.spec.key);
        let covered = covered.filter(|key| self.silences.covering(key, now).is_some() && key.as_str() != DIGEST);
        let mut covered: Vec<String> = covered.map(ToString::to_string).collect();
        let more = covered.len().saturating_sub(NAMED);
        covered.truncate(NAMED);
        covered.extend((more > 0).then(|| format!("and {more} more")));
        Reply { covered, ..Reply::done("") }
    }

    fn forget(
        &mut self,
        key: &SignalKey,
        watch: &mut Watch,
        outcome: &mut Outcome,
        gather: &Gather,
        now: Now,
    ) -> Reply {
        if key.as_str().len() > LONGEST {
            return Reply::refused(format!("no signal has a name of more than {LONGEST} bytes"));
        }
        let forgotten = match watch.forget(key, now) {
            Ok(forgotten) => forgotten,
            Err(Refusal::NoSuchSignal) => {
                let what = "`watchdog status --all` lists them; a silence ends with `watchdog unsilence`";
                return Reply::refused(format!("no signal is called {key}; {what}"));
            }
            Err(Refusal::Own) => {
                let what = "is the watchdog's own check and stays as long as what it checks is configured";
                return Reply::refused(format!("{key} {what}"));
            }
            Err(Refusal::Reported(state)) => {
                return Reply::refused(format!(
                    "{key} is still reported ({state}) and would come back at once; {}",
                    instead(key),
                    state = state_words(state)
                ));
            }
        };
        gather.forget(&forgotten.source, key);
        let had_silence = self.silences.forget(key);
        let closed: Vec<String> = forgotten.edges.iter().map(|edge| edge.incident.to_string()).collect();
        outcome.edges.extend(forgotten.edges);
        outcome.changed.retain(|changed| changed != key);
        outcome.removed.push(key.clone());
        let mut text = format!("{key} is forgotten");
        if !closed.is_empty() {
            let _ = write!(text, "; {} is closed", closed.join(" and "));
        }
        if had_silence {
            text.push_str("; its silence has ended");
        }
        self.note(now.wall, "forgotten", key.as_str(), "by a command".to_string());
        Reply::done(text)
    }
}

fn state_words(state: State) -> &'static str {
    match state {
        State::Ok => "OK",
        other => other.as_str(),
    }
}

/// What ends the watch over something that is still reported.
fn instead(key: &SignalKey) -> &'static str {
    let kind = key.as_str().split_once('/').map_or("", |(kind, _)| kind);
    match kind {
        "container" => {
            "remove the container (docker rm), take its name out of docker.containers, or exclude it (docker.exclude, label \
             watchdog.enable=false), then reload"
        }
        "probe" => "take it out of [[probe]] or deps and reload",
        "node" => "stop its beacon, or take its [[node]] out of the configuration and reload",
        "app" => "take its [[app.rule]] out, or what the application reports, and reload",
        "host" => "unmount it, or change host.disk_paths or host.disk_exclude, and reload",
        _ => "take it out of the configuration and reload",
    }
}
