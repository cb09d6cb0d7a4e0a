//! What is wrong with a configuration, in words for people; never with a secret in them.

use std::fmt;

use super::{Config, veil};

/// What is wrong with the configuration: every problem found, in reading order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, as written in TOML with dots (`probe[2].target`); empty when it concerns a whole file.
    pub key: String,
    /// The table of a list that it is in, as people know it: `probe "api"`. `None` where it has no name.
    pub table: Option<String>,
    /// The file and line, or the variable that it stands in; `None` when nobody wrote it.
    pub place: Option<String>,
    /// What is wrong and what would be right. Never contains a secret.
    pub what: String,
}

impl Problem {
    /// A problem with a place that is not a key of the configuration: a whole file, a variable.
    pub fn of_place(place: impl Into<String>, what: impl Into<String>) -> Problem {
        Problem { key: String::new(), table: None, place: Some(place.into()), what: what.into() }
    }
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> ConfigError {
        ConfigError { problems: vec![problem] }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        let mut key = self.key.as_str();
        if let Some(table) = &self.table {
            write!(f, "{table}: ")?;
            // Who it is has been said; its number in the list helps nobody.
            key = key.split_once(']').map_or("", |(_, rest)| rest.trim_start_matches('.'));
        }
        if !key.is_empty() {
            write!(f, "`{key}`: ")?;
        }
        f.write_str(&self.what)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Collects what is wrong with the settings of one part, so that all of it is told at once.
pub struct Problems<'a> {
    config: &'a Config,
    found: Vec<Problem>,
}

impl<'a> Problems<'a> {
    /// None so far.
    pub fn new(config: &'a Config) -> Problems<'a> {
        Problems { config, found: Vec::new() }
    }

    /// The value of `key` (`telegram.chat_id`, `probe[2].target`) is wrong.
    pub fn refuse(&mut self, key: &str, what: impl Into<String>) {
        self.found.push(self.config.problem(key, what));
    }

    /// One more.
    pub fn add(&mut self, problem: Problem) {
        self.found.push(problem);
    }

    /// What came of a check of `key`; a complaint is kept.
    pub fn check<T>(&mut self, key: &str, outcome: Result<T, impl Into<String>>) -> Option<T> {
        outcome.map_err(|what| self.refuse(key, what)).ok()
    }

    /// What came of something that names its own problems; they are kept.
    pub fn take<T>(&mut self, outcome: Result<T, ConfigError>) -> Option<T> {
        outcome.map_err(|error| self.found.extend(error.problems)).ok()
    }

    /// True while nothing is wrong.
    pub fn none(&self) -> bool {
        self.found.is_empty()
    }

    /// `value`, unless something is wrong.
    ///
    /// # Errors
    /// Every problem collected.
    pub fn unless_any<T>(self, value: T) -> Result<T, ConfigError> {
        if self.found.is_empty() { Ok(value) } else { Err(ConfigError { problems: self.found }) }
    }
}

/// A table of a list as people know it: its kind and its own name.
pub fn called(list: &str, name: &str) -> Option<String> {
    let kind = list.rsplit('.').next().unwrap_or(list);
    let name = name.trim();
    (!name.is_empty() && !veil::looks_secret(name)).then(|| format!("{kind} \"{}\"", veil::short(name)))
}
