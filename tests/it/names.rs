//! Names as the system's own resolver looks them up, against a scripted name server in a network
//! namespace with its own `resolv.conf`: which names are bad looks, which say nothing, and who waits.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod whole;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use watchdog::client::http::{Http, Options};
use watchdog::clock::Clock;
use watchdog::config::Config;
use watchdog::core::signal::{Observation, Reading};
use watchdog::core::time::Mono;
use watchdog::source::probe::ENTRY;
use watchdog::source::{Ask, Outfit, Source};
use watchdog::wake::Waker;

use crate::daemon::{SOON, wait};
use crate::peer::dns::{DnsPeer, Says};
use crate::peer::http::{Manner, Peer};

/// True in a process whose resolver is set up by `resolv_conf` and whose only network is a loopback of
/// its own; where that is not the case, `test` is run again in such a process, and judged there.
fn inside(test: &str, resolv_conf: &str) -> bool {
    const INSIDE: &str = "WATCHDOG_TEST_NAMES";
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if !crate::parts::namespaces() {
        return false;
    }
    let (conf, hosts) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(conf.path(), resolv_conf).unwrap();
    std::fs::write(hosts.path(), "127.0.0.1 localhost\n10.9.9.9 listed.example.org listed\n").unwrap();
    let script = "mount --bind \"$1\" /etc/resolv.conf && mount --bind \"$2\" /etc/hosts && ip link set lo up && \
                  exec \"$3\" --exact \"$4\"";
    let mut inside = Command::new("unshare");
    inside.args(["-rmn", "sh", "-c", script, "sh"]).arg(conf.path()).arg(hosts.path());
    inside.arg(std::env::current_exe().unwrap()).arg(format!("names::{test}")).env(INSIDE, "1");
    assert!(inside.status().unwrap().success());
    false
}

struct Looks {
    source: Box<dyn Source>,
    clock: Clock,
}

/// The probes of these entries (`name`, target, further keys), looked at every 200 ms.
fn looks(probes: &[(&str, &str, &str)]) -> Looks {
    let clock = Clock::system();
    let outfit = Outfit {
        clock: clock.clone(),
        waker: Waker::new(),
        timeout: Duration::from_secs(2),
        tick: Duration::from_millis(200),
        previous_boot: None,
        seen_before: Arc::default(),
        kept: watchdog::source::Kept::default(),
    };
    let mut text = String::new();
    for (name, target, keys) in probes {
        writeln!(text, "[[probe]]\nname = \"{name}\"\ntarget = \"{target}\"\n{keys}").unwrap();
    }
    let config = Config::from_toml(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let source = (ENTRY.build)(&config, &outfit).unwrap_or_else(|e| panic!("{e}\n{text}")).expect("a probe");
    Looks { source, clock }
}

impl Looks {
    /// Looks once at each, now.
    fn once(&mut self) -> BTreeMap<String, Observation> {
        self.ask(true)
    }

    /// Looks until the readings are these: a look that began before the server said something else may
    /// still be on its way.
    fn until(&mut self, what: &str, right: &[(&str, Reading)]) -> BTreeMap<String, Observation> {
        let mut seen = BTreeMap::new();
        let deadline = Instant::now() + SOON;
        while Instant::now() < deadline {
            seen = self.once();
            if readings(&seen) == right {
                return seen;
            }
        }
        panic!("waited in vain for {what}: {seen:#?}");
    }

    fn ask(&mut self, once: bool) -> BTreeMap<String, Observation> {
        let ask = Ask { now: self.clock.now(), fresh_since: Mono(0), hurry_since: Mono(i64::MIN), once };
        let report = self.source.observe(&ask).unwrap();
        let bare = |o: &Observation| o.spec.key.as_str().trim_start_matches("probe/").to_string();
        report.observations.into_iter().map(|o| (bare(&o), o)).collect()
    }
}

fn readings(seen: &BTreeMap<String, Observation>) -> Vec<(&str, Reading)> {
    seen.iter().map(|(name, o)| (name.as_str(), o.reading)).collect()
}

#[test]
fn a_name_that_stops_resolving_while_others_resolve_is_down_and_unknown_while_none_does() {
    use Reading::{Down, Unknown, Up};
    let test = "a_name_that_stops_resolving_while_others_resolve_is_down_and_unknown_while_none_does";
    if !inside(test, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n") {
        return;
    }
    let dns = DnsPeer::start("127.0.0.1:53");
    let peer = Peer::start(Manner::answer("200 OK", "ok"));
    for name in ["a", "b", "www.other.example", "db.example.org"] {
        dns.has(name, &["127.0.0.1"]);
    }
    let tcp = format!("tcp://b:{}", peer.port());
    let http = format!("http://db.example.org:{}/", peer.port());
    let mut looks = looks(&[
        ("a", "dns://a", ""),
        ("b-dns", "dns://b", ""),
        ("b-tcp", &tcp, ""),
        ("d-dns", "dns://db.example.org", ""),
        ("d-http", &http, ""),
        ("w", "dns://www.other.example", ""),
    ]);
    let seen = looks.once();
    assert!(seen.values().all(|o| o.reading == Up), "{seen:#?}");
    // What a stopped container of an internal Docker network, and a zone with a broken server, look like.
    for says in [Says::Code(2), Says::Silence, Says::Code(3)] {
        dns.say("b", says.clone());
        dns.say("db.example.org", says.clone());
        let right = [("a", Up), ("b-dns", Down), ("b-tcp", Down), ("d-dns", Down), ("d-http", Down), ("w", Up)];
        let seen = looks.until(&format!("{says:?} to be seen"), &right);
        for name in ["b-dns", "b-tcp", "d-dns", "d-http"] {
            let fact = &seen[name].fact;
            assert!(fact.contains("does not resolve"), "{says:?} {name}: {fact}");
            assert!(matches!(says, Says::Code(3)) || fact.contains("does"), "{fact}");
        }
    }
    // Nobody resolves: it is the resolver, and that says nothing about the targets.
    for name in ["a", "b", "www.other.example", "db.example.org"] {
        dns.say(name, Says::Code(2));
    }
    let none = ["a", "b-dns", "b-tcp", "d-dns", "d-http", "w"].map(|name| (name, Unknown));
    looks.until("the resolver to be taken for broken", &none);
    for name in ["a", "b", "www.other.example", "db.example.org"] {
        dns.has(name, &["127.0.0.1"]);
    }
    looks.until("all to be well again", &none.map(|(name, _)| (name, Up)));
}

#[test]
fn a_name_never_seen_is_judged_by_the_others_too_and_the_machine_itself_is_no_witness() {
    let test = "a_name_never_seen_is_judged_by_the_others_too_and_the_machine_itself_is_no_witness";
    if !inside(test, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n") {
        return;
    }
    let dns = DnsPeer::start("127.0.0.1:53");
    dns.say("b.example.org", Says::Code(2));
    dns.has("www.other.example", &["127.0.0.1"]);
    // Names in the hosts file and addresses need no resolver: they prove nothing about it.
    let mut alone = looks(&[
        ("b", "dns://b.example.org", ""),
        ("listed", "dns://listed.example.org", "expect = [\"10.9.9.9\"]"),
        ("local", "dns://localhost", ""),
    ]);
    for _ in 0..2 {
        let seen = alone.once();
        let right = [("b", Reading::Unknown), ("listed", Reading::Up), ("local", Reading::Up)];
        assert_eq!(readings(&seen), right, "{seen:#?}");
    }
    drop(alone);
    let mut both = looks(&[("b", "dns://b.example.org", ""), ("w", "dns://www.other.example", "")]);
    let seen = both.until("one to be judged by the other", &[("b", Reading::Down), ("w", Reading::Up)]);
    assert!(seen["b"].fact.contains("www.other.example does"), "{}", seen["b"].fact);
}

#[test]
fn the_only_name_of_a_container_network_is_judged_by_our_own_name() {
    let test = "the_only_name_of_a_container_network_is_judged_by_our_own_name";
    if !inside(test, "nameserver 127.0.0.11\noptions ndots:0\n") {
        return;
    }
    let dns = DnsPeer::start("127.0.0.11:53");
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_lowercase();
    dns.has("b", &["127.0.0.1"]);
    dns.has(&own, &["10.0.0.2"]);
    let mut looks = looks(&[("b", "dns://b", "")]);
    assert_eq!(looks.once()["b"].reading, Reading::Up);
    dns.say("b", Says::Code(2));
    looks.until("our own name to be the witness", &[("b", Reading::Down)]);
    dns.say(&own, Says::Code(2));
    looks.until("the resolver to be taken for broken", &[("b", Reading::Unknown)]);
}

#[test]
fn a_dotted_name_is_looked_up_as_written_and_a_plain_one_with_the_search_list() {
    let test = "a_dotted_name_is_looked_up_as_written_and_a_plain_one_with_the_search_list";
    if !inside(test, "nameserver 127.0.0.1\nsearch wild.test\noptions timeout:1 attempts:1\n") {
        return;
    }
    let dns = DnsPeer::start("127.0.0.1:53");
    dns.has("*.wild.test", &["10.6.6.6"]);
    dns.has("there.example.org", &["10.0.0.7"]);
    let mut looks = looks(&[
        ("gone", "dns://gone.example.org", ""),
        ("gone-http", "http://gone.example.org:9/", ""),
        ("listed", "dns://listed.example.org", "expect = [\"10.9.9.9\"]"),
        ("service", "dns://service", "expect = [\"10.6.6.6\"]"),
        ("there", "dns://there.example.org", "expect = [\"10.0.0.7\"]"),
    ]);
    let seen = looks.once();
    let right = [
        ("gone", Reading::Down),
        ("gone-http", Reading::Down),
        ("listed", Reading::Up),
        ("service", Reading::Up),
        ("there", Reading::Up),
    ];
    assert_eq!(readings(&seen), right, "{seen:#?}");
    assert!(seen["gone"].fact.contains("gone.example.org does not resolve"), "{}", seen["gone"].fact);
    assert!(!dns.asked().contains(&"gone.example.org.wild.test".to_string()), "{:?}", dns.asked());
}

#[test]
fn in_kubernetes_only_the_domains_of_the_cluster_complete_a_dotted_name() {
    let test = "in_kubernetes_only_the_domains_of_the_cluster_complete_a_dotted_name";
    let conf = "nameserver 127.0.0.1\nsearch prod.svc.cluster.local svc.cluster.local cluster.local wild.test\n\
                options ndots:5 timeout:1 attempts:1\n";
    if !inside(test, conf) {
        return;
    }
    let dns = DnsPeer::start("127.0.0.1:53");
    dns.has("*.wild.test", &["10.6.6.6"]);
    dns.has("redis.data.svc.cluster.local", &["10.0.0.1"]);
    dns.has("api.prod.svc.cluster.local", &["10.0.0.2"]);
    dns.has("www.example.org", &["10.0.0.3"]);
    let mut looks = looks(&[
        ("gone", "dns://gone.example.org", ""),
        ("plain", "dns://api", "expect = [\"10.0.0.2\"]"),
        ("redis", "dns://redis.data", "expect = [\"10.0.0.1\"]"),
        ("redis-svc", "dns://redis.data.svc", "expect = [\"10.0.0.1\"]"),
        ("whole", "dns://redis.data.svc.cluster.local", "expect = [\"10.0.0.1\"]"),
        ("www", "dns://www.example.org", "expect = [\"10.0.0.3\"]"),
    ]);
    let seen = looks.once();
    let up = |name: &str| seen[name].reading == Reading::Up;
    assert!(["plain", "redis", "redis-svc", "whole", "www"].into_iter().all(up), "{seen:#?}");
    assert_eq!(seen["gone"].reading, Reading::Down, "{seen:#?}");
}

#[test]
fn an_answer_is_judged_whole_or_not_at_all() {
    let test = "an_answer_is_judged_whole_or_not_at_all";
    if !inside(test, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n") {
        return;
    }
    let dns = DnsPeer::start("127.0.0.1:53");
    let many: Vec<std::net::IpAddr> = (1..=60).map(|n| [10, 0, 0, n].into()).collect();
    dns.say("many.example.org", Says::Cut(5, many));
    dns.say("cut.example.org", Says::CutAndNoMore);
    let server = format!("server = \"{}\"\n", dns.address);
    let last = "expect = [\"10.0.0.60\"]";
    let mut looks = looks(&[
        ("cut", "dns://cut.example.org", last),
        ("many", "dns://many.example.org", last),
        ("many-not", "dns://many.example.org", "expect = [\"10.0.0.61\"]"),
        ("served", "dns://many.example.org", &format!("{server}{last}")),
        ("served-cut", "dns://cut.example.org", &format!("{server}{last}")),
    ]);
    let seen = looks.once();
    assert_eq!(seen["many"].reading, Reading::Up, "{seen:#?}");
    assert_eq!(seen["many-not"].reading, Reading::Down, "{seen:#?}");
    assert!(!seen["cut"].fact.contains("not to"), "a truncated answer is not judged: {seen:#?}");
    assert_eq!(seen["served"].reading, Reading::Up, "{seen:#?}");
    assert!(!seen["served-cut"].fact.contains("not to"), "a truncated answer is not judged: {seen:#?}");
}

#[test]
fn a_zone_whose_servers_never_answer_takes_neither_other_names_nor_our_own_calls() {
    let test = "a_zone_whose_servers_never_answer_takes_neither_other_names_nor_our_own_calls";
    if !inside(test, "nameserver 127.0.0.1\noptions timeout:10 attempts:2\n") {
        return;
    }
    let dns = DnsPeer::start("127.0.0.1:53");
    dns.say("*.dead.test", Says::Silence);
    for name in ["telegram.example.org", "www.other.example", "b"] {
        dns.has(name, &["127.0.0.1"]);
    }
    let peer = Peer::start(Manner::answer("200 OK", "ok"));
    let names: Vec<String> = (0..100).map(|n| format!("h{n}.dead.test")).collect();
    let mut entries: Vec<(&str, String)> = names.iter().map(|name| (name.as_str(), format!("dns://{name}"))).collect();
    entries.extend([("b", "dns://b".to_string()), ("w", "dns://www.other.example".to_string())]);
    let entries: Vec<(&str, &str, &str)> =
        entries.iter().map(|(name, target)| (*name, target.as_str(), "interval = \"1s\"")).collect();
    let mut looks = looks(&entries);
    let channel = Http::new(Options { timeout: Duration::from_secs(5), ..Options::default() });
    let url = format!("http://telegram.example.org:{}/", peer.port());
    let begun = Instant::now();
    let (mut sent, mut seen) = (0, BTreeMap::new());
    while begun.elapsed() < Duration::from_secs(8) {
        seen = looks.ask(false);
        let answer = channel.get(&url, &[]);
        assert!(answer.is_ok(), "{answer:?} after {:?}, {sent} sent", begun.elapsed());
        sent += 1;
        if begun.elapsed() > Duration::from_secs(2) {
            for name in ["b", "w"] {
                assert_eq!(seen[name].reading, Reading::Up, "{:?} after {:?}", seen[name], begun.elapsed());
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let dead = seen.values().filter(|o| o.spec.key.as_str().ends_with("dead.test"));
    for one in dead {
        assert_ne!(one.reading, Reading::Up, "{one:?}");
    }
}

#[test]
fn a_name_server_is_asked_itself_when_it_is_named() {
    let (dns, clock) = (DnsPeer::start("127.0.0.1:0"), Clock::system());
    dns.has("db.example.org", &["10.0.0.1", "2001:db8::1"]);
    dns.say("broken.example.org", Says::Code(2));
    dns.say("closed.example.org", Says::Code(5));
    dns.say("odd.example.org", Says::Bytes(vec![0x81, 0x80, 0xff, 0xff]));
    dns.say("silent.example.org", Says::Silence);
    dns.say("empty.example.org", Says::Addresses(Vec::new()));
    let refused = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("server = \"{refused}\"");
    let at = format!("server = \"{}\"\ntimeout = \"500ms\"", dns.address);
    let both = format!("{at}\nexpect = [\"10.0.0.1\", \"2001:db8::1\"]");
    let other = format!("{at}\nexpect = \"10.0.0.2\"");
    let table = [
        ("db.example.org", at.as_str(), Reading::Up, "resolves to 10.0.0.1, 2001:db8::1 in "),
        ("db.example.org", both.as_str(), Reading::Up, "resolves to"),
        ("db.example.org", other.as_str(), Reading::Down, "but not to 10.0.0.2"),
        ("gone.example.org", at.as_str(), Reading::Down, "answers NXDOMAIN: there is no such name"),
        ("broken.example.org", at.as_str(), Reading::Down, "answers SERVFAIL"),
        ("closed.example.org", at.as_str(), Reading::Down, "answers REFUSED"),
        ("empty.example.org", at.as_str(), Reading::Down, "answers that the name has no address"),
        ("odd.example.org", at.as_str(), Reading::Down, "is not a valid DNS message"),
        ("silent.example.org", at.as_str(), Reading::Down, "no answer from the name server 127.0.0.1:"),
        ("db.example.org", nobody.as_str(), Reading::Down, "no name server listens at 127.0.0.1:"),
    ];
    for (name, keys, reading, fact) in table {
        let mut looks = Looks { clock: clock.clone(), ..looks(&[("it", &format!("dns://{name}"), keys)]) };
        let seen = &looks.once()["it"];
        assert_eq!(seen.reading, reading, "{name}: {}", seen.fact);
        assert!(seen.fact.contains(fact), "{name}: {}", seen.fact);
    }
}

#[test]
fn a_lost_question_is_asked_again() {
    let dns = DnsPeer::start("127.0.0.1:0");
    dns.say("db.example.org", Says::Silence);
    let later = dns.clone();
    std::thread::spawn(move || {
        wait("the first question", || (!later.asked().is_empty()).then_some(()));
        later.has("db.example.org", &["10.0.0.1"]);
    });
    let keys = format!("server = \"{}\"\ntimeout = \"10s\"", dns.address);
    let seen = &looks(&[("it", "dns://db.example.org", &keys)]).once()["it"];
    assert_eq!(seen.reading, Reading::Up, "{}", seen.fact);
}

/// True in a process in a network namespace where pings are allowed to the groups in `range` (empty: as the
/// kernel begins, to none); elsewhere `test` is run again in one.
fn where_pings_are_for(range: &str, test: &str) -> bool {
    const INSIDE: &str = "WATCHDOG_TEST_PINGS";
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if !crate::parts::namespaces() {
        return false;
    }
    let script = "ip link set lo up && { test -z \"$1\" || echo \"$1\" > /proc/sys/net/ipv4/ping_group_range; } && exec \"$2\" --exact \"$3\"";
    let mut inside = Command::new("unshare");
    inside.args(["-rmn", "sh", "-c", script, "sh", range]).arg(std::env::current_exe().unwrap());
    assert!(inside.arg(format!("names::{test}")).env(INSIDE, "1").status().unwrap().success());
    false
}

#[test]
fn a_host_answers_a_ping_or_not() {
    use Reading::{Down, Unknown, Up};
    if !where_pings_are_for("0 0", "a_host_answers_a_ping_or_not") {
        return;
    }
    // An address of our own network that nobody has: the question goes out, and nothing comes back.
    let set_up = "ip link add wd0 type veth peer name wd1 && ip link set wd1 up && ip addr add 10.77.0.1/24 dev wd0 && ip link set wd0 up && \
                  ip neigh add 10.77.0.9 lladdr 02:00:00:00:00:09 dev wd0";
    assert!(Command::new("sh").args(["-c", set_up]).status().unwrap().success());
    let mut looks = looks(&[
        ("absent", "icmp://10.77.0.9", "timeout = \"300ms\""),
        ("four", "icmp://127.0.0.1", ""),
        ("name", "icmp://localhost", ""),
        ("nowhere", "icmp://192.0.2.1", ""),
        ("six", "icmp://[::1]", ""),
    ]);
    let seen = looks.once();
    let right = [("absent", Down), ("four", Up), ("name", Up), ("nowhere", Unknown), ("six", Up)];
    assert_eq!(readings(&seen), right, "{seen:#?}");
    assert_eq!(seen["absent"].fact, "no answer from 10.77.0.9 to a ping within 300 ms");
    assert!(seen["four"].fact.starts_with("127.0.0.1 answered a ping in "), "{}", seen["four"].fact);
    assert_eq!(seen["nowhere"].fact, "cannot send a ping: network is unreachable");
}

#[test]
fn where_pings_are_forbidden_the_setting_to_change_is_named() {
    if !where_pings_are_for("", "where_pings_are_forbidden_the_setting_to_change_is_named") {
        return;
    }
    let seen = &looks(&[("it", "icmp://127.0.0.1", "")]).once()["it"];
    assert_eq!(seen.reading, Reading::Unknown, "it says nothing about the host");
    assert!(seen.fact.contains("its group is not in net.ipv4.ping_group_range ("), "{}", seen.fact);
    assert!(seen.fact.contains("sysctl -w net.ipv4.ping_group_range=\"0 2147483647\""), "{}", seen.fact);
}
