//! What probes have in common: those of one host and port fail together, and are told together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Probe;
use crate::core::about::About;
use crate::core::signal::Spec;

/// Probes that are looked at together at most: more of one server would be a burst.
const AT_ONCE: usize = 16;

/// Gives all probes of one host and port one cause, where there are several. It is called by what their names begin
/// with, if they have that in common: `nginx (127.0.0.1:8443)` for `nginx-tcp` and `nginx-page`.
pub fn share(probes: &mut [Probe]) {
    let mut places: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, probe) in probes.iter().enumerate() {
        if let Some(place) = &probe.place {
            places.entry(place.clone()).or_default().push(index);
        }
    }
    for (place, members) in places.into_iter().filter(|(_, members)| members.len() > 1) {
        let name_of = |index: &usize| probes.get(*index).map_or("", |probe| name(&probe.spec));
        let names: Vec<&str> = members.iter().map(name_of).collect();
        let cause: Arc<str> = match begin(&names) {
            "" => place.into(),
            begin => format!("{begin} ({place})").into(),
        };
        let peers = u32::try_from(members.len()).unwrap_or(u32::MAX);
        for index in members {
            let Some(probe) = probes.get_mut(index) else { continue };
            let about = probe.spec.about.as_deref().cloned().unwrap_or_default();
            let about = About { cause: Arc::clone(&cause), peers, ..about };
            probe.spec = Arc::new(Spec::clone(&probe.spec).about(about));
        }
    }
}

/// For each probe the first one of its host and port and its interval: they are looked at together, so that what they
/// have in common is seen by all of them at once.
pub fn leaders(probes: &[Probe]) -> Vec<usize> {
    let mut groups: BTreeMap<(&str, Duration), Vec<usize>> = BTreeMap::new();
    for (index, probe) in probes.iter().enumerate() {
        if let Some(place) = &probe.place {
            groups.entry((place.as_str(), probe.pace.interval)).or_default().push(index);
        }
    }
    let mut leaders: Vec<usize> = (0..probes.len()).collect();
    for members in groups.into_values().filter(|members| members.len() <= AT_ONCE) {
        let Some(first) = members.first().copied() else { continue };
        for index in members {
            if let Some(leader) = leaders.get_mut(index) {
                *leader = first;
            }
        }
    }
    leaders
}

fn name(spec: &Spec) -> &str {
    spec.key.as_str().strip_prefix("probe/").unwrap_or_default()
}

/// What all names begin with, up to a separator or the end of one of them.
fn begin<'a>(names: &[&'a str]) -> &'a str {
    let Some((first, rest)) = names.split_first() else { return "" };
    let shared = |other: &&str| first.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let length = rest.iter().map(shared).min().unwrap_or(first.len());
    let is_end = |at: usize| {
        names.iter().all(|name| name.get(at..).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_', '.'])))
    };
    let end = (1..=length).rev().find(|at| is_end(*at)).unwrap_or(0);
    first.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_called_by_what_the_names_begin_with() {
        for (names, common) in [
            (&["nginx-tcp", "nginx-page", "nginx-cert"][..], "nginx"),
            (&["nginx", "nginx-page"], "nginx"),
            (&["web.a", "web.b"], "web"),
            (&["shop-web-a", "shop-web-b"], "shop-web"),
            (&["api", "app"], ""),
            (&["a", "b"], ""),
            (&["web", "website"], ""),
        ] {
            assert_eq!(begin(names), common, "{names:?}");
        }
    }
}
