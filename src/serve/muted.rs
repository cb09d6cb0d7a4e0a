//! What is not told at the moment, as other programs and the page see it: silences and windows of planned work.

use serde::{Deserialize, Serialize};

use super::wall;
use crate::core::silence::{Cover, Mute};
use crate::core::time::Wall;

/// Who keeps news back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// A person's command.
    #[default]
    Silence,
    /// A window of planned work in the configuration.
    Maintenance,
}

impl By {
    /// From what the core calls it.
    pub fn planned(is_planned: bool) -> By {
        if is_planned { By::Maintenance } else { By::Silence }
    }

    /// The word in JSON and on the page.
    pub fn as_str(self) -> &'static str {
        match self {
            By::Silence => "silence",
            By::Maintenance => "maintenance",
        }
    }
}

/// What keeps news of one signal back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silenced {
    /// Who does.
    pub by: By,
    /// The key or glob that names the signal, as it was written.
    pub pattern: String,
    /// Until when.
    #[serde(with = "wall")]
    pub until: Wall,
    /// Why; may be empty.
    #[serde(default)]
    pub reason: String,
}

impl From<Cover> for Silenced {
    fn from(cover: Cover) -> Silenced {
        let Cover { pattern, is_planned, until, reason } = cover;
        Silenced { by: By::planned(is_planned), pattern, until, reason }
    }
}

/// A silence in force, or a window that is open or next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MuteView {
    /// Whose it is.
    pub by: By,
    /// Keys, or globs.
    pub r#match: Vec<String>,
    /// When it began or will begin.
    #[serde(with = "wall")]
    pub since: Wall,
    /// When it ends.
    #[serde(with = "wall")]
    pub until: Wall,
    /// It mutes now.
    pub active: bool,
    /// Why; may be empty.
    #[serde(default)]
    pub reason: String,
}

impl From<Mute> for MuteView {
    fn from(mute: Mute) -> MuteView {
        let Mute { patterns, is_planned, since, until, is_active, reason } = mute;
        MuteView { by: By::planned(is_planned), r#match: patterns, since, until, active: is_active, reason }
    }
}
