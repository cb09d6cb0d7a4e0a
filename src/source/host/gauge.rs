//! One signal of the machine: what it is called, when it fires, and whether it was ever measured.
//!
//! What a kernel does not offer has no signal; what was measured and no longer is turns unknown.

use std::sync::Arc;

use super::advice::Saying;
use super::proc::{Gap, Seen};
use crate::core::about::About;
use crate::core::rule::{Rule, Test};
use crate::core::signal::{More, Observation, Reading, Severity, SignalKey, Spec};
use crate::core::time::Mono;
use crate::source::Kept;

/// Percent below its ceiling at which a share counts as good again.
pub const MARGIN: f64 = 5.0;
/// Percent below the critical ceiling at which a share is a warning again.
const STEP: f64 = 2.0;

/// One signal and whether it was ever measured.
pub struct Gauge {
    spec: Arc<Spec>,
    /// Its ceiling in words, empty where there is none: `alert above 90 %`.
    limit: String,
    /// It was measured, by this run or by an earlier one since this machine booted.
    pub measured: bool,
}

impl Gauge {
    /// A signal `host/<name>`.
    pub fn new(name: &str, title: &str, severity: Severity, rule: Rule) -> Gauge {
        let spec = Spec::new(SignalKey::new(&format!("host/{name}")), title, severity, rule);
        Gauge { spec: Arc::new(spec), limit: String::new(), measured: false }
    }

    /// A gauge with a ceiling; `None` when the ceiling is 0.
    pub fn above(name: &str, title: &str, severity: Severity, limit: f64, clear: f64) -> Option<Gauge> {
        let gauge = || Gauge::new(name, title, severity, ceiling(limit, clear));
        (limit > 0.0).then(|| Gauge { limit: format!("; alert above {limit} %"), ..gauge() })
    }

    /// The same, with its ceiling in this unit in place of percent.
    #[must_use]
    pub fn counted_in(mut self, unit: &str) -> Gauge {
        self.limit = self.limit.replace(" %", unit);
        self
    }

    /// The same, with what a person calls it and what is said when it fires.
    #[must_use]
    pub fn saying(self, saying: &Saying) -> Gauge {
        let usual = Some(Arc::new(saying.details()));
        self.known_as(About { name: saying.name.into(), usual, ..About::default() })
    }

    /// The same, with what a person should know about it.
    #[must_use]
    pub fn known_as(mut self, about: About) -> Gauge {
        self.spec = Arc::new(Spec::clone(&self.spec).about(about));
        self
    }

    /// True for a reading that may fire: above the point at which it is good again.
    pub fn is_bad(&self, reading: Reading) -> bool {
        match (reading, self.spec.rule.test) {
            (Reading::Value(value), Test::Above { clear, .. }) => value > clear,
            (Reading::Down, _) => true,
            _ => false,
        }
    }

    /// The same signal, explained by `parent` while that fires.
    pub fn below(mut self, parent: Option<&Gauge>) -> Gauge {
        let parent = parent.map(|parent| parent.spec.key.clone());
        self.spec = Arc::new(Spec { parent, ..Spec::clone(&self.spec) });
        self
    }

    /// The signal's key.
    pub fn key(&self) -> &SignalKey {
        &self.spec.key
    }

    /// What was measured since this machine booted was offered, whoever measured it. After a boot the kernel may be
    /// another one.
    #[must_use]
    pub fn knowing(mut self, kept: &Kept) -> Gauge {
        self.measured |= kept.is_of_this_boot() && kept.of::<bool>(&self.spec.key) == Some(true);
        self
    }

    /// The observation that follows from what was read; none for what this machine does not offer.
    pub fn observe(&mut self, seen: Seen<(Reading, String)>, seen_at: Mono) -> Option<Observation> {
        let (reading, fact) = match seen {
            Ok((reading, mut fact)) => {
                self.measured = true;
                fact.push_str(&self.limit);
                (reading, fact)
            }
            Err(Gap::Missing) if self.measured => (Reading::Unknown, "no longer available".to_string()),
            Err(Gap::Missing) => return None,
            Err(Gap::Broken(why)) => (Reading::Unknown, why),
        };
        let observation = Observation::new(&self.spec, seen_at, reading, fact);
        let keep = self.measured.then(|| "true".to_string());
        Some(observation.knowing(More { keep, ..More::default() }))
    }
}

/// A share with two ceilings: above the first it is a warning, above the second critical. One signal, whose severity
/// rises and falls.
pub struct Stepped {
    gauge: Gauge,
    warning: Arc<Spec>,
    critical: Arc<Spec>,
    limits: [f64; 2],
    is_critical: bool,
}

impl Stepped {
    /// `None` when `limit` is 0; no severity but a warning when `critical` is 0, none but critical when it is not
    /// above `limit`.
    pub fn new(
        name: &str,
        title: &str,
        limit: f64,
        critical: f64,
        parent: Option<&Gauge>,
        about: About,
    ) -> Option<Stepped> {
        let gauge = Gauge::above(name, title, Severity::Warning, limit, limit - MARGIN)?.below(parent);
        let gauge = Gauge { limit: String::new(), ..gauge }.known_as(about);
        let warning = Arc::clone(&gauge.spec);
        let spec = Spec { severity: Severity::Critical, ..Spec::clone(&warning) };
        let limits = [limit, if critical > 0.0 { critical } else { f64::INFINITY }];
        Some(Stepped { gauge, warning, critical: Arc::new(spec), limits, is_critical: false })
    }

    /// The signal's key.
    pub fn key(&self) -> &SignalKey {
        self.gauge.key()
    }

    /// True for a share that may fire.
    pub fn is_bad(&self, percent: f64) -> bool {
        self.gauge.is_bad(Reading::Value(percent))
    }

    /// The ceilings in words.
    pub fn limits(&self) -> String {
        match self.limits {
            [warning, critical] if critical <= warning => format!("critical at {warning} %"),
            [warning, critical] if critical.is_finite() => {
                format!("warning at {warning} %, critical at {critical} %")
            }
            [warning, _] => format!("warning at {warning} %"),
        }
    }

    /// Like [`Gauge::observe`], with the severity of what was read.
    pub fn observe(&mut self, seen: Seen<(f64, String)>, seen_at: Mono) -> Option<Observation> {
        if let Ok((value, _)) = &seen {
            let [warning, critical] = self.limits;
            let step = if self.is_critical { critical - STEP } else { critical };
            self.is_critical = critical <= warning || *value > step;
        }
        let spec = if self.is_critical { &self.critical } else { &self.warning };
        self.gauge.spec = Arc::clone(spec);
        self.gauge.observe(seen.map(|(value, fact)| (Reading::Value(value), fact)), seen_at)
    }
}

fn ceiling(limit: f64, clear: f64) -> Rule {
    Rule::counted(Test::Above { limit, clear: clear.max(0.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn severities(limit: f64, critical: f64, values: &[f64]) -> Vec<Severity> {
        let mut gauge = Stepped::new("disk:/", "disk /", limit, critical, None, About::default()).unwrap();
        let mut one = |value: f64| gauge.observe(Ok((value, String::new())), Mono(0)).unwrap().spec.severity;
        values.iter().map(|value| one(*value)).collect()
    }

    #[test]
    fn the_severity_rises_at_the_second_ceiling_and_falls_a_little_below_it() {
        use Severity::{Critical, Warning};
        assert_eq!(
            severities(90.0, 97.0, &[50.0, 95.0, 97.0, 97.1, 95.1, 95.0, 96.0]),
            [Warning, Warning, Warning, Critical, Critical, Warning, Warning]
        );
        assert_eq!(severities(97.0, 97.0, &[50.0, 98.0]), [Critical, Critical]);
        assert_eq!(severities(98.0, 97.0, &[97.5]), [Critical]);
        assert_eq!(severities(90.0, 0.0, &[100.0]), [Warning]);
        assert!(Stepped::new("disk:/", "disk /", 0.0, 97.0, None, About::default()).is_none());
    }

    #[test]
    fn the_ceilings_are_said() {
        let words = |limit, critical| Stepped::new("d", "d", limit, critical, None, About::default()).unwrap().limits();
        assert_eq!(words(90.0, 97.0), "warning at 90 %, critical at 97 %");
        assert_eq!(words(97.0, 97.0), "critical at 97 %");
        assert_eq!(words(90.0, 0.0), "warning at 90 %");
    }
}
