//! How the version before this one reads what is kept: its own types, frozen. With each release they are replaced by
//! those of that release, so that going back by one version loses nothing.

use serde::Deserialize;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    Opened { rung: Rung, simulated: bool },
    Adopted { verb: Verb, fence: Fence },
    Intent { verb: Verb, fence: Fence },
    Replied { verb: Verb, reply: Reply, detail: String },
    Seen { seen: Seen },
    Resumed,
    Closed { end: End },
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    StopStart,
    Reset,
    #[serde(rename = "softreset")]
    SoftReset,
    Start,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    Stop,
    Start,
    Reset,
    SoftReset,
}

#[derive(Debug, PartialEq, Deserialize)]
pub struct Fence {
    etag: String,
    token: String,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    Accepted,
    Unknown,
    NotSent,
    Busy,
    Conflict,
    Changed,
    Refused,
    NoCapacity,
}

#[derive(Debug, PartialEq, Deserialize)]
pub struct Seen {
    lifecycle: Lifecycle,
    etag: String,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lifecycle {
    Running,
    Stopping,
    Stopped,
    Starting,
    Moving,
    Provisioning,
    CreatingImage,
    Terminating,
    Terminated,
    Other,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    Up,
    NoEffect,
    Expired,
    Gone,
}

/// A note in Consul.
#[derive(Debug, PartialEq, Deserialize)]
pub struct Note {
    target: String,
    saga: String,
    agent: String,
    verb: Verb,
    fence: Fence,
}
