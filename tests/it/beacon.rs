//! The beacon as a node runs it: the real binary against a real Consul that restarts, forgets, elects,
//! refuses, hangs, or has somebody else's lock on the key.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use watchdog::client::consul::{Behavior, Consul as Client, How};
use watchdog::core::beacon::Heartbeat;

use crate::daemon::{Daemon, configure, run, wait, watchdog};
use crate::parts;
use crate::peer::consul::{Cluster, Consul, Dev};
use crate::peer::proxy::{Fault, Proxy};

const KEY: &str = "watchdog/nodes/n1";
/// Short enough to be waited for, long enough for a busy machine.
const TTL: Duration = Duration::from_secs(3);

fn command(dir: &Path, url: &str, more: &str) -> Command {
    let beacon =
        "[beacon]\nlisten = \"127.0.0.1:0\"\nnode = \"n1\"\nttl = \"3s\"\nrenew = \"300ms\"\nrewrite = \"3s\"\n";
    let log = "log = \"info\"\nlog_format = \"text\"\n";
    configure(dir, &format!("{log}{beacon}[consul]\naddress = \"{url}\"\n{more}"));
    let mut command = watchdog(dir);
    command.arg("beacon");
    command
}

fn start(dir: &Path, url: &str) -> Daemon {
    Daemon::start_with(&mut command(dir, url, ""))
}

fn wait_active(daemon: &Daemon) {
    wait(
        || format!("the beacon to be active: {}", daemon.stderr()),
        || (daemon.get("/healthz").status == 200).then_some(()),
    );
}

fn wait_said(daemon: &Daemon, words: &str) {
    wait(|| format!("\"{words}\" in {}", daemon.stderr()), || daemon.stderr().contains(words).then_some(()));
}

fn metric(daemon: &Daemon, name: &str) -> u64 {
    let page = String::from_utf8(daemon.get("/metrics").body).unwrap();
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{name} in {page}")).parse().unwrap()
}

/// The key's value and the session that holds it; `None` when the key is not there.
fn held(client: &Client) -> Option<(Heartbeat, Option<String>)> {
    let pair = client.get(KEY).unwrap()?;
    Some((Heartbeat::parse(&pair.value).unwrap(), pair.session))
}

#[test]
fn it_holds_its_key_renews_and_says_that_a_stop_was_planned() {
    if !parts::consul() {
        return;
    }
    let server = Consul::dev(Dev::default());
    let dir = tempfile::tempdir().unwrap();
    let daemon = start(dir.path(), &server.url());
    for words in ["beacon of n1", KEY, &server.url(), "renewed every 300 ms"] {
        assert!(daemon.stdout().contains(words), "{words}: {}", daemon.stdout());
    }
    wait_active(&daemon);
    let client = server.client();
    let (first, session) = held(&client).unwrap();
    assert_eq!((first.node.as_str(), first.ttl_s, &first.planned_stop), ("n1", 3, &None));
    assert_eq!(first.boot_id, watchdog::clock::boot_id());
    assert!(first.started_at.ends_with('Z') && first.version == env!("CARGO_PKG_VERSION"), "{first:?}");
    let info = client.session_info(session.as_deref().unwrap()).unwrap().unwrap();
    assert_eq!((info.node_checks, info.ttl.as_str()), (Some(Vec::new()), "3s"), "it depends on its TTL alone");
    let begun = Instant::now();
    wait("the beat to be written", || (held(&client)?.0.beat >= 5).then_some(()));
    assert!(begun.elapsed() < TTL * 3, "{:?}", begun.elapsed());
    assert_eq!(held(&client).unwrap().1, session, "always the same session");

    let (status, took) = daemon.terminate();
    assert!(status.success() && took < Duration::from_secs(5), "{status} {took:?}");
    let (last, holder) = held(&client).unwrap();
    assert!(last.planned_stop.is_some() && holder.is_none(), "{last:?} {holder:?}");
    assert_eq!(client.session_info(session.as_deref().unwrap()).unwrap(), None);

    let again = start(dir.path(), &server.url());
    wait_active(&again);
    let (value, holder) = held(&client).unwrap();
    assert!(value.planned_stop.is_none() && holder.is_some(), "{value:?}");
    again.terminate();
}

#[test]
fn the_key_of_a_killed_beacon_vanishes_within_two_ttls_and_a_new_run_takes_it_at_once() {
    if !parts::consul() {
        return;
    }
    let server = Consul::dev(Dev::default());
    let (dir, client) = (tempfile::tempdir().unwrap(), server.client());
    let long = Duration::from_secs(30);
    let daemon = Daemon::start_with(command(dir.path(), &server.url(), "").args(["--set", "beacon.ttl=30s"]));
    wait_active(&daemon);
    daemon.kill();
    let begun = Instant::now();
    let next = start(dir.path(), &server.url());
    wait_active(&next);
    assert!(begun.elapsed() < long, "not only after the old session: {:?}", begun.elapsed());
    assert!(next.stderr().contains("earlier run on this boot"), "{}", next.stderr());
    next.kill();
    let killed = Instant::now();
    wait("the key to vanish", || held(&client).is_none().then_some(()));
    // Consul doubles the TTL and looks once in a while.
    assert!(killed.elapsed() < TTL * 2 + Duration::from_secs(2), "{:?}", killed.elapsed());
}

#[test]
fn what_is_counted_is_what_consul_saw() {
    if !parts::consul() {
        return;
    }
    let server = Consul::dev(Dev::default());
    let proxy = Proxy::to(&server.address());
    let dir = tempfile::tempdir().unwrap();
    // Its own clock ends it long before Consul does: the outage is over in between.
    let daemon = Daemon::start_with(command(dir.path(), &proxy.url(), "").args(["--set", "beacon.ttl=6s"]));
    wait_active(&daemon);
    wait("some renewals", || (metric(&daemon, "watchdog_beacon_renewals_total") >= 12).then_some(()));
    assert_eq!(metric(&daemon, "watchdog_beacon_session_active"), 1);
    assert_eq!(metric(&daemon, "watchdog_beacon_failures_total"), 0, "{}", daemon.stderr());
    assert_eq!(metric(&daemon, "watchdog_beacon_reconnects_total"), 0);
    proxy.set(Fault::Reset);
    wait("failures", || (metric(&daemon, "watchdog_beacon_failures_total") >= 1).then_some(()));
    wait("the end of the TTL", || (metric(&daemon, "watchdog_beacon_session_active") == 0).then_some(()));
    assert_eq!(daemon.get("/healthz").status, 503);
    proxy.set(Fault::None);
    wait_active(&daemon);
    assert_eq!(metric(&daemon, "watchdog_beacon_reconnects_total"), 1);
    daemon.signal(Signal::TERM);
    wait("the end", || server.key(KEY)?.session.is_none().then_some(()));
    let beat = Heartbeat::parse(&server.key(KEY).unwrap().value).unwrap().beat;
    let renewals = proxy.count("PUT /v1/session/renew/") as u64;
    // A reset request is seen before it is reset or not at all; no other difference is possible.
    assert_eq!(beat, renewals, "{:?}", proxy.requests());
    assert_eq!(proxy.count("PUT /v1/session/create"), 1, "the old session was renewed after the outage");
    let writes = proxy.count("acquire=");
    assert!(writes as u64 * 4 < renewals + 16, "{writes} writes for {renewals} renewals");
    daemon.terminate();
}

#[test]
fn a_consul_that_restarts_or_forgets_everything_is_survived() {
    if !parts::consul() {
        return;
    }
    let mut server = Consul::dev(Dev::default());
    let dir = tempfile::tempdir().unwrap();
    let daemon = start(dir.path(), &server.url());
    wait_active(&daemon);
    server.restart();
    wait_active(&daemon);
    wait("a renewal", || (held(&server.client())?.1.is_some()).then_some(()));
    server.wipe();
    wait_said(&daemon, "the session is gone");
    wait("the key in the new data", || (held(&server.client())?.1.is_some()).then_some(()));
    wait_active(&daemon);
    daemon.terminate();
}

#[test]
fn a_revoked_token_is_told_once_and_its_successor_taken_from_the_file() {
    if !parts::consul() {
        return;
    }
    let server = Consul::dev(Dev { acl: true, ..Dev::default() });
    let rules = "session_prefix \"\" { policy = \"write\" } key_prefix \"watchdog/\" { policy = \"write\" }";
    let (old, new) = (server.make_token("beacon", rules), server.make_token("beacon", rules));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, format!("{}\n", old.secret)).unwrap();
    let daemon = Daemon::start_with(&mut command(dir.path(), &server.url(), "token_file = \"token\"\n"));
    wait_active(&daemon);
    server.revoke(&old);
    wait_said(&daemon, "disconnected:");
    std::fs::write(dir.path().join("next"), &new.secret).unwrap();
    std::fs::rename(dir.path().join("next"), &file).unwrap();
    wait_active(&daemon);
    let said = daemon.stderr();
    assert_eq!(said.matches("still active").count(), 1, "{said}");
    assert_eq!(said.matches("disconnected:").count(), 1, "{said}");
    assert!(said.contains("403") && said.contains("consul.token"), "{said}");
    for secret in [&old.secret, &new.secret] {
        assert!(!said.contains(secret.as_str()) && !daemon.stdout().contains(secret.as_str()), "{said}");
    }
    daemon.terminate();
}

#[test]
fn without_rights_it_says_what_the_token_needs_and_keeps_trying() {
    if !parts::consul() {
        return;
    }
    let server = Consul::dev(Dev { acl: true, ..Dev::default() });
    let dir = tempfile::tempdir().unwrap();
    let daemon = start(dir.path(), &server.url());
    wait("two tries", || (metric(&daemon, "watchdog_beacon_failures_total") >= 2).then_some(()));
    let said = daemon.stderr();
    assert_eq!(said.matches("session:write").count(), 1, "{said}");
    let (status, took) = daemon.terminate();
    assert!(status.success() && took < Duration::from_secs(5), "{status} {took:?}");
}

#[test]
fn the_leader_of_a_cluster_may_die_without_the_key_being_lost() {
    if !parts::consul() {
        return;
    }
    let mut cluster = Cluster::three();
    let leader = cluster.wait_leader();
    let follower = (leader + 1) % 3;
    let dir = tempfile::tempdir().unwrap();
    let url = cluster.servers[follower].url();
    let mut beacon = command(dir.path(), &url, "");
    let daemon = Daemon::start_with(beacon.args(["--set", "beacon.ttl=10s", "--set", "beacon.renew=500ms"]));
    wait_active(&daemon);
    let client = cluster.servers[follower].client();
    let (created, session) = {
        let pair = client.get(KEY).unwrap().unwrap();
        (pair.create_index, pair.session)
    };
    cluster.kill(leader);
    wait("another leader", || cluster.leader().filter(|new| *new != leader));
    let renewals = metric(&daemon, "watchdog_beacon_renewals_total");
    wait("renewals by the new leader", || {
        (metric(&daemon, "watchdog_beacon_renewals_total") > renewals + 1).then_some(())
    });
    wait_active(&daemon);
    let pair = client.get(KEY).unwrap().unwrap();
    assert_eq!((pair.create_index, pair.session), (created, session), "the same key by the same session");
    cluster.start(leader);
    daemon.terminate();
}

#[test]
fn a_key_that_somebody_else_holds_is_told_loudly_and_left_alone() {
    if !parts::consul() {
        return;
    }
    let server = Consul::dev(Dev::default());
    let client = server.client();
    let session = client.session_create("other", Duration::from_secs(30), Behavior::Delete, Duration::ZERO).unwrap();
    let other = Heartbeat { node: "n1".into(), boot_id: "another-boot".into(), started_ms: 1, ..Heartbeat::default() };
    assert!(client.put(KEY, &serde_json::to_vec(&other).unwrap(), How::Acquire(&session)).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let daemon = start(dir.path(), &server.url());
    wait_said(&daemon, "held by another beacon");
    let renewals = metric(&daemon, "watchdog_beacon_renewals_total");
    wait("more tries", || (metric(&daemon, "watchdog_beacon_renewals_total") > renewals + 3).then_some(()));
    let said = daemon.stderr();
    assert_eq!(said.matches("held by another beacon").count(), 1, "once per holder: {said}");
    assert!(said.contains("boot another-boot") && said.contains("ERROR") && said.contains("beacon.node"), "{said}");
    assert_eq!(client.get(KEY).unwrap().unwrap().session, Some(session.clone()));
    assert_eq!(daemon.get("/healthz").status, 503);
    client.session_destroy(&session).unwrap();
    wait_active(&daemon);
    assert_eq!(held(&client).unwrap().0.boot_id, watchdog::clock::boot_id());

    // A second live beacon of this name on this boot: the later one has the key, the elder stays away.
    let later_dir = tempfile::tempdir().unwrap();
    let later = start(later_dir.path(), &server.url());
    wait_active(&later);
    wait_said(&daemon, "the session is gone");
    wait("the elder to see it", || (daemon.stderr().matches("held by another beacon").count() == 2).then_some(()));
    let holder = held(&client).unwrap().1;
    let renewals = metric(&daemon, "watchdog_beacon_renewals_total");
    wait("more tries", || (metric(&daemon, "watchdog_beacon_renewals_total") > renewals + 3).then_some(()));
    assert_eq!(held(&client).unwrap().1, holder, "no fight");
    later.terminate();
    wait_active(&daemon);
    daemon.terminate();
}

#[test]
fn a_consul_that_hangs_does_not_hold_the_end() {
    if !parts::consul() {
        return;
    }
    let server = Consul::dev(Dev::default());
    let proxy = Proxy::to(&server.address());
    let dir = tempfile::tempdir().unwrap();
    let daemon = start(dir.path(), &proxy.url());
    wait_active(&daemon);
    proxy.set(Fault::Hang);
    let seen = proxy.requests().len();
    wait("a call that hangs", || (proxy.requests().len() > seen).then_some(()));
    let (status, took) = daemon.terminate();
    assert!(status.success() && took < Duration::from_secs(5), "{status} {took:?}");
    // The other side may still be unreachable when it starts; that must not matter either.
    let daemon = start(dir.path(), &proxy.url());
    let (status, took) = daemon.terminate();
    assert!(status.success() && took < Duration::from_secs(5), "{status} {took:?}");
}

#[test]
fn systemd_hears_ready_alive_and_stopping() {
    if !parts::consul() {
        return;
    }
    let server = Consul::dev(Dev::default());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let heard = || {
        let mut buffer = [0; 1024];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let mut command = command(dir.path(), &server.url(), "");
    // As systemd does it for WatchdogSec; neither is a setting of ours.
    let daemon = Daemon::start_with(command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000"));
    let mut messages = Vec::new();
    while !messages.iter().any(|m: &String| m.starts_with("READY=1")) {
        messages.push(heard());
    }
    let ready = messages.last().unwrap();
    assert!(ready.contains("STATUS=active: watchdog/nodes/n1"), "{ready}");
    let begun = Instant::now();
    for _ in 0..5 {
        assert_eq!(heard(), "WATCHDOG=1");
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    daemon.signal(Signal::TERM);
    wait("STOPPING=1", || (heard() == "STOPPING=1").then_some(()));
    daemon.terminate();
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for (set, word) in [
        ("beacon.node=a/b", "`beacon.node`"),
        ("beacon.node=..", "`beacon.node`"),
        ("beacon.ttl=500ms", "`beacon.ttl`"),
        ("beacon.renew=30s", "`beacon.renew`"),
        ("beacon.listen=here", "`beacon.listen`"),
        ("consul.prefix=/a", "`consul.prefix`"),
        ("consul.address=unix:///run/consul.sock", "unix socket"),
        ("consul.ca_file=/nowhere.pem", "`consul.ca_file`"),
        ("consul.token_file=/nowhere", "`consul.token_file`"),
    ] {
        for command in [&["beacon"][..], &["config", "check"]] {
            let output = run(dir.path(), &[&["--set", set], command].concat());
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.code() == Some(2) && said.contains(word), "{set} {command:?}: {said}");
        }
    }
    for (variable, value, word) in [
        ("CONSUL_HTTP_ADDR", "unix:///x", "CONSUL_HTTP_ADDR"),
        ("CONSUL_CACERT", "/nowhere.pem", "CONSUL_CACERT"),
        ("CONSUL_HTTP_TOKEN_FILE", "/nowhere", "CONSUL_HTTP_TOKEN_FILE"),
    ] {
        // What nobody uses keeps nobody from running.
        let unused = watchdog(dir.path()).args(["config", "check"]).env(variable, value).output().unwrap();
        assert!(unused.status.success(), "{variable}: {unused:?}");
        let output = watchdog(dir.path()).arg("beacon").env(variable, value).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(word), "{variable}: {said}");
        let over = ["--set", "consul.address=http://127.0.0.1:1", "config", "check"];
        if variable == "CONSUL_HTTP_ADDR" {
            let output = watchdog(dir.path()).args(over).env(variable, value).output().unwrap();
            assert!(output.status.success(), "a key stands over a variable: {output:?}");
        }
    }
}

#[test]
fn the_variables_of_consul_s_own_tools_lead_to_the_same_consul() {
    if !parts::consul() {
        return;
    }
    let server = Consul::dev(Dev { acl: true, ..Dev::default() });
    let dir = tempfile::tempdir().unwrap();
    let mut command = command(dir.path(), "", "");
    let rules = "session_prefix \"\" { policy = \"write\" } key_prefix \"watchdog/\" { policy = \"write\" }";
    let token = server.make_token("beacon", rules);
    let daemon = Daemon::start_with(
        command
            .args(["--node", "n2"])
            .env("CONSUL_HTTP_ADDR", server.address())
            .env("CONSUL_HTTP_TOKEN", &token.secret),
    );
    wait_active(&daemon);
    assert!(server.key("watchdog/nodes/n2").unwrap().session.is_some());
    assert!(!format!("{}{}", daemon.stdout(), daemon.stderr()).contains(&token.secret));
    daemon.terminate();
}
