//! One instance of the scripted cloud: its state, its version, and what it is on the way to.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::COMPARTMENT;

/// `lifecycleState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    Moving,
    Provisioning,
    Running,
    Starting,
    Stopping,
    Stopped,
    CreatingImage,
    Terminating,
    Terminated,
    /// A word that Oracle may add one day.
    Unheard,
}

impl Lifecycle {
    /// As Oracle writes it.
    pub fn word(self) -> &'static str {
        match self {
            Lifecycle::Moving => "MOVING",
            Lifecycle::Provisioning => "PROVISIONING",
            Lifecycle::Running => "RUNNING",
            Lifecycle::Starting => "STARTING",
            Lifecycle::Stopping => "STOPPING",
            Lifecycle::Stopped => "STOPPED",
            Lifecycle::CreatingImage => "CREATING_IMAGE",
            Lifecycle::Terminating => "TERMINATING",
            Lifecycle::Terminated => "TERMINATED",
            Lifecycle::Unheard => "HIBERNATING",
        }
    }
}

/// How long each change takes.
#[derive(Debug, Clone, Copy)]
pub struct Durations {
    /// `STOPPING`.
    pub stopping: Duration,
    /// `STOPPED` in the middle of a reset.
    pub between: Duration,
    /// `STARTING`.
    pub starting: Duration,
    /// A reset is read as `RUNNING` all the time.
    pub quiet_resets: bool,
}

impl Default for Durations {
    fn default() -> Durations {
        let short = Duration::from_millis(50);
        Durations { stopping: short, between: short, starting: short, quiet_resets: false }
    }
}

/// One instance.
pub struct Machine {
    ocid: String,
    lifecycle: Lifecycle,
    version: u64,
    running_since: Option<Instant>,
    ahead: VecDeque<(Instant, Lifecycle)>,
    pub maintenance: Option<String>,
}

impl Machine {
    pub fn new(ocid: &str, lifecycle: Lifecycle) -> Machine {
        let running_since = (lifecycle == Lifecycle::Running).then(Instant::now);
        let ahead = VecDeque::new();
        Machine { ocid: ocid.to_string(), lifecycle, version: 1, running_since, ahead, maintenance: None }
    }

    pub fn lifecycle(&self) -> Lifecycle {
        self.lifecycle
    }

    pub fn etag(&self) -> String {
        format!("etag-{}-{:08x}", self.version, self.version.wrapping_mul(2_654_435_761) & 0xffff_ffff)
    }

    pub fn running_since(&self) -> Option<Instant> {
        self.running_since
    }

    /// Lets happen what is due.
    pub fn settle(&mut self) {
        while let Some((due, next)) = self.ahead.front().copied() {
            if due > Instant::now() {
                return;
            }
            self.ahead.pop_front();
            self.enter(next, due);
        }
    }

    fn enter(&mut self, lifecycle: Lifecycle, at: Instant) {
        self.lifecycle = lifecycle;
        self.version += 1;
        self.running_since = (lifecycle == Lifecycle::Running).then_some(at);
    }

    /// Changes the state now, whatever it was on the way to.
    pub fn become_at_once(&mut self, lifecycle: Lifecycle) {
        self.ahead.clear();
        self.enter(lifecycle, Instant::now());
    }

    /// The states that follow, each after so long.
    fn go(&mut self, first: Lifecycle, then: &[(Duration, Lifecycle)]) {
        self.become_at_once(first);
        let mut at = Instant::now();
        for (span, lifecycle) in then {
            at += *span;
            self.ahead.push_back((at, *lifecycle));
        }
    }

    pub fn stop(&mut self, durations: &Durations) {
        self.go(Lifecycle::Stopping, &[(durations.stopping, Lifecycle::Stopped)]);
    }

    pub fn start(&mut self, durations: &Durations) {
        self.go(Lifecycle::Starting, &[(durations.starting, Lifecycle::Running)]);
    }

    pub fn reset(&mut self, durations: &Durations) {
        let all = durations.stopping + durations.between + durations.starting;
        if durations.quiet_resets {
            return self.go(Lifecycle::Running, &[(all, Lifecycle::Running)]);
        }
        self.go(
            Lifecycle::Stopping,
            &[
                (durations.stopping, Lifecycle::Stopped),
                (durations.between, Lifecycle::Starting),
                (durations.starting, Lifecycle::Running),
            ],
        );
    }

    /// As the API shows it.
    pub fn json(&self) -> Value {
        json!({
            "id": self.ocid,
            "displayName": "db-1",
            "lifecycleState": self.lifecycle.word(),
            "availabilityDomain": "Abcd:EU-FRANKFURT-1-AD-1",
            "faultDomain": "FAULT-DOMAIN-2",
            "compartmentId": COMPARTMENT,
            "region": "eu-frankfurt-1",
            "shape": "VM.Standard.A1.Flex",
            "timeCreated": "2023-01-05T21:31:40.123Z",
            "timeMaintenanceRebootDue": self.maintenance,
            "freeformTags": {"watchdog": "on"},
            "definedTags": {},
        })
    }
}
