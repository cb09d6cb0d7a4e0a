//! Kinds of targets as the program knows them: what can be ill and repaired, and how each is read from the configuration.
//!
//! A kind is one file with its settings and its `ENTRY`, and one line in [`assemble::KINDS`](crate::assemble::KINDS).
//! It says how illness shows and what its targets are called; how they are repaired is the executors' (`executor`),
//! what is decided the core's (`core::recovery`).

use crate::config::schema::Section;
use crate::config::{Config, ConfigError};
use crate::core::recovery::budget::Bounds;
use crate::core::recovery::kind::Kind;
use crate::core::recovery::plan::Node;
use crate::executor::{self, Switch};

/// How the program knows a kind.
pub struct Entry {
    /// What the core knows of it.
    pub kind: &'static Kind,
    /// The parts of the configuration it owns.
    pub sections: &'static [Section],
    /// Reads its targets; `executors` are those that there are.
    pub read: Read,
}

/// How the targets of a kind are read.
pub type Read = fn(&Config, executors: &[executor::Entry]) -> Result<Targets, ConfigError>;

/// The targets of a kind, as they are configured.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    /// The targets.
    pub targets: Vec<Node>,
    /// What switches them.
    pub switches: Vec<Switch>,
    /// Within which bounds they are repaired; `None` within those of machines.
    pub bounds: Option<Bounds>,
}
