//! `[systemd]`: which units are watched, and how patient that is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::schema::{Identity, Kind, Section, Setting};
use crate::config::value::Span;
use crate::config::{Config, ConfigError, Problems, form};

/// The section's name, and the source's.
pub const NAME: &str = "systemd";
/// Units that may be named.
const UNITS: usize = 200;
/// Characters of a unit's name, as systemd has it.
const NAME_LENGTH: usize = 255;
/// What a unit's name may end with.
const KINDS: [&str; 11] =
    ["service", "socket", "device", "mount", "automount", "swap", "target", "path", "timer", "slice", "scope"];

crate::settings! {
    /// Units of systemd: every one that fails, those that are named, and timers that are late.
    pub struct Settings {
        /// true, false, or auto: on where systemd is process 1, and where anything else in this section is set.
        enabled: Switch = Switch::Auto,
        /// Units that must be active, such as "nginx.service"; without an ending it is a service. One that does not
        /// exist is down. A oneshot service is OK unless it failed.
        units: Vec<String> = Vec::new(),
        /// false: only the units in `units` are watched, whatever else fails.
        failed: bool = true,
        /// Units whose failure is ignored, * for any text: "session-*.scope".
        exclude: Vec<String> = Vec::new(),
        /// A unit that is activating or deactivating for longer than this is down, 1s to 24h.
        start_limit: Span = Span::seconds(300),
        /// A timer is late this long after its time, its own AccuracySec not counted. 0 = timers are not watched.
        timer_late: Span = Span::seconds(900),
    }
}

/// What this folder owns of the configuration.
pub const SECTION: Section = Settings::section(NAME).once(&[Identity::entries("units"), Identity::entries("exclude")]);

/// On, off, or as the machine has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Switch {
    /// On where systemd is process 1, or where somebody has set anything about units.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// On; not being able to look is told.
    #[serde(rename = "true")]
    On,
    /// Off.
    #[serde(rename = "false")]
    Off,
}

impl Setting for Switch {
    const KIND: Kind = Kind::Choice(&["auto", "true", "false"]);
}

impl Settings {
    /// The settings as they are written, checked; the names of units whole.
    ///
    /// # Errors
    /// Every problem, by its key.
    pub fn read(config: &Config) -> Result<Settings, ConfigError> {
        let mut settings: Settings = config.section(NAME)?;
        let mut problems = Problems::new(config);
        settings.units = settings.units.iter().map(|name| whole(name.trim())).collect();
        for name in &settings.units {
            problems.check("systemd.units", unit(name));
        }
        if settings.units.len() > UNITS {
            let what = format!("there are {}; at most {UNITS} can be watched by name", settings.units.len());
            problems.refuse("systemd.units", what);
        }
        let (second, day) = (Duration::from_secs(1), Duration::from_hours(24));
        problems.check("systemd.start_limit", form::span(settings.start_limit, second, day));
        if !settings.timer_late.0.is_zero() {
            problems.check("systemd.timer_late", form::span(settings.timer_late, second, day * 30));
        }
        problems.unless_any(settings)
    }

    /// True when somebody wants units to be watched: then not being able to look has to be told.
    pub fn is_wished(&self, config: &Config) -> bool {
        let set =
            |name: &str| config.value(NAME, name).is_some_and(|value| value.as_array().is_none_or(|l| !l.is_empty()));
        self.enabled == Switch::On || Settings::FIELDS.iter().any(|field| field.name != "enabled" && set(field.name))
    }
}

/// A name without an ending is a service's.
fn whole(name: &str) -> String {
    let has_kind = name.rsplit_once('.').is_some_and(|(_, kind)| KINDS.contains(&kind));
    if has_kind || name.is_empty() { name.to_string() } else { format!("{name}.service") }
}

/// A name that systemd could have given.
fn unit(name: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '.' | '\\' | '@' | '-');
    if name.is_empty() {
        return Err("holds an empty name; write for example \"nginx.service\"".to_string());
    }
    if name.len() > NAME_LENGTH || name.starts_with(['-', '.']) || !name.chars().all(is_plain) {
        let shown = crate::config::veil::quoted(name);
        return Err(format!("{shown} is not the name of a unit; `systemctl list-units --all` shows them"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(toml: &str) -> Result<Settings, String> {
        Settings::read(&Config::from_toml(&format!("[systemd]\n{toml}")).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_name_without_an_ending_is_a_service() {
        let settings = read("units = [\"nginx\", \"backup.timer\", \"a@b.example\", \"dev-sda1.swap\"]").unwrap();
        assert_eq!(settings.units, ["nginx.service", "backup.timer", "a@b.example.service", "dev-sda1.swap"]);
    }

    #[test]
    fn what_cannot_be_watched_is_refused() {
        for (toml, words) in [
            ("units = [\"--version\"]", "is not the name of a unit"),
            ("units = [\"a b\"]", "is not the name of a unit"),
            ("units = [\"*.service\"]", "is not the name of a unit"),
            ("units = [\"\"]", "holds an empty name"),
            ("start_limit = \"0s\"", "`systemd.start_limit`"),
            ("timer_late = \"100d\"", "`systemd.timer_late`"),
        ] {
            let error = read(toml).unwrap_err();
            assert!(error.contains(words), "{toml}: {error}");
        }
        assert!(read("timer_late = \"0\"").is_ok(), "off");
    }
}
