//! A real Consul as a dependency: its leader is probed by JSON pointer, and its death is told.

use std::time::{Duration, Instant};

use watchdog::client::consul::{Behavior, Class, How};

use crate::daemon::{Daemon, SOON};
use crate::parts;
use crate::peer::consul::{Consul, Dev, MANAGEMENT, client};
use crate::peer::proxy::{Fault, Proxy};
use crate::peer::telegram::Telegram;
use crate::setup::Setup;

#[test]
fn a_consul_that_dies_is_told_and_so_is_its_return() {
    if !parts::consul() {
        return;
    }
    let telegram = Telegram::start();
    let mut consul = Consul::dev(Dev::default());
    let dir = tempfile::tempdir().unwrap();
    let probe = format!(
        r#"[[probe]]
name = "consul"
target = "{}/v1/agent/self"
json_pointer = "/Config/Server"
json_equals = "true"
interval = "200ms""#,
        consul.url()
    );
    Setup::new("200ms").set("timeout", "2s").telegram(&telegram).block(&probe).write(dir.path());
    let daemon = Daemon::start(dir.path());
    daemon.wait_state("probe/consul", "ok");
    consul.kill();
    let told = telegram.wait_delivered(1, SOON);
    assert!(told[0].text.starts_with("🔴") && told[0].text.contains("connection refused"), "{told:?}");
    consul.restart();
    let told = telegram.wait_delivered(2, SOON);
    assert!(told[1].text.starts_with("🟢"), "{told:?}");
    assert_eq!(told.len(), 2, "{told:?}");
    daemon.terminate();
}

#[test]
fn every_call_does_what_it_says_on_a_real_consul() {
    if !parts::consul() {
        return;
    }
    let server = Consul::dev(Dev::default());
    let consul = server.client();
    let nothing = consul.prefix("w/nodes", None, None, true).unwrap();
    assert!(nothing.entries().unwrap().is_empty() && nothing.known_leader && !nothing.filtered && nothing.index > 0);
    assert_eq!(consul.get("w/nodes/a").unwrap(), None);
    assert!(consul.put("w/nodes/a", b"one", How::Cas(0)).unwrap());
    assert!(!consul.put("w/nodes/a", b"two", How::Cas(0)).unwrap());
    assert!(consul.put("w/nodes-other", b"", How::Plain).unwrap());
    let listing = consul.prefix("w/nodes", None, None, false).unwrap();
    let entries = listing.entries().unwrap();
    assert_eq!(entries.len(), 1, "a longer name is not under the prefix");
    assert_eq!((entries[0].key(), entries[0].value().unwrap()), ("w/nodes/a", b"one".to_vec()));
    let same = consul.prefix("w/nodes", Some(listing.index), Some(Duration::from_millis(200)), true).unwrap();
    assert!(same.is_unchanged() && same.index == listing.index);

    let ttl = Duration::from_secs(20);
    let make = || consul.session_create("test", ttl, Behavior::Delete, Duration::ZERO).unwrap();
    let (one, two) = (make(), make());
    let seen = consul.session_info(&one).unwrap().unwrap();
    assert_eq!((seen.name.as_str(), seen.ttl.as_str(), seen.node_checks), ("test", "20s", Some(Vec::new())));
    assert!(consul.put("w/nodes/b", b"held", How::Acquire(&one)).unwrap());
    assert!(consul.put("w/nodes/b", b"still", How::Acquire(&one)).unwrap());
    assert!(!consul.put("w/nodes/b", b"mine", How::Acquire(&two)).unwrap());
    let held = consul.get("w/nodes/b").unwrap().unwrap();
    assert_eq!((held.value, held.session, held.lock_index), (b"still".to_vec(), Some(one.clone()), 1));
    assert!(consul.session_renew(&one).unwrap());
    consul.session_destroy(&one).unwrap();
    consul.session_destroy(&one).unwrap();
    assert_eq!(consul.get("w/nodes/b").unwrap(), None, "the key goes with its session");
    assert!(!consul.session_renew(&one).unwrap());
    assert_eq!(consul.session_info(&one).unwrap(), None);
    let gone = consul.put("w/nodes/b", b"", How::Acquire(&one)).unwrap_err();
    assert_eq!(gone.class(), Class::InvalidSession, "{gone}");
    assert!(consul.put("w/nodes/b", b"x", How::Acquire(&two)).unwrap());
    assert!(consul.put("w/nodes/b", b"y", How::Release(&two)).unwrap());
    let free = consul.get("w/nodes/b").unwrap().unwrap();
    assert_eq!((free.session, free.value), (None, b"y".to_vec()));
    assert!(!consul.delete("w/nodes/b", Some(1)).unwrap());
    assert!(consul.delete("w/nodes/b", Some(free.modify_index)).unwrap());
    let long = consul.session_create("test", Duration::from_millis(10), Behavior::Release, Duration::ZERO).unwrap_err();
    assert_eq!(long.class(), Class::Refused, "{long}");
}

#[test]
fn a_blocking_read_returns_when_a_key_changes() {
    if !parts::consul() {
        return;
    }
    let server = Consul::dev(Dev::default());
    let consul = server.client();
    assert!(consul.put("w/a", b"1", How::Plain).unwrap());
    let first = consul.prefix("w", None, None, true).unwrap();
    let waiting = {
        let consul = server.client();
        std::thread::spawn(move || consul.prefix("w", Some(first.index), Some(Duration::from_mins(1)), true).unwrap())
    };
    assert!(consul.put("w/a", b"2", How::Plain).unwrap());
    let second = waiting.join().unwrap();
    assert_eq!(second.entries().unwrap()[0].value().unwrap(), b"2");
}

#[test]
fn a_token_that_may_not_is_denied_and_never_shown() {
    if !parts::consul() {
        return;
    }
    let server = Consul::dev(Dev { acl: true, ..Dev::default() });
    let made = server.make_token("reader", "key_prefix \"w/\" { policy = \"read\" }");
    let reader = client(&server.url(), Some(&made.secret));
    assert!(reader.get("w/a").unwrap().is_none());
    let denied = reader.put("w/a", b"", How::Plain).unwrap_err();
    assert!(denied.class() == Class::Denied && denied.to_string().contains("key:write"), "{denied}");
    server.revoke(&made);
    let unknown = reader.get("w/a").unwrap_err();
    assert!(unknown.class() == Class::Denied && unknown.to_string().contains("unknown there"), "{unknown}");
    let shown = format!("{denied:?} {unknown:?} {reader:?}");
    assert!(!shown.contains(&made.secret) && !shown.contains(MANAGEMENT), "{shown}");
    let anonymous = client(&server.url(), None);
    assert!(anonymous.leader().unwrap().is_some(), "who leads is open to all");
}

#[test]
fn a_write_whose_answer_is_lost_is_unknown_and_one_that_never_left_is_not() {
    if !parts::consul() {
        return;
    }
    let server = Consul::dev(Dev::default());
    let proxy = Proxy::to(&server.address());
    let consul = client(&proxy.url(), None);
    assert!(consul.put("w/a", b"1", How::Plain).unwrap());
    proxy.set(Fault::LoseAnswer);
    assert_eq!(consul.put("w/a", b"2", How::Plain).unwrap_err().class(), Class::Unknown);
    assert_eq!(server.key("w/a").unwrap().value, b"2", "it was done");
    assert_eq!(consul.get("w/a").unwrap_err().class(), Class::Unavailable);
    for fault in [Fault::Hang, Fault::Reset] {
        proxy.set(fault);
        let impatient = consul.with_timeout(Duration::from_millis(500));
        assert_eq!(impatient.put("w/a", b"3", How::Plain).unwrap_err().class(), Class::Unknown, "{fault:?}");
    }
    proxy.set(Fault::None);
    assert!(consul.get("w/a").unwrap().is_some());
    let nobody = client("http://127.0.0.1:9", None);
    assert_eq!(nobody.put("w/a", b"", How::Plain).unwrap_err().class(), Class::Unavailable);
    assert_eq!(proxy.count("PUT /v1/kv/w/a"), 3, "what was reset was not heard; nothing was sent twice");
}

#[test]
fn ten_thousand_keys_are_read_within_the_limits() {
    if !parts::consul() {
        return;
    }
    let server = Consul::dev(Dev::default());
    let value = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, [b'x'; 220]);
    for chunk in 0..200 {
        let operations: Vec<String> = (0..50)
            .map(|n| {
                let key = format!("w/nodes/node-{:05}", chunk * 50 + n);
                format!("{{\"KV\":{{\"Verb\":\"set\",\"Key\":\"{key}\",\"Value\":\"{value}\"}}}}")
            })
            .collect();
        let (status, said) = server.api("PUT", "/v1/txn", &format!("[{}]", operations.join(","))).unwrap();
        assert_eq!(status, 200, "{said}");
    }
    let consul = server.client();
    let listing = consul.prefix("w/nodes", None, None, true).unwrap();
    let begun = Instant::now();
    let entries = listing.entries().unwrap();
    let took = begun.elapsed();
    assert_eq!((entries.len(), entries[9_999].key()), (10_000, "w/nodes/node-09999"));
    assert_eq!(entries[5_000].value().unwrap().len(), 220);
    // Unoptimised and on a busy machine; optimised it is a hundredth of this.
    assert!(took < Duration::from_secs(2), "{took:?}");
    let same = consul.prefix("w/nodes", Some(listing.index), Some(Duration::from_millis(1)), true).unwrap();
    assert!(same.is_unchanged());
}
