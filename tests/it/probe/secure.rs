//! Certificates: which are accepted, until when, and what is said about the others.

use std::io::Read as _;
use std::net::TcpStream;

use super::*;
use crate::daemon::Daemon;
use crate::peer::listener::{Ended, Listener};
use crate::peer::tls::{TlsPeer, pem};
use crate::setup::Setup;

/// Noon of a day, counted from the first of 2027.
fn day(n: i64) -> Clock {
    let now =
        Now { wall: Wall((1_798_761_600 + 43_200 + n * 86_400) * 1000), mono: Mono(1_000_000), awake: Mono(1_000_000) };
    Clock::by_hand(now).0
}

/// What people read holds nothing of the library's own.
fn plain(fact: &str) {
    for raw in ["Other", "Error", "CaUsed", "UnknownIssuer", "invalid peer", "Alert", "{", "Context", "::"] {
        assert!(!fact.contains(raw), "{raw} in {fact}");
    }
    assert!(fact.chars().count() < 400, "{fact}");
}

#[test]
fn a_certificate_given_by_the_user_is_accepted_when_it_is_the_peers_own() {
    let peer = TlsPeer::start(&["own.pem"], "own.key");
    let own = format!("ca_file = {:?}\n", pem("own.pem"));
    for scheme in ["https", "tls"] {
        for host in ["localhost", "127.0.0.1"] {
            let seen = look(&format!("target = \"{scheme}://{host}:{}\"\n{own}", peer.port()));
            assert_eq!(seen.reading, Reading::Up, "{scheme} {host}: {}", seen.fact);
        }
    }
    // Its name and its dates count all the same.
    let named = format!("target = \"tls://{}\"\n{own}server_name = \"other.example\"", peer.place());
    let seen = look(&named);
    assert!(
        seen.reading == Reading::Down && seen.fact.contains("is not for other.example, but for localhost"),
        "{}",
        seen.fact
    );
    let at = format!("target = \"tls://{}\"\n{own}", peer.place());
    let seen = look_at(&at, &day(40_000));
    assert!(seen.reading == Reading::Down && seen.fact.starts_with("the certificate expired"), "{}", seen.fact);
    let seen = look_at(&at, &day(-400));
    assert!(seen.reading == Reading::Down && seen.fact.contains("is not valid yet"), "{}", seen.fact);
    // Another certificate in the file is not a reason to accept this one.
    let seen = look(&format!("target = \"tls://{}\"\nca_file = {:?}", peer.place(), pem("noname.pem")));
    assert!(seen.reading == Reading::Down && seen.fact.contains("is self-signed and not in ca_file"), "{}", seen.fact);
}

#[test]
fn a_fingerprint_pins_one_certificate_and_the_error_says_which() {
    let peer = TlsPeer::start(&["noname.pem"], "noname.key");
    let target = format!("target = \"https://{}\"\n", peer.place());
    let seen = look(&target);
    assert!(seen.reading == Reading::Down, "{}", seen.fact);
    assert!(seen.fact.contains("self-signed: give it as ca_file, or pin it by tls_fingerprint = \""), "{}", seen.fact);
    let hex = seen.fact.split('"').nth(1).unwrap().to_string();
    assert_eq!(hex.len(), 64, "{}", seen.fact);
    let colons: Vec<String> =
        hex.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).to_uppercase()).collect();
    for written in [hex.clone(), colons.join(":")] {
        for scheme in ["https", "tls"] {
            let seen = look(&format!("target = \"{scheme}://{}\"\ntls_fingerprint = \"{written}\"", peer.place()));
            assert_eq!(seen.reading, Reading::Up, "{scheme} {written}: {}", seen.fact);
        }
    }
    let seen = look(&format!("{target}tls_fingerprint = \"{}\"", "ab".repeat(32)));
    assert!(seen.reading == Reading::Down && seen.fact.contains(&format!("fingerprint is {hex}")), "{}", seen.fact);
    // The days of a pinned certificate still count where days are looked at.
    let seen = look_at(&format!("target = \"tls://{}\"\ntls_fingerprint = \"{hex}\"", peer.place()), &day(40_000));
    assert!(seen.reading == Reading::Down && seen.fact.contains("expired"), "{}", seen.fact);
}

#[test]
fn what_is_wrong_with_a_peer_is_said_in_words_with_the_way_out() {
    let own = TlsPeer::start(&["own.pem"], "own.key");
    let noname = TlsPeer::start(&["noname.pem"], "noname.key");
    let direct = TlsPeer::start(&["direct.pem"], "direct.key");
    let expired = TlsPeer::start(&["expired.pem"], "direct.key");
    let chained = TlsPeer::start(&["chained.pem", "mid.pem"], "chained.key");
    let client = TlsPeer::wants_client(&["direct.pem"], "direct.key", "root.pem");
    let speaks_plain = Listener::start(|| {
        |mut stream: TcpStream, _: &Ended| {
            let _ = stream.read(&mut [0; 512]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let (root, named) = (format!("ca_file = {:?}\n", pem("root.pem")), format!("ca_file = {:?}\n", pem("noname.pem")));
    let table = [
        (own.place(), String::new(), "the certificate is self-signed: give it as ca_file, or pin it"),
        (noname.place(), named, "holds no name (subjectAltName), so it is not for localhost"),
        (
            direct.place(),
            String::new(),
            "is signed by an unknown authority, \"Test Root\": give the authority's certificate",
        ),
        (direct.place(), String::new(), "must also send its intermediate one"),
        (expired.place(), root.clone(), "the certificate expired "),
        (expired.place(), String::new(), " ago: renew it"),
        (chained.place(), root.clone(), "certificate is not valid yet"),
        (client.place(), root.clone(), "the peer wants a client certificate: set client_cert and client_key"),
        (format!("localhost:{}", speaks_plain.address().port()), String::new(), "the peer does not speak TLS"),
    ];
    for (place, keys, words) in table {
        let seen = look(&format!("target = \"https://{place}\"\n{keys}"));
        assert!(seen.reading == Reading::Down && seen.fact.contains(words), "{words}: {}", seen.fact);
        plain(&seen.fact);
    }
    let seen = look(&format!("target = \"tls://localhost:{}\"", speaks_plain.address().port()));
    assert!(seen.fact.contains("the peer does not speak TLS"), "{}", seen.fact);
}

#[test]
fn a_chain_holds_until_its_first_certificate_ends_and_strangers_in_it_do_not_count() {
    let peer = TlsPeer::start(&["chained.pem", "mid.pem"], "chained.key");
    let keys = format!("target = \"tls://{}\"\nca_file = {:?}\n", peer.place(), pem("root.pem"));
    let seen = look_at(&keys, &day(1));
    assert_eq!(seen.reading, Reading::Down, "{}", seen.fact);
    let fact = "intermediate certificate \"Short Middle\" expires in 3 days (the certificate itself in 363 days), fewer than 14 days";
    assert_eq!(seen.fact, fact);
    let seen = look_at(&format!("{keys}min_days = 2"), &day(1));
    assert_eq!(seen.reading, Reading::Up, "{}", seen.fact);
    let seen = look_at(&keys, &day(7));
    assert!(seen.fact.starts_with("the intermediate certificate \"Short Middle\" expired 2 days ago"), "{}", seen.fact);

    // An expired stranger and the short intermediate are sent, and used by nobody.
    let peer = TlsPeer::start(&["direct.pem", "expired.pem", "mid.pem"], "direct.key");
    let seen = look_at(&format!("target = \"tls://{}\"\nca_file = {:?}\n", peer.place(), pem("root.pem")), &day(1));
    assert!(seen.reading == Reading::Up && seen.fact.starts_with("certificate expires in"), "{}", seen.fact);
}

#[test]
fn the_users_own_authority_is_part_of_the_chain() {
    let peer = TlsPeer::start(&["under_brief.pem"], "direct.key");
    let keys = format!("target = \"tls://{}\"\nca_file = {:?}\n", peer.place(), pem("brief.pem"));
    let seen = look_at(&keys, &day(9));
    let begins = "authority \"Brief Root\" expires in 9 days (the certificate itself in ";
    assert!(seen.reading == Reading::Down && seen.fact.starts_with(begins), "{}", seen.fact);
    assert_eq!(look_at(&keys, &day(-30)).reading, Reading::Up);
    let seen = look_at(&keys, &day(20));
    assert!(seen.fact.starts_with("the authority \"Brief Root\" expired 1 day ago"), "{}", seen.fact);
}

#[test]
fn every_look_is_shown_the_certificate() {
    let peer = TlsPeer::start(&["direct.pem"], "direct.key");
    let keys =
        format!("[[probe]]\nname = \"it\"\ntarget = \"https://{}\"\nca_file = {:?}", peer.place(), pem("root.pem"));
    let clock = Clock::system();
    let mut source = source(&keys, &outfit(&clock));
    // Two questions within one millisecond are one look.
    wait("three looks", || {
        let report = source.observe(&once(&clock)).unwrap();
        assert_eq!(report.observations[0].reading, Reading::Up, "{report:?}");
        (peer.handshakes().len() >= 3).then_some(())
    });
    let resumed = peer.handshakes().iter().filter(|kind| **kind == rustls::HandshakeKind::Resumed).count();
    assert_eq!(resumed, 0, "a resumed session would hide a certificate that expired");
}

#[test]
fn a_peer_that_wants_a_certificate_is_shown_ours() {
    let peer = TlsPeer::wants_client(&["direct.pem"], "direct.key", "root.pem");
    for scheme in ["https", "tls"] {
        let keys = format!(
            "target = \"{scheme}://{}\"\nca_file = {:?}\nclient_cert = {:?}\nclient_key = {:?}\n",
            peer.place(),
            pem("root.pem"),
            pem("client.pem"),
            pem("client.key")
        );
        let seen = look(&keys);
        assert_eq!(seen.reading, Reading::Up, "{scheme}: {}", seen.fact);
    }
    let refused = |keys: &str| {
        let text = format!("[[probe]]\nname = \"it\"\ntarget = \"https://{}\"\n{keys}", peer.place());
        let config = Config::from_toml(&text).unwrap();
        (ENTRY.build)(&config, &outfit(&Clock::system())).err().expect("refused").to_string()
    };
    let (certificate, key) =
        (format!("client_cert = {:?}\n", pem("client.pem")), format!("client_key = {:?}\n", pem("client.key")));
    assert!(refused(&certificate).contains("needs client_key"));
    assert!(refused(&key).contains("needs client_cert"));
    let other = refused(&format!("{certificate}client_key = {:?}", pem("own.key")));
    assert!(other.contains("own.key does not belong to the certificate"), "{other}");
    let none = refused(&format!("{certificate}client_key = {:?}", pem("own.pem")));
    assert!(none.contains("holds no private key in PEM form"), "{none}");
    let both = refused(&format!("ca_file = {:?}\ntls_fingerprint = \"{}\"", pem("root.pem"), "ab".repeat(32)));
    assert!(both.contains("remove it or ca_file"), "{both}");
}

#[test]
fn a_date_fires_at_the_first_look_also_with_a_look_a_day() {
    let peer = TlsPeer::start(&["expired.pem"], "direct.key");
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ca = pem("root.pem");
    let probe = |name: &str, target: String, more: String| {
        format!("[[probe]]\nname = {name:?}\ntarget = {target:?}\ninterval = \"24h\"\n{more}")
    };
    let trusted = format!("ca_file = {ca:?}\n");
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new("200ms")
        .block(&probe("cert", format!("tls://{}", peer.place()), trusted.clone()))
        .block(&probe("web", format!("https://{}", peer.place()), trusted))
        .block(&probe("gone", format!("tcp://{gone}"), String::new()));
    setup.write(dir.path());
    let daemon = Daemon::start(dir.path());
    daemon.wait_state("probe/cert", "firing");
    daemon.wait_state("probe/web", "firing");
    daemon.wait_pass();
    assert_eq!(daemon.state("probe/gone").as_deref(), Some("pending"), "anything else has its patience");
    assert_eq!(peer.handshakes().len(), 0, "no handshake with it came to an end");
    daemon.terminate();
}

#[test]
fn a_certificate_is_bad_since_its_date_and_not_since_somebody_looked() {
    let own = TlsPeer::start(&["own.pem"], "own.key");
    let trusted = format!("ca_file = {:?}\n", pem("own.pem"));
    let days_since = |clock: &Clock, seen: &Observation| {
        let at = seen.more.as_deref().and_then(|more| more.happened_at).unwrap_or_else(|| panic!("{seen:?}"));
        clock.now().wall.since(at).as_secs() / 86_400
    };
    let number = |fact: &str, before: &str| {
        let words: Vec<&str> = fact.split(before).next().unwrap().split_whitespace().collect();
        words.last().unwrap().parse::<u64>().unwrap()
    };
    let clock = day(40_000);
    for scheme in ["tls", "https"] {
        let seen = look_at(&format!("target = \"{scheme}://{}\"\n{trusted}", own.place()), &clock);
        if scheme == "tls" || seen.fact.contains("expired") {
            assert_eq!(days_since(&clock, &seen), number(&seen.fact, " days ago"), "{}", seen.fact);
        }
    }
    // Too few days are left since so many days before its end.
    let valid = look_at(&format!("target = \"tls://{}\"\n{trusted}", own.place()), &day(0));
    let left = number(&valid.fact, " days");
    let clock = day(i64::try_from(left).unwrap() - 5);
    let seen = look_at(&format!("target = \"tls://{}\"\n{trusted}min_days = 14", own.place()), &clock);
    assert!(seen.reading == Reading::Down && seen.fact.contains("fewer than 14 days"), "{}", seen.fact);
    assert!((8..=9).contains(&days_since(&clock, &seen)), "{seen:?}");
}
