//! Which containers are watched, and what makes two of them the same one.
//!
//! A container that compose made anew is the same to a person: project, service and number say so
//! (F26). Any other is its name. Reads labels and names only; the place in which we ourselves run is found
//! by [`own_ids`], from what the kernel shows to any process in a container.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::client::docker::Listed;
use crate::core::glob::matches;

/// Label by which a container opts out.
pub const OPT_OUT: &str = "watchdog.enable";
/// Label by which a container says that it must be there.
pub const REQUIRED: &str = "watchdog.required";
const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
const NUMBER: &str = "com.docker.compose.container-number";
const ONE_OFF: &str = "com.docker.compose.oneoff";
const DEPENDS_ON: &str = "com.docker.compose.depends_on";
/// Every label that is read here.
pub const LABELS: [&str; 7] = [OPT_OUT, REQUIRED, PROJECT, SERVICE, NUMBER, ONE_OFF, DEPENDS_ON];

/// How a container is called.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Called {
    /// What makes it the same one after it was made anew.
    pub identity: String,
    /// Its name without `/`, and without the prefix that compose gives it while it replaces another.
    pub name: String,
    /// Its compose project.
    pub project: Option<String>,
    /// Its compose service.
    pub service: Option<String>,
    /// Its label says that it must be there.
    pub required: bool,
}

impl Called {
    /// From the labels and names of the list.
    pub fn of(listed: &Listed) -> Called {
        let label = |name: &str| listed.labels.get(name).filter(|value| !value.is_empty()).cloned();
        let own = listed.names.iter().map(|name| name.strip_prefix('/').unwrap_or(name)).find(|n| !n.contains('/'));
        let full = own.map_or_else(|| listed.id.chars().take(12).collect(), str::to_string);
        let (project, service) = (label(PROJECT), label(SERVICE));
        let required = label(REQUIRED).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        match (project, service) {
            (Some(project), Some(service)) => {
                let number = label(NUMBER).unwrap_or_else(|| "1".to_string());
                let identity = format!("compose {project}/{service}/{number}");
                let name = without_replacement_prefix(&full).to_string();
                Called { identity, name, project: Some(project), service: Some(service), required }
            }
            (project, service) => Called { identity: format!("name {full}"), name: full, project, service, required },
        }
    }
}

/// Which services others wait for, and how: `service_healthy`.
#[derive(Debug, Default)]
pub struct Awaited(BTreeSet<(String, String, String)>);

impl Awaited {
    /// From what compose notes on those that wait: `db:service_healthy:false,migrate:service_started:true`.
    pub fn of(list: &[Listed]) -> Awaited {
        let mut awaited = BTreeSet::new();
        for listed in list {
            let label = |name: &str| listed.labels.get(name).map(String::as_str).unwrap_or_default();
            for one in label(DEPENDS_ON).split(',') {
                let mut parts = one.split(':');
                if let (Some(service), Some(how)) = (parts.next(), parts.next()) {
                    awaited.insert((label(PROJECT).to_string(), service.to_string(), how.to_string()));
                }
            }
        }
        Awaited(awaited)
    }

    /// True when some container waits for `called` in this way.
    pub fn has(&self, called: &Called, how: &str) -> bool {
        let (Some(project), Some(service)) = (&called.project, &called.service) else { return false };
        self.0.contains(&(project.clone(), service.clone(), how.to_string()))
    }
}

/// Compose calls a container `<12 digits of the old id>_<name>` until the old one is gone.
fn without_replacement_prefix(name: &str) -> &str {
    match name.split_once('_') {
        Some((prefix, rest)) if is_hex(prefix, 12) && !rest.is_empty() => rest,
        _ => name,
    }
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// What the settings and our own place say about who is watched.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Names or services; none for all of the own project, or simply all.
    pub containers: Vec<String>,
    /// Names or services that are not watched.
    pub exclude: Vec<String>,
    /// The compose project that we ourselves belong to.
    pub project: Option<String>,
}

/// Whether a container is watched, and if not, why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// As a container that is to run.
    Watched,
    /// As a job that compose runs once (`docker compose run`): its end is told when it is an error.
    Job,
    /// Not: its label says so.
    OptedOut,
    /// Not: `exclude` names it.
    Excluded,
    /// Not: `containers` does not name it, or it is not of our project.
    NotMeant,
}

impl Selection {
    /// Whether this container is watched.
    pub fn judge(&self, listed: &Listed, called: &Called) -> Choice {
        let label = |name: &str| listed.labels.get(name).map(String::as_str).unwrap_or_default();
        let meant = if self.containers.is_empty() {
            self.project.is_none() || self.project == called.project
        } else {
            self.containers.iter().any(|pattern| self.means(pattern, called))
        };
        if !meant {
            Choice::NotMeant
        } else if label(OPT_OUT).eq_ignore_ascii_case("false") {
            Choice::OptedOut
        } else if self.exclude.iter().any(|pattern| self.means(pattern, called)) {
            Choice::Excluded
        } else if label(ONE_OFF).eq_ignore_ascii_case("true") {
            Choice::Job
        } else {
            Choice::Watched
        }
    }

    /// True when somebody insists that this container runs: its name stands in `containers`, or its label says so.
    pub fn requires(&self, listed: &Listed, called: &Called) -> bool {
        listed.labels.get(REQUIRED).is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || self.named().any(|name| self.means(name, called))
    }

    /// True when this container is watched as one that is to run.
    pub fn takes(&self, listed: &Listed, called: &Called) -> bool {
        self.judge(listed, called) == Choice::Watched
    }

    /// True when `pattern` is this container's name or service. A service name speaks of our own
    /// project, when we have one.
    pub fn means(&self, pattern: &str, called: &Called) -> bool {
        let ours = self.project.is_none() || self.project == called.project;
        matches(pattern, &called.name) || (ours && called.service.as_deref().is_some_and(|s| matches(pattern, s)))
    }

    /// The names without a wildcard, each of which must be there.
    pub fn named(&self) -> impl Iterator<Item = &str> {
        self.containers.iter().map(String::as_str).filter(|pattern| !pattern.contains(['*', '?']))
    }
}

/// Among containers of one identity the larger one stands for it: what runs before what waits
/// before what ended, then the newer.
pub fn worth(listed: &Listed) -> (u8, i64, &str) {
    let rank = match listed.state.as_str() {
        "running" => 6,
        "restarting" => 5,
        "paused" => 4,
        "created" => 3,
        "exited" => 2,
        "removing" => 1,
        _ => 0,
    };
    (rank, listed.created, &listed.id)
}

/// Ids, or beginnings of ids, of the container in which this process may run: from the files that
/// the engine mounts into it, from its control group, and from its host name.
pub fn own_ids() -> BTreeSet<String> {
    let text = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    ids_in(&text("/proc/self/mountinfo"), &text("/proc/self/cgroup"), &host)
}

fn ids_in(mountinfo: &str, cgroup: &str, host: &str) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for line in mountinfo.lines() {
        let mut fields = line.split(' ').skip(3);
        let (root, at) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        // On the host itself, containers' mounts show up elsewhere.
        if matches!(at, "/etc/hostname" | "/etc/hosts" | "/etc/resolv.conf") {
            ids.extend(root.split('/').filter(|part| is_hex(part, 64)).map(str::to_string));
        }
    }
    for path in cgroup.lines().filter_map(|line| line.rsplit(':').next()) {
        let last = path.rsplit('/').next().unwrap_or_default();
        let last = last.strip_prefix("docker-").and_then(|l| l.strip_suffix(".scope")).unwrap_or(last);
        if is_hex(last, 64) {
            ids.insert(last.to_string());
        }
    }
    if is_hex(host, 12) {
        ids.insert(host.to_string());
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(name: &str, labels: &[(&str, &str)]) -> Listed {
        Listed {
            id: "8dfafdbc3a40".repeat(6),
            names: vec![format!("/{name}")],
            labels: labels.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect(),
            ..Listed::default()
        }
    }

    const SHOP: [(&str, &str); 3] = [(PROJECT, "shop"), (SERVICE, "web"), (NUMBER, "1")];

    #[test]
    fn a_recreated_compose_container_is_the_same_one_under_the_same_name() {
        let old = Called::of(&listed("shop-web-1", &SHOP));
        let new = Called::of(&listed("8dfafdbc3a40_shop-web-1", &SHOP));
        assert_eq!(old, new);
        assert_eq!(old.name, "shop-web-1");
        let by_hand = Called::of(&listed("8dfafdbc3a40_web", &[]));
        assert_eq!(by_hand.name, "8dfafdbc3a40_web", "only compose names so");
    }

    #[test]
    fn links_and_missing_names_leave_a_name() {
        let linked = Listed { names: vec!["/other/alias".into(), "/web".into()], ..listed("x", &[]) };
        assert_eq!(Called::of(&linked).name, "web");
        let nameless = Listed { names: Vec::new(), ..listed("x", &[]) };
        assert_eq!(Called::of(&nameless).name, "8dfafdbc3a40");
    }

    #[test]
    fn names_project_labels_and_exclusions_choose() {
        let takes = |selection: &Selection, listed: &Listed| selection.takes(listed, &Called::of(listed));
        let web = listed("shop-web-1", &SHOP);
        let alien = listed("alien", &[]);
        let all = Selection::default();
        assert!(takes(&all, &web) && takes(&all, &alien));
        let ours = Selection { project: Some("shop".into()), ..Selection::default() };
        assert!(takes(&ours, &web) && !takes(&ours, &alien));
        let named = Selection { containers: vec!["web".into(), "ali*".into()], ..Selection::default() };
        assert!(takes(&named, &web) && takes(&named, &alien));
        let foreign =
            Selection { containers: vec!["web".into()], project: Some("other".into()), ..Selection::default() };
        assert!(!takes(&foreign, &web), "another project's service of that name is not meant");
        let full = Selection { containers: vec!["shop-web-1".into()], ..foreign };
        assert!(takes(&full, &web), "a full name is meant wherever it is");
        let without = Selection { exclude: vec!["web".into()], ..Selection::default() };
        assert!(!takes(&without, &web) && takes(&without, &alien));
        assert!(!takes(&all, &listed("a", &[(OPT_OUT, "false")])));
        assert!(!takes(&named, &listed("alien", &[(OPT_OUT, "False")])));
        assert!(!takes(&all, &listed("a", &[(ONE_OFF, "True")])));
    }

    #[test]
    fn a_star_stands_for_any_text() {
        let table = [
            ("web", "web", true),
            ("web", "web2", false),
            ("*", "", true),
            ("web-*", "web-1", true),
            ("*-db", "shop-db", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*a", "a", false),
            ("*é*", "café!", true),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn we_find_ourselves_inside_a_container_and_nobody_on_a_host() {
        let id = "8dfafdbc3a40".repeat(5) + "abcd";
        let inside =
            format!("600 590 8:1 /var/lib/docker/containers/{id}/hostname /etc/hostname rw - ext4 /dev/sda1 rw");
        assert_eq!(ids_in(&inside, "0::/\n", "web"), BTreeSet::from([id.clone()]));
        let host = format!("99 30 0:50 / /var/lib/docker/containers/{id}/mounts/shm rw - tmpfs shm rw");
        assert!(ids_in(&host, "0::/user.slice/session-1.scope\n", "myhost").is_empty());
        for cgroup in [format!("12:cpu:/docker/{id}\n"), format!("0::/system.slice/docker-{id}.scope\n")] {
            assert_eq!(ids_in("", &cgroup, "h"), BTreeSet::from([id.clone()]));
        }
        assert_eq!(ids_in("", "", "8dfafdbc3a40"), BTreeSet::from(["8dfafdbc3a40".to_string()]));
    }
}
