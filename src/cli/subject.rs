//! Which signal a person means: by its key, its incident, its own name, a part of its name.

use std::sync::Arc;

use crate::serve::Snapshot;
use crate::serve::snapshot::SignalView;

/// Candidates that are listed at most.
const LISTED: usize = 20;

/// What a person's words lead to.
#[derive(Debug, Clone, PartialEq)]
pub enum Meant {
    /// One signal or target, by its key.
    One(String),
    /// Several, by their keys: the words do not say which. At most so many; and how many more there are.
    Several(Vec<String>, usize),
    /// None.
    Nothing,
}

/// What `wanted` means among all signals and targets.
pub fn find(snapshot: &Snapshot, wanted: &str) -> Meant {
    let targets = || snapshot.targets.iter().map(|target| target.name.as_str());
    let node = format!("node/{wanted}");
    let exact = snapshot.signals.iter().map(|signal| signal.key.as_str()).chain(targets());
    if let Some(key) = exact.clone().find(|key| *key == wanted).or_else(|| targets().find(|name| *name == node)) {
        return Meant::One(key.to_string());
    }
    if let Some(incident) = wanted.strip_prefix('#') {
        let open = snapshot.signals.iter().find(|signal| signal.incident.as_ref().is_some_and(|i| i.0 == incident));
        return open.map_or(Meant::Nothing, |signal| Meant::One(signal.key.to_string()));
    }
    if let Some(signal) = snapshot.signals.iter().find(|s| s.incident.as_ref().is_some_and(|i| i.0 == wanted)) {
        return Meant::One(signal.key.to_string());
    }
    let wanted = wanted.to_lowercase();
    if wanted.is_empty() {
        return Meant::Nothing;
    }
    for is_meant in RULES {
        let mut meant: Vec<String> = snapshot
            .signals
            .iter()
            .filter(|signal| names(signal).iter().any(|name| is_meant(name, &wanted)))
            .map(|signal| signal.key.to_string())
            .collect();
        meant.sort();
        meant.dedup();
        match meant.len() {
            0 => {}
            1 => return meant.pop().map_or(Meant::Nothing, Meant::One),
            count => {
                meant.truncate(LISTED);
                return Meant::Several(meant, count.saturating_sub(LISTED));
            }
        }
    }
    Meant::Nothing
}

/// When a name is meant by a word, the strictest first; the first rule by which anything is meant decides.
const RULES: [fn(&str, &str) -> bool; 4] = [
    |name, wanted| name == wanted,
    // shop-sonarr-1 has a part sonarr.
    |name, wanted| name.split(['-', '_', '.', ':', '/', ' ']).any(|part| part == wanted),
    |name, wanted| name.starts_with(wanted) || name.ends_with(wanted),
    |name, wanted| name.contains(wanted),
];

/// The names that a person may know a signal by, in lower case: its own, its title, what stands behind the kind in its
/// key.
fn names(signal: &Arc<SignalView>) -> Vec<String> {
    let key = signal.key.as_str();
    let tail = key.split_once('/').map_or(key, |(_, tail)| tail);
    let mut names = vec![signal.name().to_lowercase(), signal.title.to_lowercase(), tail.to_lowercase()];
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::about::About;
    use crate::core::edge::Incident;
    use crate::core::signal::{Severity, SignalKey, State};
    use crate::serve::snapshot::TargetView;

    fn signal(key: &str, name: &str, incident: Option<&str>) -> Arc<SignalView> {
        Arc::new(SignalView {
            key: SignalKey::new(key),
            state: State::Ok,
            severity: Severity::Critical,
            title: key.replace('/', " ").into(),
            detail: "".into(),
            since: None,
            incident: incident.map(|id| Incident(id.to_string())),
            reason: Arc::default(),
            last_alert_at: None,
            silenced: None,
            about: Some(Arc::new(About { name: name.into(), ..About::default() })),
            details: None,
            strip: Arc::default(),
        })
    }

    #[test]
    fn a_person_s_words_lead_to_one_signal_or_to_the_candidates() {
        let target = TargetView { name: "node/n1".into(), ..TargetView::default() };
        let snapshot = Snapshot {
            signals: vec![
                signal("container/media-sonarr-1", "sonarr", None),
                signal("container/shop-web-1", "", Some("k3f9m2")),
                signal("container/shop-web-2", "", None),
                signal("container/shop-worker-1", "", None),
                signal("probe/Shop home page", "", None),
                signal("node/n1", "", None),
                signal("host/disk:/srv", "disk /srv", None),
            ],
            targets: vec![Arc::new(target)],
            ..Snapshot::default()
        };
        let several = |keys: &[&str]| Meant::Several(keys.iter().map(ToString::to_string).collect(), 0);
        let one = |key: &str| Meant::One(key.to_string());
        let table = [
            ("container/shop-web-1", one("container/shop-web-1")),
            ("sonarr", one("container/media-sonarr-1")),
            ("Sonarr", one("container/media-sonarr-1")),
            ("media", one("container/media-sonarr-1")),
            ("#k3f9m2", one("container/shop-web-1")),
            ("k3f9m2", one("container/shop-web-1")),
            ("#zzzzzz", Meant::Nothing),
            ("web", several(&["container/shop-web-1", "container/shop-web-2"])),
            ("shop-web-2", one("container/shop-web-2")),
            ("shop-work", one("container/shop-worker-1")),
            ("home", one("probe/Shop home page")),
            ("n1", one("node/n1")),
            ("/srv", one("host/disk:/srv")),
            ("disk /srv", one("host/disk:/srv")),
            ("worker-1", one("container/shop-worker-1")),
            ("", Meant::Nothing),
            ("nothing", Meant::Nothing),
        ];
        for (wanted, expected) in table {
            assert_eq!(find(&snapshot, wanted), expected, "{wanted}");
        }
        let many: Vec<_> = (0..30).map(|n| signal(&format!("probe/p-{n}"), "", None)).collect();
        let many = Snapshot { signals: many, ..Snapshot::default() };
        assert!(matches!(find(&many, "p"), Meant::Several(keys, 10) if keys.len() == 20));
    }
}
