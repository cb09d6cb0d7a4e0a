//! How this machine looks names up: what `resolv.conf` and the hosts file say about a name.
//!
//! The lookup itself is left to the system's resolver, with everything that it knows (hosts file, mDNS,
//! other services). Decided here is only which spelling it is given. A name with a dot is absolute: with
//! the search list a name that is gone would be found at any domain with a wildcard. A name without one
//! keeps the search list, as names of containers and services need it. Where `ndots` says that names with
//! dots are relative, as in Kubernetes, the domains of the cluster complete them, and no others.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
/// Bytes of resolv.conf that are read.
const CONF: u64 = 64 * 1024;
/// Bytes of the hosts file that are read: lists that block advertisements are long.
const LISTED: u64 = 32 * 1024 * 1024;
/// Names of which is remembered whether the hosts file has them.
const NAMES: usize = 16_384;

/// The part of `resolv.conf` that matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conf {
    servers: Vec<IpAddr>,
    search: Vec<String>,
    ndots: usize,
}

impl Conf {
    /// What the file says now.
    pub fn read() -> Conf {
        let mut text = String::new();
        // Without a file the resolver asks the machine itself and has no search list: the default.
        if let Ok(file) = File::open(RESOLV_CONF) {
            let _ = file.take(CONF).read_to_string(&mut text);
        }
        Conf::parse(&text)
    }

    fn parse(text: &str) -> Conf {
        let mut conf = Conf { ndots: 1, ..Conf::default() };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => conf.servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok())),
                Some("domain" | "search") => {
                    conf.search = words.map(|word| word.trim_matches('.').to_ascii_lowercase()).collect();
                }
                Some("options") => {
                    let ndots = words.filter_map(|word| word.strip_prefix("ndots:")?.parse().ok()).next_back();
                    conf.ndots = ndots.unwrap_or(conf.ndots);
                }
                _ => {}
            }
        }
        conf
    }

    /// The first name server.
    pub fn server(&self) -> Option<SocketAddr> {
        self.servers.first().map(|address| SocketAddr::new(*address, 53))
    }

    /// What a name with dots may stand for, each absolute, in the order in which to try them.
    fn absolute(&self, name: &str) -> Vec<String> {
        let dots = name.bytes().filter(|byte| *byte == b'.').count();
        let mut all = Vec::new();
        if dots < self.ndots {
            let cluster = self.search.iter().find_map(|domain| domain.strip_prefix("svc."));
            let of_cluster = |domain: &&String| {
                cluster.is_some_and(|cluster| {
                    *domain == cluster || domain.strip_suffix(cluster).is_some_and(|rest| rest.ends_with("svc."))
                })
            };
            all.extend(self.search.iter().filter(of_cluster).map(|domain| format!("{name}.{domain}.")));
        }
        all.push(format!("{name}."));
        all
    }
}

/// The spellings of `name` to hand to the system's resolver; the first that is found counts.
pub fn spellings(name: &str) -> Vec<String> {
    let is_plain = !name.contains('.') || name.ends_with('.');
    // The hosts file and services for names on the local network know their names as they are written.
    if is_plain || is_local(name) || is_listed(name) { vec![name.to_string()] } else { Conf::read().absolute(name) }
}

/// Names that are answered without a name server: `localhost` and what is below it, and `printer.local`.
/// Longer names that end in `local` are those of a cluster.
pub fn is_local(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    match name.rsplit_once('.') {
        None => name == "localhost",
        Some((rest, "local")) => !rest.contains('.'),
        Some((_, top)) => top == "localhost",
    }
}

/// What is known of the hosts file as it was at one time.
struct Known {
    /// When it was changed and its length.
    stamp: Option<(SystemTime, u64)>,
    names: BTreeMap<String, bool>,
}

static KNOWN: Mutex<Known> = Mutex::new(Known { stamp: None, names: BTreeMap::new() });

/// Whether the hosts file has this name.
pub fn is_listed(name: &str) -> bool {
    let stamp = fs::metadata(HOSTS).ok().and_then(|file| Some((file.modified().ok()?, file.len())));
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if known.stamp != stamp || known.names.len() >= NAMES {
        *known = Known { stamp, names: BTreeMap::new() };
    }
    if let Some(is_listed) = known.names.get(&name) {
        return *is_listed;
    }
    let is_listed = lists(Path::new(HOSTS), &name);
    known.names.insert(name, is_listed);
    is_listed
}

fn lists(hosts: &Path, name: &str) -> bool {
    let Ok(file) = File::open(hosts) else { return false };
    let lines = BufReader::new(file.take(LISTED)).split(b'\n');
    // A line that cannot be read ends the file.
    lines.map_while(Result::ok).any(|line| {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        words.next().is_some() && words.any(|word| word.eq_ignore_ascii_case(name.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dotted_name_is_absolute_unless_the_cluster_completes_it() {
        let home = Conf::parse("nameserver 192.168.1.1\nsearch home.lan wild.test\n");
        assert_eq!(home.absolute("gone.example.org"), ["gone.example.org."]);
        let pod = Conf::parse(
            "search prod.svc.cluster.local svc.cluster.local cluster.local host.test\nnameserver 10.96.0.10\noptions ndots:5\n",
        );
        let completed = ["prod.svc.cluster.local.", "svc.cluster.local.", "cluster.local."];
        let mut right: Vec<String> = completed.iter().map(|domain| format!("redis.data.{domain}")).collect();
        right.push("redis.data.".to_string());
        assert_eq!(pod.absolute("redis.data"), right);
        assert_eq!(pod.absolute("a.b.c.d.e.f"), ["a.b.c.d.e.f."], "as many dots as ndots");
        // Many dots alone make no cluster.
        let odd = Conf::parse("search wild.test notsvc.wild.test\noptions timeout:1 ndots:5\n");
        assert_eq!(odd.absolute("gone.example.org"), ["gone.example.org."]);
    }

    #[test]
    fn what_is_odd_in_resolv_conf_is_passed_over() {
        let text = "# comment\nnameserver\nnameserver fe80::1%eth0\nnameserver 127.0.0.11\nsearch a\nsearch\noptions ndots:x\n\0\n";
        let conf = Conf::parse(text);
        assert_eq!(conf, Conf { servers: vec!["127.0.0.11".parse().unwrap()], search: Vec::new(), ndots: 1 });
        assert_eq!(conf.server(), Some("127.0.0.11:53".parse().unwrap()));
        assert_eq!(Conf::parse("").server(), None);
    }

    #[test]
    fn names_on_the_machine_and_the_local_network_keep_their_spelling() {
        for name in ["db", "localhost", "app.localhost", "printer.local", "whole.example.org."] {
            assert_eq!(spellings(name), [name], "{name}");
        }
        assert!(!is_local("notlocal") && !is_local("db.prod.svc.cluster.local") && !is_local("local.example.org"));
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), b"# 10.0.0.1 gone.example\n10.0.0.1\tdb.example DB2.example # x.example\n\xff\xfe\n")
            .unwrap();
        assert!(lists(file.path(), "db.example") && lists(file.path(), "db2.example"));
        assert!(
            !lists(file.path(), "gone.example") && !lists(file.path(), "x.example") && !lists(file.path(), "10.0.0.1")
        );
    }
}
