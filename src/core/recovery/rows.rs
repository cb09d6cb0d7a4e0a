//! How events of a repair are written into the journal and notes into Consul, for ever: rows of every earlier form
//! are read, and what is written of machines in Oracle Cloud the version before this one reads as its own.
//!
//! Knows the words of old; decides nothing (`adr/0007-journal-before-act.md`, `adr/0039-one-engine-of-steps.md`).

use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::legacy;
use super::procedure::Procedure;
use super::saga::{End, Event};
use super::subject::{Fence, Reply, Seen, State, Verb, version};

/// The states of a machine in Oracle Cloud: as written, its own word, and what it is to a repair.
const LIFECYCLES: [(&str, &str, State); 10] = [
    ("running", "RUNNING", State::Running),
    ("stopping", "STOPPING", State::Stopping),
    ("stopped", "STOPPED", State::Stopped),
    ("starting", "STARTING", State::Starting),
    ("other", "OTHER", State::Other),
    ("moving", "MOVING", State::Other),
    ("provisioning", "PROVISIONING", State::Other),
    ("creating-image", "CREATING_IMAGE", State::Other),
    ("terminated", "TERMINATED", State::Terminated),
    ("terminating", "TERMINATING", State::Terminated),
];

/// A look as it is written. The state has the name of old.
#[derive(Serialize, Deserialize)]
struct SeenRow {
    lifecycle: String,
    #[serde(rename = "etag", with = "version")]
    version: Option<String>,
    /// The provider's word, where `lifecycle` does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    word: Option<String>,
}

/// An event as it is written.
#[derive(Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Row {
    Opened {
        /// All that earlier versions wrote of the way that it goes; still written where they know it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rung: Option<String>,
        #[serde(default)]
        simulated: bool,
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known")]
        procedure: Option<Procedure>,
    },
    Adopted {
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known")]
        procedure: Option<Procedure>,
        verb: Verb,
        fence: Fence,
    },
    Intent {
        verb: Verb,
        fence: Fence,
    },
    Replied {
        verb: Verb,
        reply: Reply,
        detail: String,
    },
    Seen {
        seen: Seen,
    },
    Resumed,
    Closed {
        end: End,
    },
}

/// A procedure, unless a later version wrote something into it that means nothing here.
pub(super) fn known<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Procedure>, D::Error> {
    let written = Option::<serde_json::Value>::deserialize(input)?;
    let read = written.and_then(|value| serde_json::from_value::<Procedure>(value).ok());
    Ok(read.filter(|procedure| matches!(procedure.steps.len(), 1..=100)))
}

impl Serialize for Seen {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let by_word = LIFECYCLES.iter().find(|(_, word, state)| *word == self.word && *state == self.state);
        let written = by_word.or(LIFECYCLES.iter().find(|(_, _, state)| *state == self.state));
        let lifecycle = written.map_or("other", |(written, _, _)| written).to_string();
        let word = by_word.is_none().then(|| self.word.clone());
        SeenRow { lifecycle, version: self.version.clone(), word }.serialize(out)
    }
}

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Seen, D::Error> {
        let row = SeenRow::deserialize(input)?;
        let known = LIFECYCLES.iter().find(|(written, _, _)| *written == row.lifecycle);
        let Some((_, word, state)) = known else { return Err(D::Error::custom("not a state")) };
        Ok(Seen { state: *state, version: row.version, word: row.word.unwrap_or_else(|| (*word).to_string()) })
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let row = match self.clone() {
            Event::Opened { procedure, simulated } => Row::Opened {
                rung: legacy::by_name(&procedure.name).map(|known| known.name.into_owned()),
                simulated,
                procedure: Some(Procedure::clone(&procedure)),
            },
            Event::Adopted { procedure, verb, fence } => {
                Row::Adopted { procedure: procedure.map(|procedure| Procedure::clone(&procedure)), verb, fence }
            }
            Event::Intent { verb, fence } => Row::Intent { verb, fence },
            Event::Replied { verb, reply, detail } => Row::Replied { verb, reply, detail },
            Event::Seen { seen } => Row::Seen { seen },
            Event::Resumed => Row::Resumed,
            Event::Closed { end } => Row::Closed { end },
        };
        row.serialize(out)
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Event, D::Error> {
        Ok(match Row::deserialize(input)? {
            Row::Opened { rung, simulated, procedure } => {
                let known = procedure.or_else(|| legacy::by_name(&rung?));
                let procedure = known.ok_or_else(|| D::Error::custom("not a way that a repair can go"))?;
                Event::Opened { procedure: Arc::new(procedure), simulated }
            }
            Row::Adopted { procedure, verb, fence } => {
                let known = procedure.filter(|procedure| procedure.place(verb).is_some());
                Event::Adopted { procedure: known.map(Arc::new), verb, fence }
            }
            Row::Intent { verb, fence } => Event::Intent { verb, fence },
            Row::Replied { verb, reply, detail } => Event::Replied { verb, reply, detail },
            Row::Seen { seen } => Event::Seen { seen },
            Row::Resumed => Event::Resumed,
            Row::Closed { end } => Event::Closed { end },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    use crate::core::recovery::procedure::{Again, Does, Goal, Guard, States, Step};

    #[test]
    fn every_word_of_a_machine_is_written_as_it_always_was() {
        for (written, word, state) in LIFECYCLES {
            let seen = Seen { state, version: Some("v1".to_string()), word: word.to_string() };
            let text = format!(r#"{{"lifecycle":"{written}","etag":"v1"}}"#);
            assert_eq!(serde_json::to_string(&seen).unwrap(), text);
            assert_eq!(serde_json::from_str::<Seen>(&text).unwrap(), seen);
        }
    }

    #[test]
    fn another_word_is_kept_beside_one_that_everybody_reads() {
        let seen = Seen { state: State::Running, version: None, word: "active (running)".to_string() };
        let text = r#"{"lifecycle":"running","etag":"","word":"active (running)"}"#;
        assert_eq!(serde_json::to_string(&seen).unwrap(), text);
        assert_eq!(serde_json::from_str::<Seen>(text).unwrap(), seen);
    }

    #[test]
    fn a_repair_carries_its_way_and_one_without_any_is_none() {
        let restart = Step {
            verb: Verb::of("restart"),
            does: Does::Disrupts,
            goal: Goal::Anew(States::RUNNING),
            again: Again::Never,
        };
        let ways = legacy::ALL.into_iter().chain([Procedure {
            name: Cow::Borrowed("restart"),
            says: Cow::Borrowed("restart it"),
            steps: Cow::Owned(vec![restart]),
            guard: Guard::Local,
        }]);
        for procedure in ways {
            let event = Event::Opened { procedure: Arc::new(procedure.clone()), simulated: true };
            let text = serde_json::to_string(&event).unwrap();
            assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
            let rung = format!(r#""rung":"{}""#, procedure.name);
            assert_eq!(text.contains(&rung), legacy::by_name(&procedure.name).is_some(), "{text}");
        }
        // What a later version says of a way that this one knows is left out.
        let later = r#"{"event":"opened","rung":"reset","simulated":false,"procedure":{"name":"reset","steps":9}}"#;
        let reset = Event::Opened { procedure: Arc::new(legacy::RESET), simulated: false };
        assert_eq!(serde_json::from_str::<Event>(later).unwrap(), reset);
        for bad in [
            r#"{"event":"opened","simulated":false}"#,
            r#"{"event":"opened","rung":"dance","simulated":false}"#,
            r#"{"event":"opened","rung":"dance","simulated":false,"procedure":7}"#,
            r#"{"event":"opened","simulated":false,"procedure":{"name":"x","says":"x","steps":[]}}"#,
        ] {
            assert!(serde_json::from_str::<Event>(bad).is_err(), "{bad}");
        }
    }
}
