//! What can be set about containers, and what is wrong with what is set.
//!
//! Meaning, unit and default of each key stand at its field; `.env.example` repeats them. Reads nothing but the
//! configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::socket;
use crate::config::schema::{Kind, Setting};
use crate::config::value::Span;
use crate::config::{Config, ConfigError, Problems, form};
use crate::core::signal::Severity;

crate::settings! {
    /// Containers on the local Docker Engine.
    pub struct Settings {
        /// true, false, or auto: on as soon as the socket is there, and from the start when anything else in this
        /// section is set.
        enabled: Switch = Switch::Auto,
        /// The engine's Unix socket: a path, or unix:///path. Addresses such as tcp:// are refused.
        socket: String = "/var/run/docker.sock".to_string(),
        /// Names or compose services to watch, * for any text; "*" is all of them. None: every container of our own
        /// compose project, else all. One that is named and not there is down.
        containers: Vec<String> = Vec::new(),
        /// Names or compose services not to watch, * for any text. The label watchdog.enable=false does the same.
        exclude: Vec<String> = Vec::new(),
        /// Restarts within restart_window that make a crash loop, at least 1.
        restarts: u32 = 3,
        /// The window of restarts; a crash loop is over after this long without one.
        restart_window: Span = Span::seconds(600),
        /// Time that a container stopped, paused or removed from outside has to be replaced or to go on.
        grace: Span = Span::seconds(10),
        /// Time that a created container has to be started.
        start_grace: Span = Span::seconds(60),
        /// Time that a container must run after it was killed for memory.
        oom_calm: Span = Span::seconds(60),
        /// After this long a missing container with the label watchdog.required=true that containers does not
        /// name is forgotten.
        forget_after: Span = Span::seconds(86_400),
        /// How much it matters when a container fails: critical, warning or info. The label watchdog.severity of a
        /// container overrides it.
        severity: Severity = Severity::Critical,
        /// Severity when a command stopped, killed or paused a container: none (no message), info, warning or
        /// critical. Told once, without reminders, and over when the container runs again or is removed.
        planned: Planned = Planned::Info,
        /// Last lines of its log that are told of a container that fails, 0 to 3. 0 reads no log of a container.
        log_lines: u32 = 3,
        /// Lines of its log that are told of a job that ended with an error (job/<container>), 0 to 3.
        job_lines: u32 = 3,
    }
}

/// On, off, or as the machine has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Switch {
    /// On where the thing is there, or where somebody has set anything about it.
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

/// How much a stop by a command matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Planned {
    /// Not at all: it is shown and not told.
    None,
    /// Good to know.
    #[default]
    Info,
    /// Somebody should look in the morning.
    Warning,
    /// Somebody should get up.
    Critical,
}

impl Setting for Planned {
    const KIND: Kind = Kind::Choice(&["none", "info", "warning", "critical"]);
}

impl Planned {
    /// The severity of its signal; that of an info where it is not told by itself.
    pub fn severity(self) -> Severity {
        match self {
            Planned::None | Planned::Info => Severity::Info,
            Planned::Warning => Severity::Warning,
            Planned::Critical => Severity::Critical,
        }
    }
}

impl Settings {
    /// Everything that is wrong with what stands there.
    pub(super) fn check(&self, config: &Config) -> Result<(), ConfigError> {
        let mut problems = Problems::new(config);
        if let Err(what) = socket::path(&self.socket) {
            problems.refuse("docker.socket", what);
        }
        for (key, lines) in [("docker.log_lines", self.log_lines), ("docker.job_lines", self.job_lines)] {
            if lines > 3 {
                problems.refuse(key, "should be at most 3");
            }
        }
        if self.restarts == 0 {
            problems.refuse("docker.restarts", "should be at least 1");
        }
        if self.restart_window.0 < Duration::from_secs(1) {
            problems.refuse("docker.restart_window", "is too short; the least is 1s");
        }
        for (key, patterns) in [("docker.containers", &self.containers), ("docker.exclude", &self.exclude)] {
            for pattern in patterns {
                problems.check(key, form::container(pattern));
            }
        }
        for name in self.containers.iter().filter(|name| self.exclude.contains(name)) {
            problems.refuse("docker.exclude", format!("\"{name}\" is in docker.containers as well; keep one"));
        }
        problems.unless_any(())
    }
}
