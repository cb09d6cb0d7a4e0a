//! The signal of one container: its key, the name that a person uses, what it shares with others.
//!
//! Each container has several specs of one key: the usual one, and one for what a command did, which has a severity
//! of its own and is told once (`adr/0034-who-did-it.md`). Both are made when a container is met under another name or
//! with other labels, and handed out again and again after that.

use std::sync::Arc;

use super::DockerSource;
use super::fact::clean;
use super::select::Called;
use super::wishes::Wishes;
use crate::core::about::About;
use crate::core::name;
use crate::core::rule::{Rule, Test, UNKNOWN_AFTER};
use crate::core::signal::{SignalKey, Spec};

/// Characters of a container's name in its key.
const NAME_LENGTH: usize = 128;
/// Characters of a name or a project that are shown.
const SHOWN: usize = 64;

/// The specs of one container.
#[derive(Debug, Clone)]
pub struct Specs {
    /// For what happens by itself.
    pub usual: Arc<Spec>,
    /// For what a command did.
    pub planned: Arc<Spec>,
    /// For when it is back from that.
    pub back: Arc<Spec>,
}

/// What planned news of containers that belong to no project have in common: somebody works here.
const CONTAINERS: &str = "containers";

impl Specs {
    /// Its key.
    pub fn key(&self) -> &SignalKey {
        &self.usual.key
    }
}

/// The name that a person uses: the compose service, with its number where there are several, or the container's.
pub fn human(called: &Called) -> String {
    let (Some(project), Some(service)) = (&called.project, &called.service) else {
        return clean(&called.name, SHOWN);
    };
    let of_project = called.name.strip_prefix(project.as_str()).and_then(|rest| rest.strip_prefix('-'));
    let number = of_project.and_then(|rest| rest.strip_prefix(service.as_str())?.strip_prefix('-'));
    match number {
        Some(number) if number != "1" && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => {
            clean(&format!("{service}-{number}"), SHOWN)
        }
        _ => clean(service, SHOWN),
    }
}

/// What it belongs to: `project shop`; nothing for a container that compose did not make.
pub fn group(called: &Called) -> String {
    called.project.as_deref().map(|project| format!("project {}", clean(project, SHOWN))).unwrap_or_default()
}

impl DockerSource {
    /// The specs of a container.
    pub(super) fn specs(&self, called: &Called, wishes: &Wishes) -> Specs {
        let key = name::bounded(&called.name, NAME_LENGTH, |c| c == ' ' || !(c.is_whitespace() || c.is_control()));
        // A run that proves nothing yet must not be told as one that nobody can see.
        let unknown_after = UNKNOWN_AFTER.max(self.settings.restart_window.0 + self.outfit.tick * 2);
        let group: Arc<str> = group(called).into();
        let about = About {
            name: human(called).into(),
            // What fails together in one project has one cause until somebody finds another.
            cause: Arc::clone(&group),
            group,
            note: wishes.note.as_str().into(),
            runbook: wishes.runbook.as_str().into(),
            ..About::default()
        };
        let spec = Spec::new(
            SignalKey::new(&format!("container/{key}")),
            format!("container {}", clean(&called.name, NAME_LENGTH)),
            wishes.severity.unwrap_or(self.settings.severity),
            Rule { unknown_after, ..Rule::at_once(Test::Verdict) },
        );
        // Two that fail by themselves have nothing in common but the machine; two that are stopped have the person.
        let cause = if about.cause.is_empty() { CONTAINERS.into() } else { Arc::clone(&about.cause) };
        let back = Arc::new(spec.clone().about(About { cause, ..about.clone() }));
        let severity = self.settings.planned.severity();
        let planned = Arc::new(Spec { severity, meant: true, ..Spec::clone(&back) });
        Specs { usual: Arc::new(spec.about(about)), planned, back }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_calls_it_by_its_service_and_counts_from_the_second_on() {
        let called = |name: &str, project: Option<&str>, service: Option<&str>| Called {
            name: name.into(),
            project: project.map(str::to_string),
            service: service.map(str::to_string),
            ..Called::default()
        };
        let shop = Some("shop");
        assert_eq!(human(&called("shop-redis-1", shop, Some("redis"))), "redis");
        assert_eq!(human(&called("shop-web-12", shop, Some("web"))), "web-12");
        assert_eq!(human(&called("cache", shop, Some("redis"))), "redis", "a container_name of its own");
        assert_eq!(human(&called("shop-web-x", shop, Some("web"))), "web");
        assert_eq!(human(&called("by-hand", None, None)), "by-hand");
        assert_eq!(group(&called("shop-redis-1", shop, Some("redis"))), "project shop");
        assert_eq!(group(&called("by-hand", None, None)), "");
    }
}
