//! Instants as RFC 3339 text in UTC, for `#[serde(with = "wall")]`: the one form of them in everything that other
//! programs read.

use std::time::SystemTime;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};

use crate::core::time::Wall;

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
pub fn serialize<S: Serializer>(at: &Wall, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Wall, D::Error> {
    parse(&String::deserialize(deserializer)?).ok_or_else(|| D::Error::custom("not an RFC 3339 instant"))
}

fn parse(text: &str) -> Option<Wall> {
    let instant = humantime::parse_rfc3339(text).ok()?;
    let since_epoch = instant.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since_epoch.as_millis()).ok().map(Wall)
}

/// The same, or null.
pub mod option {
    use super::{Deserialize, Deserializer, Serializer, Wall, parse};
    use serde::de::Error as _;

    #[allow(clippy::ref_option, reason = "the signature is serde's")]
    pub fn serialize<S: Serializer>(at: &Option<Wall>, serializer: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => serializer.collect_str(at),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Wall>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        parse(&text).map(Some).ok_or_else(|| D::Error::custom("not an RFC 3339 instant"))
    }
}
