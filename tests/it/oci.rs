//! The client of Oracle's compute API against a scripted cloud that checks every signature.

mod config;
mod token;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use watchdog::client::http::HttpError;
use watchdog::client::oci::key::Key;
use watchdog::client::oci::settings::{Around, Settings};
use watchdog::client::oci::{Access, Cause, Class, ConflictKind, Oci};
use watchdog::clock::Clock;
use watchdog::core::time::Wall;

use self::config::Home;
use crate::daemon::wait;
use crate::peer::http;
use crate::peer::oci::{self as peer, COMPARTMENT, Door, Durations, Fault, Kind, Lifecycle, ocid, vector};

const LIMIT: Duration = Duration::from_secs(2);

struct Rig {
    peer: peer::Oci,
    oci: Oci,
    _dir: TempDir,
}

fn client(access: Access) -> Oci {
    Oci::new(access).unwrap()
}

fn rig_at(clock: Clock) -> Rig {
    let peer = peer::Oci::start();
    let dir = tempfile::tempdir().unwrap();
    let access = Access::profile(&peer.origin(dir.path()), Some(&peer.url()), clock, LIMIT).unwrap();
    assert_eq!(access.region(), Some("eu-frankfurt-1"));
    peer.add_instance(&ocid("a"), Lifecycle::Running);
    Rig { oci: client(access), peer, _dir: dir }
}

fn rig() -> Rig {
    rig_at(Clock::system())
}

#[test]
fn an_instance_is_read_with_its_etag() {
    let rig = rig();
    rig.peer.plan_maintenance(&ocid("a"), "2030-01-01T00:00:00Z");
    let instance = rig.oci.instance(&ocid("a")).unwrap();
    assert_eq!((instance.id.as_str(), instance.lifecycle.as_str()), (ocid("a").as_str(), "RUNNING"));
    assert_eq!(instance.etag, Some(rig.peer.etag(&ocid("a"))));
    assert_eq!((instance.display_name.as_str(), instance.fault_domain.as_str()), ("db-1", "FAULT-DOMAIN-2"));
    assert_eq!((instance.compartment_id.as_str(), instance.region.as_str()), (COMPARTMENT, "eu-frankfurt-1"));
    assert_eq!(instance.maintenance_due.as_deref(), Some("2030-01-01T00:00:00Z"));
    rig.peer.set(&ocid("a"), Lifecycle::Unheard);
    assert_eq!(rig.oci.instance(&ocid("a")).unwrap().lifecycle, "HIBERNATING");
}

#[test]
fn a_stop_and_a_start_are_signed_with_six_headers_and_lead_through_every_state() {
    let rig = rig();
    let id = ocid("a");
    let read = rig.oci.instance(&id).unwrap();
    let stopping = rig.oci.act(&id, "STOP", read.etag.as_deref(), "decision-1").unwrap();
    assert_eq!(stopping.lifecycle, "STOPPING");
    assert_ne!(stopping.etag, read.etag);
    wait("STOPPED", || (rig.oci.instance(&id).unwrap().lifecycle == "STOPPED").then_some(()));
    let stopped = rig.oci.instance(&id).unwrap();
    assert_eq!(rig.oci.act(&id, "START", stopped.etag.as_deref(), "decision-2").unwrap().lifecycle, "STARTING");
    wait("RUNNING", || (rig.oci.instance(&id).unwrap().lifecycle == "RUNNING").then_some(()));
    assert!(rig.peer.running_since(&id).is_some());

    let asked = rig.peer.asked(Kind::Stop);
    assert_eq!((asked.len(), rig.peer.effects(Kind::Stop), rig.peer.effects(Kind::Start)), (1, 1, 1));
    let stop = &asked[0];
    assert_eq!(stop.headers["content-length"], "0", "it is really on the wire");
    assert_eq!(stop.headers["content-type"], "application/json");
    assert!(!stop.headers.contains_key("transfer-encoding") && !stop.headers.contains_key("expect"));
    assert_eq!((stop.if_match.clone(), stop.retry_token.as_deref()), (read.etag, Some("decision-1")));
    assert_eq!(
        (stop.action.as_deref(), stop.before, stop.answered),
        (Some("STOP"), Some(Lifecycle::Running), Some(200))
    );
    assert_eq!(rig.peer.violations(), Vec::<String>::new());
}

#[test]
fn a_repetition_with_the_same_retry_token_takes_effect_once() {
    let rig = rig();
    let id = ocid("a");
    let etag = rig.peer.etag(&id);
    rig.peer.script(Kind::Stop, [Fault::EffectThenRefuse(500, "InternalServerError")]);
    let error = rig.oci.act(&id, "STOP", Some(&etag), "one").unwrap_err();
    assert_eq!(error.class(), Class::Transient);
    assert!(rig.oci.act(&id, "STOP", Some(&etag), "one").is_ok(), "a repetition is not a conflict");
    assert_eq!(rig.peer.effects(Kind::Stop), 1);
    assert!(rig.peer.asked(Kind::Stop)[1].repeated);
    let error = rig.oci.act(&id, "STOP", Some(&etag), "two").unwrap_err();
    assert_eq!(error.class(), Class::Precondition, "another decision is");
    let error = rig.oci.act(&id, "STOP", None, "three").unwrap_err();
    assert_eq!(error.class(), Class::Conflict(ConflictKind::IncorrectState));
}

#[test]
fn every_answer_of_the_table_comes_through_with_its_words() {
    let rig = rig();
    let id = ocid("a");
    for (fault, class, words) in [
        (Fault::Refuse(400, "InvalidParameter", "bad"), Class::Permanent, "400 InvalidParameter: bad"),
        (Fault::Refuse(400, "LimitExceeded", "no"), Class::NoCapacity, "400 LimitExceeded: no"),
        (Fault::Refuse(400, "QuotaExceeded", "no"), Class::NoCapacity, "400 QuotaExceeded: no"),
        (Fault::Refuse(401, "NotAuthenticated", "no"), Class::Auth, "check that the key belongs to this user"),
        (Fault::Refuse(403, "NotAllowed", "no"), Class::Auth, "403 NotAllowed: no"),
        (Fault::Refuse(404, "NotAuthorizedOrNotFound", "no"), Class::NotFound, "INSTANCE_POWER_ACTIONS"),
        (Fault::Refuse(405, "MethodNotAllowed", "no"), Class::Permanent, "405"),
        (
            Fault::Refuse(409, "IncorrectState", "no"),
            Class::Conflict(ConflictKind::IncorrectState),
            "409 IncorrectState: no",
        ),
        (Fault::Refuse(409, "LockConflict", "no"), Class::Conflict(ConflictKind::Locked), "409"),
        (Fault::Refuse(409, "Conflict", "no"), Class::Conflict(ConflictKind::BeingModified), "409"),
        (Fault::Refuse(409, "InvalidatedRetryToken", "no"), Class::Conflict(ConflictKind::RetryToken), "409"),
        (Fault::Refuse(409, "NotAuthorizedOrResourceAlreadyExists", "no"), Class::Conflict(ConflictKind::Other), "409"),
        (Fault::Refuse(412, "NoEtagMatch", "no"), Class::Precondition, "412"),
        (Fault::RateLimit(7), Class::RateLimited(Some(Duration::from_secs(7))), "429 TooManyRequests"),
        (Fault::RateLimit(1_000_000), Class::RateLimited(Some(Duration::from_hours(1))), "429"),
        (Fault::Refuse(429, "TooManyRequests", "no"), Class::RateLimited(None), "429"),
        (Fault::Refuse(500, "InternalServerError", "no"), Class::Transient, "500"),
        (Fault::NO_CAPACITY, Class::NoCapacity, "Out of host capacity."),
        (Fault::Refuse(501, "MethodNotImplemented", "no"), Class::Permanent, "501"),
        (Fault::Refuse(503, "ServiceUnavailable", "no"), Class::Transient, "503"),
        (Fault::Page(502), Class::Transient, "HTTP 502; the answer is not OCI's"),
        (Fault::Page(404), Class::NotFound, "HTTP 404; the answer is not OCI's"),
    ] {
        rig.peer.script(Kind::Start, [fault.clone()]);
        let error = rig.oci.act(&id, "START", None, "t").unwrap_err();
        let text = error.to_string();
        assert_eq!(error.class(), class, "{fault:?}");
        assert!(text.starts_with(&format!("cannot START instance {id}: ")), "{text}");
        assert!(text.contains(words) && text.contains("opc-request-id PEER/1/2"), "{text}");
        assert_eq!(error.request_id(), Some("PEER/1/2"));
    }
    assert_eq!(rig.peer.effects(Kind::Start), 0);
}

#[test]
fn no_whole_answer_is_unknown_and_nothing_is_sent_twice() {
    let rig = rig();
    let id = ocid("a");
    let stop = |fault: Fault| {
        rig.peer.set(&id, Lifecycle::Running);
        rig.peer.script(Kind::Stop, [fault]);
        let (before, began) = (rig.peer.connections(), Instant::now());
        let error = rig.oci.act(&id, "STOP", None, &format!("t{before}")).unwrap_err();
        assert!(began.elapsed() < LIMIT * 4, "bounded: {:?}", began.elapsed());
        assert_eq!(rig.peer.connections() - before, 1, "one connection, one request");
        error
    };
    for fault in [
        Fault::EffectThenClose,
        Fault::EffectThenHang,
        Fault::EffectThenHalf,
        Fault::EffectThenEndless,
        Fault::EffectThenNonsense,
        Fault::Lose,
        Fault::Hang,
    ] {
        assert_eq!(stop(fault.clone()).class(), Class::Unknown, "{fault:?}");
        let effect = rig.peer.asked(Kind::Stop).last().unwrap().effect;
        assert_eq!(effect, fault.takes_effect(), "{fault:?}");
    }
    for door in [Door::Hang, Door::Reset] {
        rig.peer.doors([door]);
        assert_eq!(rig.oci.instance(&id).unwrap_err().class(), Class::Unknown, "{door:?}");
    }
}

#[test]
fn an_answer_about_another_instance_says_nothing_about_ours() {
    let dir = tempfile::tempdir().unwrap();
    let other = format!(r#"{{"id":"{}","lifecycleState":"RUNNING"}}"#, ocid("b"));
    let door = http::Peer::start(http::Manner::answer("200 OK", &other));
    let origin = peer::Oci::start().origin(dir.path());
    let oci = client(Access::profile(&origin, Some(&door.url()), Clock::system(), LIMIT).unwrap());
    assert_eq!(oci.instance(&ocid("a")).unwrap_err().class(), Class::Unknown);
    assert_eq!(oci.act(&ocid("a"), "STOP", None, "t").unwrap_err().class(), Class::Unknown);
    assert_eq!(oci.instance(&ocid("b")).unwrap().lifecycle, "RUNNING");
}

#[test]
fn what_never_left_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let gone = peer::Oci::start();
    let (origin, url) = (gone.origin(dir.path()), gone.url());
    drop(gone);
    let oci = |endpoint: &str| client(Access::profile(&origin, Some(endpoint), Clock::system(), LIMIT).unwrap());
    // The peer's thread closes its socket a moment after the peer has been dropped.
    let error = wait("a refused connection", || {
        oci(&url).instance(&ocid("a")).err().filter(|e| matches!(e.cause, Cause::Http(HttpError::Refused(_))))
    });
    assert_eq!(error.class(), Class::NotSent);
    let error = oci("https://169.254.169.254").act(&ocid("a"), "STOP", None, "t").unwrap_err();
    assert_eq!(error.class(), Class::NotSent, "only the metadata service may be there: {error}");
}

#[test]
fn a_list_is_read_to_its_end_and_no_further() {
    let rig = rig();
    for name in ["b", "c", "d"] {
        rig.peer.add_instance(&ocid(name), Lifecycle::Stopped);
    }
    rig.peer.page_size(2);
    let all = rig.oci.instances(COMPARTMENT).unwrap();
    let ids: Vec<&str> = all.iter().map(|instance| instance.id.as_str()).collect();
    assert_eq!(ids, [ocid("a"), ocid("b"), ocid("c"), ocid("d")]);
    assert_eq!(rig.peer.asked(Kind::List).len(), 2);
    assert_eq!(all[0].etag, None);
    rig.peer.page_size(0);
    let error = rig.oci.instances(COMPARTMENT).unwrap_err();
    assert!(matches!(error.cause, Cause::Endless(_)), "a page token that repeats ends it: {error}");
    assert!(rig.peer.asked(Kind::List).len() < 6);
    let other = rig.oci.instances("ocid1.compartment.oc1..other").unwrap_err();
    assert_eq!(other.class(), Class::NotFound);
    assert_eq!(rig.oci.instances("prod").unwrap_err().class(), Class::Permanent);
}

#[test]
fn an_instance_of_another_region_is_refused_before_anything_is_sent() {
    let rig = rig();
    let error = rig.oci.act("ocid1.instance.oc1.iad.abc", "STOP", None, "t").unwrap_err();
    let text = error.to_string();
    assert!(text.contains("us-ashburn-1") && text.contains("eu-frankfurt-1"), "{text}");
    assert_eq!(error.class(), Class::Permanent);
    for bad in ["", "a/b", "ocid1.instance.oc1.eu-frankfurt-1.a?action=START", "ocid1.vnic.oc1.eu-frankfurt-1.abc"] {
        assert_eq!(rig.oci.instance(bad).unwrap_err().class(), Class::Permanent, "{bad}");
    }
    for (action, etag, token) in
        [("stop", None, "t"), ("STOP&x=Y", None, "t"), ("STOP", Some("a\r\nb"), "t"), ("STOP", None, "")]
    {
        assert!(matches!(rig.oci.act(&ocid("a"), action, etag, token).unwrap_err().cause, Cause::Argument(_)));
    }
    assert!(rig.oci.act(&ocid("a"), "STOP", None, &"t".repeat(65)).is_err());
    assert_eq!(rig.peer.connections(), 0);
    // Old regions stand in OCIDs by their short code.
    rig.peer.add_instance("ocid1.instance.oc1.fra.old", Lifecycle::Running);
    assert!(rig.oci.instance("ocid1.instance.oc1.fra.old").is_ok());
}

#[test]
fn a_clock_that_is_off_is_named_as_the_cause() {
    let mut now = Clock::system().now();
    now.wall = Wall(now.wall.0 - 7 * 60 * 1000);
    let behind = rig_at(Clock::by_hand(now).0);
    let error = behind.oci.instance(&ocid("a")).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("our clock is 7 min") || text.contains("our clock is 6 min 59 s"), "{text}");
    assert!(text.contains("behind Oracle's") && text.contains("NTP"), "{text}");
    assert_eq!(error.class(), Class::Auth);
    let rig = rig();
    rig.peer.script(Kind::Get, [Fault::Skew(-600)]);
    let text = rig.oci.instance(&ocid("a")).unwrap_err().to_string();
    assert!(text.contains("ahead of Oracle's"), "{text}");
}

#[test]
fn the_peer_runs_hooks_plays_the_operator_and_names_what_is_signed_wrongly() {
    let rig = rig();
    let id = ocid("a");
    let seen = Arc::new(AtomicUsize::new(0));
    for (n, worth) in [(1, 1), (2, 10)] {
        let seen = Arc::clone(&seen);
        rig.peer.on_arrival(Kind::Get, n, Box::new(move || _ = seen.fetch_add(worth, Ordering::SeqCst)));
    }
    let after = Arc::clone(&seen);
    rig.peer.on_answered(Kind::Get, 2, Box::new(move || _ = after.fetch_add(100, Ordering::SeqCst)));
    rig.oci.instance(&id).unwrap();
    assert_eq!(seen.load(Ordering::SeqCst), 1);
    rig.oci.instance(&id).unwrap();
    wait("the hook after the answer", || (seen.load(Ordering::SeqCst) == 111).then_some(()));

    let etag = rig.peer.etag(&id);
    rig.peer.stop_by_hand(&id);
    wait("STOPPED", || (rig.peer.lifecycle(&id) == Lifecycle::Stopped).then_some(()));
    rig.peer.start_by_hand(&id);
    wait("RUNNING", || (rig.peer.lifecycle(&id) == Lifecycle::Running).then_some(()));
    assert_ne!(rig.peer.etag(&id), etag);
    rig.peer.durations(Durations { quiet_resets: true, ..Durations::default() });
    assert_eq!(rig.oci.act(&id, "SOFTRESET", None, "t1").unwrap().lifecycle, "RUNNING");
    rig.peer.durations(Durations::default());
    assert_eq!(rig.oci.act(&id, "RESET", None, "t2").unwrap().lifecycle, "STOPPING");
    wait("RUNNING again", || (rig.peer.lifecycle(&id) == Lifecycle::Running).then_some(()));
    rig.peer.terminate(&id);
    assert_eq!(rig.oci.instance(&id).unwrap().lifecycle, "TERMINATED");
    rig.peer.wait("eight requests", Duration::from_secs(5), |ledger| ledger.len() >= 5);

    // A key that is not ours.
    let home = Home::new();
    home.write("leaf.pem", &vector("leaf_private_key_pem_pkcs8"));
    let print = "[DEFAULT]\nkey_file=~/leaf.pem\nregion=fra\n";
    home.write(
        ".oci/config",
        &format!("{print}user={}\ntenancy={}\nfingerprint=x\n", vector("user"), vector("tenancy")),
    );
    let right = home.read("DEFAULT", None).unwrap_err();
    assert!(right.contains("16 pairs"), "{right}");
    let print = Key::from_pem(&vector("leaf_private_key_pem_pkcs8"), None).unwrap().fingerprint();
    let text =
        fs::read_to_string(home.path(".oci/config")).unwrap().replace("fingerprint=x", &format!("fingerprint={print}"));
    home.write(".oci/config", &text);
    let around = Around { home: Some(home.0.path().to_path_buf()), ..Around::default() };
    let settings = Settings { endpoint: rig.peer.url(), ..Settings::default() };
    let stranger =
        client(settings.access(&around, watchdog::client::proxy::Proxies::direct(), Clock::system(), LIMIT).unwrap());
    assert_eq!(stranger.instance(&id).unwrap_err().class(), Class::Auth);
    assert_eq!(rig.peer.violations().len(), 1);
}
