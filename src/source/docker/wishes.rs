//! What whoever runs a container wrote on it for whoever is woken by it: labels.
//!
//! `watchdog.note` and `watchdog.runbook` stand in each message about it, `watchdog.severity` overrides
//! `docker.severity`. Labels come from other people's files: they are cut and cleaned here, and one that cannot be
//! used is left out and counted, never guessed.

use super::fact::clean;
use crate::client::docker::Listed;
use crate::core::signal::Severity;

const NOTE: &str = "watchdog.note";
const RUNBOOK: &str = "watchdog.runbook";
const SEVERITY: &str = "watchdog.severity";
/// Characters of a note or an address at most.
const LENGTH: usize = 300;

/// What the labels of a container ask for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wishes {
    /// For whoever is woken.
    pub note: String,
    /// Where the instructions are: an http or https URL.
    pub runbook: String,
    /// How much it matters.
    pub severity: Option<Severity>,
    /// The names of labels that cannot be used.
    pub wrong: Vec<&'static str>,
}

impl Wishes {
    /// From the labels of the list.
    pub fn of(listed: &Listed) -> Wishes {
        let label = |name: &str| listed.labels.get(name).map(|value| clean(value, LENGTH)).unwrap_or_default();
        let mut wishes = Wishes { note: label(NOTE), ..Wishes::default() };
        let runbook = label(RUNBOOK);
        if runbook.starts_with("https://") || runbook.starts_with("http://") {
            wishes.runbook = runbook;
        } else if !runbook.is_empty() {
            wishes.wrong.push(RUNBOOK);
        }
        wishes.severity = match label(SEVERITY).to_ascii_lowercase().as_str() {
            "critical" => Some(Severity::Critical),
            "warning" => Some(Severity::Warning),
            "info" => Some(Severity::Info),
            "" => None,
            _ => {
                wishes.wrong.push(SEVERITY);
                None
            }
        };
        wishes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(labels: &[(&str, &str)]) -> Wishes {
        let labels = labels.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect();
        Wishes::of(&Listed { labels, ..Listed::default() })
    }

    #[test]
    fn labels_are_read_cleaned_and_cut_and_wrong_ones_named() {
        assert_eq!(of(&[("other", "x")]), Wishes::default());
        let wishes = of(&[(NOTE, "ask\nthe \u{202e}shop team"), (RUNBOOK, "https://wiki/shop"), (SEVERITY, "Warning")]);
        assert_eq!((wishes.note.as_str(), wishes.runbook.as_str()), ("ask the shop team", "https://wiki/shop"));
        assert_eq!((wishes.severity, wishes.wrong.len()), (Some(Severity::Warning), 0));
        let wrong = of(&[(RUNBOOK, "javascript:alert(1)"), (SEVERITY, "urgent"), (NOTE, &"x".repeat(9_999))]);
        assert_eq!((wrong.wrong.as_slice(), wrong.severity), (&[RUNBOOK, SEVERITY][..], None));
        assert!(wrong.runbook.is_empty() && wrong.note.len() == LENGTH);
    }
}
