//! Puts the parts together as the configuration says: the lists in `source` and `notifier` are
//! walked, and every part builds itself from its own settings. All problems are reported at once.

use std::collections::BTreeMap;

use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::notifier::{self, NOTIFIERS, Notifier};
use crate::source::{self, SOURCES, Source};
use crate::wake::Waker;

/// What a channel asked to be remembered, by the channel's name.
pub type Remembered = BTreeMap<String, BTreeMap<String, String>>;

/// Every source that is switched on.
pub fn sources(config: &Config, outfit: &source::Outfit) -> Result<Vec<Box<dyn Source>>, ConfigError> {
    let mut built = Vec::new();
    let mut problems = Vec::new();
    for entry in SOURCES {
        match (entry.build)(config, outfit) {
            Ok(source) => built.extend(source),
            Err(error) => problems.extend(error.problems),
        }
    }
    if problems.is_empty() { Ok(built) } else { Err(ConfigError { problems }) }
}

/// Every notifier that is switched on.
pub fn notifiers(
    config: &Config,
    clock: &Clock,
    remembered: &Remembered,
) -> Result<Vec<Box<dyn Notifier>>, ConfigError> {
    let mut built = Vec::new();
    let mut problems = Vec::new();
    for entry in NOTIFIERS {
        let outfit = notifier::Outfit {
            clock: clock.clone(),
            timeout: config.root().timeout.0,
            remembered: remembered.get(entry.name).cloned().unwrap_or_default(),
        };
        match (entry.build)(config, &outfit) {
            Ok(notifier) => built.extend(notifier),
            Err(error) => problems.extend(error.problems),
        }
    }
    if problems.is_empty() { Ok(built) } else { Err(ConfigError { problems }) }
}

/// What sources are lent.
pub fn outfit(config: &Config, clock: &Clock, waker: &Waker, previous_boot: Option<&str>) -> source::Outfit {
    source::Outfit {
        clock: clock.clone(),
        waker: waker.clone(),
        timeout: config.root().timeout.0,
        tick: config.root().tick.0,
        previous_boot: previous_boot.filter(|id| !id.is_empty()).map(str::to_string),
    }
}
