//! What the program knows about itself, in words: its channels, its state file, its limits, its configuration.
//!
//! Plain functions from how a part stands to a [`Fact`]; the pass turns facts into signals like any other. Decides
//! nothing and asks nobody (`adr/0035-advice-belongs-to-the-verdict.md`).

use std::sync::Arc;
use std::time::Duration;

use crate::client::shortage::Shortage;
use crate::core::about::{About, Details};
use crate::core::recovery::facts;
use crate::core::rule::{Rule, Test};
use crate::core::signal::{Observation, Reading, Severity, SignalKey, Spec};
use crate::core::time::Mono;
use crate::deadman::{Outcome, UNDELIVERED};
use crate::deliver::{ChannelState, Standing};
use crate::notifier::Place;
use crate::store::Condition;

/// How one part of the program stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    /// The signal's key.
    pub key: String,
    /// Its title.
    pub title: String,
    /// How much it matters.
    pub severity: Severity,
    /// What a person calls it.
    pub about: About,
    /// Nothing wrong, wrong in these words, or not known yet: a restart must not look like a recovery.
    pub outcome: Option<Result<(), Wrong>>,
}

impl Fact {
    /// The signal that it is about.
    pub fn spec(&self) -> Spec {
        let rule = Rule { unknown_after: Duration::ZERO, ..Rule::at_once(Test::Verdict) };
        let spec = Spec::new(SignalKey::new(&self.key), self.title.as_str(), self.severity, rule);
        spec.about(self.about.clone())
    }

    /// What it says of that signal.
    pub fn observed(self, spec: &Arc<Spec>, at: Mono) -> Observation {
        match self.outcome {
            Some(Err((what, details))) => Observation::new(spec, at, Reading::Down, what).with(details),
            Some(Ok(())) => Observation::new(spec, at, Reading::Up, "OK"),
            None => Observation::new(spec, at, Reading::Unknown, "not tried yet"),
        }
    }
}

/// What is wrong: the fact, what happened, and what to do.
pub type Wrong = (String, Details);

fn called(name: impl Into<Arc<str>>) -> About {
    About { name: name.into(), ..About::default() }
}

/// Whether a channel takes what it should tell.
pub fn channel(standing: &Standing) -> Fact {
    let late = standing.oldest.is_some_and(|oldest| oldest > UNDELIVERED);
    let outcome = if standing.state == ChannelState::Refused || late {
        let error = standing.last_error.as_deref().unwrap_or("it does not answer");
        let (words, advice) = match &standing.last_advice {
            Some(advice) => (error.strip_suffix(&format!("; {advice}")).unwrap_or(error), advice.clone()),
            None => (error, "is its server reachable? watchdog notify test".to_string()),
        };
        let waiting = match standing.pending {
            1 => "1 message is waiting".to_string(),
            n => format!("{n} messages are waiting"),
        };
        let happened = if late { "does not deliver messages" } else { "refuses messages" };
        Some(Err((format!("{words}; {waiting}"), Details::new(happened, advice))))
    } else {
        standing.looked.then_some(Ok(()))
    };
    let name = &standing.name;
    let title = format!("channel {name}");
    Fact { key: format!("channel/{name}"), about: called(title.as_str()), title, severity: Severity::Critical, outcome }
}

/// Whether a channel's messages go where they should.
pub fn place(standing: &Standing) -> Fact {
    let name = &standing.name;
    let outcome = match &standing.place {
        Place::AsSet => Some(Ok(())),
        Place::NotTried => None,
        Place::Elsewhere(what) => {
            let advice =
                "reopen the topic, let the bot write there, or set telegram.thread_id; then: watchdog notify test";
            Some(Err((what.clone(), Details::new("does not reach its topic", advice))))
        }
    };
    let title = format!("where {name} writes");
    let about = called(format!("channel {name}"));
    Fact { key: format!("channel/{name}/place"), title, severity: Severity::Warning, about, outcome }
}

/// Whether what must survive a restart is written.
pub fn state(condition: &Condition, path: Option<&str>) -> Fact {
    let outcome = match condition {
        Condition::File | Condition::Memory => Ok(()),
        Condition::Degraded { why, .. } => {
            let path = path.unwrap_or("STATE");
            let advice =
                format!("is the disk full or read-only, or may this user not write? df -h '{path}'; ls -l '{path}'");
            Err((format!("running in memory: {why}"), Details::new("cannot be written", advice)))
        }
    };
    let about = called("the state file");
    Fact {
        key: "state/file".into(),
        title: "state file".into(),
        severity: Severity::Critical,
        about,
        outcome: Some(outcome),
    }
}

/// Whether the program has what it needs of the system.
pub fn limits(lack: Option<Shortage>) -> Fact {
    let wrong = |lack: Shortage| (lack.what(), Details::new("runs short of resources", lack.advice()));
    Fact {
        key: "watchdog/limits".into(),
        title: "limits of the watchdog".into(),
        severity: Severity::Critical,
        about: called("the watchdog"),
        outcome: Some(lack.map_or(Ok(()), |lack| Err(wrong(lack)))),
    }
}

/// Whether the configuration in the files is the one in force.
pub fn reload(error: Option<&str>) -> Fact {
    let wrong = |error: &str| (error.to_string(), Details::new("has errors and is not used", "watchdog config check"));
    Fact {
        key: "config/reload".into(),
        title: "configuration".into(),
        severity: Severity::Warning,
        about: called("the new configuration"),
        outcome: Some(error.map_or(Ok(()), |error| Err(wrong(error)))),
    }
}

/// Whether the dead-man's switch takes the beats.
pub fn deadman(outcome: Option<Outcome>) -> Fact {
    let advice = "check heartbeat_url: is its receiver running, and is the check there still active?";
    let wrong = |words: String| (words, Details::new("does not take the heartbeat", advice));
    Fact {
        key: "channel/heartbeat".into(),
        title: "dead-man's switch".into(),
        severity: Severity::Warning,
        about: called("the dead-man's switch"),
        outcome: outcome.map(|outcome| outcome.map_err(wrong)),
    }
}

/// What a person should know of repairs.
pub fn repairs(fact: facts::Fact) -> Fact {
    let facts::Fact { key, title, severity, trouble } = fact;
    let subject = key.strip_prefix("recovery/").unwrap_or_default();
    let details = match subject {
        "paused" => Details::new("are paused", "set recovery.paused = false, and reload: systemctl reload watchdog"),
        "unconfigured" => Details::new("are unfinished", "put the nodes back, or look at their machines"),
        reason if title.ends_with("repairs") => {
            Details::new("are held back", format!("watchdog status --all; what holds them: {reason}"))
        }
        node => Details::new("is not over", format!("watchdog why node/{node}; then its console at the provider")),
    };
    let outcome = Some(trouble.map_or(Ok(()), |trouble| Err((trouble.to_string(), details))));
    Fact { about: called(title.as_str()), key, title, severity, outcome }
}
