//! Session tokens and instance principals: read, traded, renewed, never shown.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use watchdog::client::oci::principal::Where;
use watchdog::client::oci::settings::{Around, Auth, Settings};
use watchdog::client::oci::{Access, Class, Oci, OciError};
use watchdog::clock::Clock;
use watchdog::core::time::Now;

use super::config::Home;
use super::{LIMIT, client};
use crate::peer::oci::{self as peer, CANARY, Fault, Kind, Lifecycle, ocid, vector};

#[test]
fn a_session_token_is_read_again_for_each_request() {
    let peer = peer::Oci::start();
    peer.add_instance(&ocid("a"), Lifecycle::Running);
    let home = Home::new();
    home.write(".oci/key.pem", &vector("private_key_pem_pkcs8"));
    home.write(".oci/token", &format!("x.y.{CANARY}"));
    home.write(
        ".oci/config",
        &format!(
            "[S]\ntenancy={}\nregion=fra\nkey_file=~/.oci/key.pem\nsecurity_token_file=~/.oci/token\n",
            vector("tenancy")
        ),
    );
    let around = Around { home: Some(home.0.path().to_path_buf()), ..Around::default() };
    let settings = Settings { profile: "S".to_string(), endpoint: peer.url(), ..Settings::default() };
    let oci =
        client(settings.access(&around, watchdog::client::proxy::Proxies::direct(), Clock::system(), LIMIT).unwrap());
    let stale = oci.instance(&ocid("a")).unwrap_err();
    assert_eq!(stale.class(), Class::Auth, "nobody handed out this one");
    peer.accept_token(&format!("new.y.{CANARY}"), &vector("public_key_spki_der_base64"));
    home.write(".oci/token", &format!("new.y.{CANARY}\n"));
    assert!(oci.instance(&ocid("a")).is_ok());
    fs::remove_file(home.path(".oci/token")).unwrap();
    let absent = oci.instance(&ocid("a")).unwrap_err();
    assert_eq!(absent.class(), Class::Auth);
    let shown = format!("{stale} {stale:?} {absent} {absent:?} {oci:?}");
    assert!(!shown.contains(CANARY), "{shown}");
}

struct Principal {
    peer: peer::Oci,
    oci: Oci,
    hand: Arc<Mutex<Now>>,
}

fn principal() -> Principal {
    let peer = peer::Oci::start();
    peer.add_instance(&ocid("a"), Lifecycle::Running);
    let (clock, hand) = Clock::by_hand(Clock::system().now());
    let limit = Duration::from_secs(10);
    let oci = client(Access::principal(peer.principal(), Some(&peer.url()), clock, limit).unwrap());
    Principal { peer, oci, hand }
}

#[test]
fn an_instance_principal_gets_a_token_once_and_renews_it_before_it_ends() {
    let rig = principal();
    let tokens = || rig.peer.asked(Kind::Token).len();
    for _ in 0..3 {
        rig.oci.instance(&ocid("a")).unwrap();
    }
    assert_eq!((tokens(), rig.peer.asked(Kind::Metadata).len()), (1, 4));
    // The peer's clock stands where ours was; a date up to five minutes off is let in.
    let pass = |seconds: i64| rig.hand.lock().unwrap().wall.0 += seconds * 1000;
    rig.peer.token_life(Duration::from_mins(8));
    rig.peer.revoke_tokens();
    rig.oci.instance(&ocid("a")).unwrap();
    assert_eq!(tokens(), 2, "one refusal, one new token");
    pass(180);
    rig.oci.instance(&ocid("a")).unwrap();
    assert_eq!(tokens(), 2);
    pass(80);
    rig.peer.script(Kind::Token, [Fault::Refuse(503, "ServiceUnavailable", "no")]);
    rig.oci.instance(&ocid("a")).unwrap();
    assert_eq!(tokens(), 3, "after half of a short life a new one is asked for; a failure harms nobody");
    rig.oci.instance(&ocid("a")).unwrap();
    assert_eq!(tokens(), 4);
    assert!(!format!("{:?}", rig.oci).contains(CANARY));
}

#[test]
fn a_refused_token_is_replaced_once_and_an_action_is_sent_twice_at_most() {
    let rig = principal();
    let no = Fault::Refuse(401, "NotAuthenticated", "no");
    rig.peer.script(Kind::Stop, [no.clone(), no.clone(), no.clone()]);
    let error = rig.oci.act(&ocid("a"), "STOP", None, "t").unwrap_err();
    assert_eq!(
        (error.class(), rig.peer.asked(Kind::Stop).len(), rig.peer.asked(Kind::Token).len()),
        (Class::Auth, 2, 2)
    );
    rig.peer.clear_script(Kind::Stop);
    rig.peer.script(Kind::Stop, [no]);
    assert_eq!(rig.oci.act(&ocid("a"), "STOP", None, "t").unwrap().lifecycle, "STOPPING");
    assert_eq!(rig.peer.effects(Kind::Stop), 1);
}

#[test]
fn without_a_token_nothing_is_sent_and_the_step_that_failed_is_named() {
    let rig = principal();
    for (kind, fault, class, words) in [
        (Kind::Metadata, Fault::Page(502), Class::NotSent, "/instance/region"),
        (Kind::Metadata, Fault::Refuse(404, "", ""), Class::Auth, "/instance/region"),
        (Kind::Token, Fault::Refuse(401, "NotAuthenticated", "no"), Class::Auth, "federation endpoint"),
        (Kind::Token, Fault::Page(503), Class::NotSent, "federation endpoint"),
        (Kind::Token, Fault::EffectThenNonsense, Class::NotSent, "federation endpoint"),
    ] {
        // The region is asked for in two ways.
        rig.peer.script(kind, [fault.clone(), fault.clone()]);
        let error = rig.oci.act(&ocid("a"), "STOP", None, "t").unwrap_err();
        assert_eq!(error.class(), class, "{fault:?} {error}");
        assert!(error.to_string().contains(words), "{error}");
        rig.peer.clear_script(kind);
    }
    assert!(rig.peer.asked(Kind::Stop).is_empty());
}

#[test]
fn only_the_metadata_service_may_be_link_local() {
    let around = Around { metadata: Some("http://127.0.0.1:9/opc/v2".to_string()), ..Around::default() };
    let settings = Settings { auth: Auth::InstancePrincipal, ..Settings::default() };
    let oci =
        client(settings.access(&around, watchdog::client::proxy::Proxies::direct(), Clock::system(), LIMIT).unwrap());
    let error: OciError = oci.instance(&ocid("a")).unwrap_err();
    assert_eq!(error.class(), Class::NotSent, "{error}");
    assert!(error.to_string().contains("connection refused by 127.0.0.1:9"), "{error}");
    let peer = peer::Oci::start();
    let place = Where { federation: Some("http://169.254.169.254:1".to_string()), ..peer.principal() };
    let access = Access::principal(place, None, Clock::system(), LIMIT).unwrap();
    let error = client(access).instance(&ocid("a")).unwrap_err();
    assert!(error.to_string().contains("is a link-local or metadata address"), "{error}");
}
