//! Notifiers carry messages out, each driven by a courier thread of its own (`deliver.rs`).
//!
//! A notifier renders a message into parts that its channel accepts and sends one part at a
//! time. It does not retry, keep a queue or decide what is said: the courier does, from the class
//! of the error. To add one: a new file with `Settings` and `ENTRY`, and its line in [`NOTIFIERS`].

pub mod console;
pub mod telegram;

use std::time::Duration;

use crate::clock::Clock;
use crate::config::schema::Section;
use crate::config::{Config, ConfigError};
use crate::core::message::{Message, Sound};
use crate::core::time::Mono;

pub use crate::core::message::Receipt;

/// Every notifier, in the order in which they are shown.
pub const NOTIFIERS: &[Entry] = &[telegram::ENTRY, console::ENTRY];

/// How the program knows a notifier.
pub struct Entry {
    /// The channel's name, as in `channels[].name` and `notifications_total{channel}`.
    pub name: &'static str,
    /// How it says things, in a few words, for the first screen.
    pub about: &'static str,
    /// What to set so that it speaks, for the first screen.
    pub advice: &'static str,
    /// The parts of the configuration it owns.
    pub sections: &'static [Section],
    /// Makes the notifier from the configuration; `None` when it is off.
    pub build: Build,
}

/// How a notifier is made.
pub type Build = fn(&Config, &Outfit) -> Result<Option<Box<dyn Notifier>>, ConfigError>;

/// What the program lends to every notifier when it is built.
#[derive(Clone)]
pub struct Outfit {
    /// Reads the clocks.
    pub clock: Clock,
    /// The default limit of one outside call (`timeout`).
    pub timeout: Duration,
    /// What the channel asked us to remember earlier (a migrated chat id), by name.
    pub remembered: std::collections::BTreeMap<String, String>,
}

/// One way out to a person.
pub trait Notifier: Send {
    /// The channel's name.
    fn name(&self) -> &str;

    /// The message as parts, each acceptable to the channel by itself.
    fn render(&self, message: &Message) -> Vec<String>;

    /// True when somebody may be woken by it: quiet hours hold for it.
    fn reaches_people(&self) -> bool {
        true
    }

    /// Sends one part. `reply_to` is the receipt of an earlier message of this channel to answer to.
    fn send(&mut self, part: &Part<'_>) -> Result<Receipt, SendError>;

    /// Where messages go.
    fn place(&self) -> Place {
        Place::AsSet
    }

    /// Stands for whom the channel asks and whom it tells: while two notifiers agree in it, what one of them
    /// was told to wait for holds for the other.
    fn way(&self) -> u64 {
        0
    }

    /// When the channel was asked last, oldest first, as far as its pace counts that.
    fn asked(&self) -> Vec<Mono> {
        Vec::new()
    }

    /// Counts these requests of the notifier before this one into the pace.
    fn keep_pace(&mut self, _asked: &[Mono]) {}
}

/// Where the messages of a channel go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Place {
    /// Where the settings say.
    #[default]
    AsSet,
    /// Nobody knows yet whether the place of the settings takes them.
    NotTried,
    /// Somewhere else, because the place of the settings does not take them; why, and what to do.
    Elsewhere(String),
}

/// One part on its way out.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// The rendered text, one of what [`Notifier::render`] gave.
    pub text: &'a str,
    /// The receipt of the message this one answers, if any.
    pub reply_to: Option<&'a str>,
    /// How loud it should arrive.
    pub sound: Sound,
}

/// Why a part was not acknowledged. `Display` has no secret in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct SendError {
    /// What failed, on what, what to do next.
    pub what: String,
    /// The end of `what` that says what to do next; empty for none.
    pub advice: &'static str,
    /// What the courier may do about it.
    pub class: Class,
}

/// What may be done after a failed send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Try again with backoff: timeouts, refusals, 5xx. The message may have arrived.
    Transient,
    /// The same will happen again: a wrong chat, a message that the channel does not accept.
    Permanent,
    /// The channel does not let us in until the settings change: 401, 403.
    Auth,
    /// Not before this much time has passed.
    RateLimited(Duration),
}
