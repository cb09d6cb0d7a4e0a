//! What the core is told once: the grid of the loop and how often a reminder may come. Plain numbers.

use std::time::Duration;

use super::signal::Severity;

/// What the core is told once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// Least time before a still-firing signal is said again, by its severity; zero is never.
    pub cooldown: Cooldowns,
    /// The grid of the loop.
    pub tick: Duration,
    /// Let every source answer once before anything counts. Off only for a single pass.
    pub warm_up: bool,
    /// One look is enough to confirm, for a single pass that has no memory of earlier ones.
    pub confirm_at_once: bool,
}

/// Least time between two reminders of a signal that still fires, by its severity; zero is never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cooldowns {
    /// Of critical signals.
    pub critical: Duration,
    /// Of warnings.
    pub warning: Duration,
    /// Of infos.
    pub info: Duration,
}

impl Cooldowns {
    /// The same for every severity.
    pub const fn all(span: Duration) -> Cooldowns {
        Cooldowns { critical: span, warning: span, info: span }
    }

    /// That of this severity.
    pub fn of(&self, severity: Severity) -> Duration {
        match severity {
            Severity::Critical => self.critical,
            Severity::Warning => self.warning,
            Severity::Info => self.info,
        }
    }

    /// The longest of them.
    pub fn longest(&self) -> Duration {
        self.critical.max(self.warning).max(self.info)
    }
}
