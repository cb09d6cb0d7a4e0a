//! The words for what can be repaired, whoever switches it: what state it is in, what was seen of it, what came of
//! asking, and what makes a request count once.
//!
//! An executor maps its provider's words onto six states and keeps the provider's own word for people. Nothing here
//! decides anything (`adr/0039-one-engine-of-steps.md`).

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The state of a subject, as far as a repair asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It is on.
    Running,
    /// It is being switched off.
    Stopping,
    /// It is off.
    Stopped,
    /// It is being switched on.
    Starting,
    /// It is no more, or is being destroyed.
    Terminated,
    /// Busy with something else, or in a state that we do not know: nothing may be asked.
    Other,
}

impl State {
    /// Every state, for tables.
    pub const ALL: [State; 6] =
        [State::Running, State::Stopping, State::Stopped, State::Starting, State::Terminated, State::Other];

    /// The word for it where nobody has a better one.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Running => "RUNNING",
            State::Stopping => "STOPPING",
            State::Stopped => "STOPPED",
            State::Starting => "STARTING",
            State::Terminated => "TERMINATED",
            State::Other => "OTHER",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One look at a subject.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seen {
    /// Its state.
    pub state: State,
    /// Its version: what was seen in two looks with the same version was not touched in between. `None` where
    /// nobody can tell; that is neither the same version nor another.
    pub version: Option<String>,
    /// What its provider calls the state, for people.
    pub word: String,
}

impl Seen {
    /// A look without a word of its own.
    pub fn new(state: State, version: impl Into<String>) -> Seen {
        Seen { state, version: Some(version.into()), word: state.as_str().to_string() }
    }
}

/// Bytes of a [`Verb`] at most.
const LONGEST: usize = 23;

/// What can be asked of a subject: one short word of its executor, such as STOP. It is written into the journal, and
/// is the label of metrics.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Verb {
    bytes: [u8; LONGEST],
    length: u8,
}

impl Verb {
    /// The verb of this word. For constants: a word that is empty or longer than 23 bytes does not compile there.
    pub const fn of(word: &str) -> Verb {
        let (from, mut bytes, mut at) = (word.as_bytes(), [0; LONGEST], 0);
        assert!(!from.is_empty() && from.len() <= LONGEST, "a verb has 1 to 23 bytes");
        while at < from.len() {
            #[allow(clippy::indexing_slicing, reason = "both are at least this long, or it does not compile")]
            {
                bytes[at] = from[at];
            }
            at += 1;
        }
        #[allow(clippy::cast_possible_truncation, reason = "it is at most 23")]
        Verb { bytes, length: from.len() as u8 }
    }

    /// The verb of a word that somebody wrote; `None` where it cannot be one.
    pub fn parse(word: &str) -> Option<Verb> {
        (!word.is_empty() && word.len() <= LONGEST).then(|| Verb::of(word))
    }

    /// The word.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.length)).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl fmt::Debug for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What came of asking, as far as it matters for what may be asked next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// The provider took it.
    Accepted,
    /// It may or may not have been taken: no answer, a broken one, or a server error.
    Unknown,
    /// It never left: no connection, or it was held back at the last moment.
    NotSent,
    /// Not taken now: too many requests, the wrong state, a lock.
    Busy,
    /// Not taken: somebody else changes the machine.
    Conflict,
    /// Not taken: the machine is not in the version that this was decided on.
    Changed,
    /// Not taken, and asking again soon is no use: rights, a wrong name, a wrong request.
    Refused,
    /// Not taken: the provider has no room for the machine.
    NoCapacity,
}

impl Reply {
    /// Every reply, for tables.
    pub const ALL: [Reply; 8] = [
        Reply::Accepted,
        Reply::Unknown,
        Reply::NotSent,
        Reply::Busy,
        Reply::Conflict,
        Reply::Changed,
        Reply::Refused,
        Reply::NoCapacity,
    ];
}

/// What makes a request count once and on one version of its subject only. On disk the version has the name of old.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fence {
    /// The version of the subject that the request was decided on (`if-match`); `None` where it was lost.
    #[serde(rename = "etag", with = "version")]
    pub version: Option<String>,
    /// Names the request: sent twice, it counts once (`opc-retry-token`).
    pub token: String,
}

impl Fence {
    /// A fence of this version.
    pub fn new(version: impl Into<String>, token: impl Into<String>) -> Fence {
        Fence { version: Some(version.into()), token: token.into() }
    }
}

/// A version on disk; one that nobody knows is an empty text.
pub(super) mod version {
    use super::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::ref_option, reason = "serde asks for this signature")]
    pub fn serialize<S: Serializer>(version: &Option<String>, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(version.as_deref().unwrap_or_default())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
        Ok(Some(String::deserialize(input)?).filter(|version| !version.is_empty()))
    }
}

/// The four verbs that machines in Oracle Cloud know, as journals of all versions write them. No other executor may
/// use these words.
const WRITTEN: [(&str, &str); 4] =
    [("STOP", "stop"), ("START", "start"), ("RESET", "reset"), ("SOFTRESET", "soft-reset")];

impl Serialize for Verb {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let written = WRITTEN.iter().find(|(verb, _)| *verb == self.as_str());
        out.serialize_str(written.map_or(self.as_str(), |(_, written)| written))
    }
}

impl<'de> Deserialize<'de> for Verb {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Verb, D::Error> {
        let text = String::deserialize(input)?;
        let known = WRITTEN.iter().find(|(_, written)| *written == text);
        let verb = Verb::parse(known.map_or(text.as_str(), |(verb, _)| verb));
        verb.ok_or_else(|| D::Error::custom("not a verb"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_is_a_short_word_and_is_written_as_ever() {
        for (word, written) in WRITTEN.into_iter().chain([("restart", "restart"), ("clear_db", "clear_db")]) {
            let verb = Verb::parse(word).unwrap();
            assert_eq!((verb.as_str(), verb.to_string().as_str()), (word, word));
            assert_eq!(serde_json::to_value(verb).unwrap(), written);
            assert_eq!(serde_json::from_value::<Verb>(written.into()).unwrap(), verb);
        }
        assert_eq!((Verb::parse(""), Verb::parse(&"x".repeat(24))), (None, None));
        assert!(Verb::parse(&"x".repeat(23)).is_some() && serde_json::from_str::<Verb>("\"\"").is_err());
    }

    #[test]
    fn a_version_that_nobody_knows_is_an_empty_text_on_disk() {
        let fence = Fence { version: None, token: "t".to_string() };
        let written = serde_json::to_string(&fence).unwrap();
        assert_eq!(written, r#"{"etag":"","token":"t"}"#);
        assert_eq!(serde_json::from_str::<Fence>(&written).unwrap(), fence);
    }
}
