//! Requests through a proxy that asserts what it is sent and misbehaves.

use watchdog::client::http::{Http, HttpError, Options};
use watchdog::client::proxy::{Environment, Proxies};
use watchdog::client::trust::{Terms, Trust};

use super::*;
use crate::daemon::{Daemon, SOON, watchdog};
use crate::peer::forward::{Forward, Way};
use crate::peer::telegram::Telegram;
use crate::peer::tls::{TlsPeer, pem};
use crate::setup::Setup;

fn by(proxy: &str) -> Http {
    let trust = Trust::new(&Terms { ca: Some(&pem("root.pem")), ..Terms::default() }).unwrap();
    let proxies = Arc::new(Proxies::new(Some(proxy), Environment::default()).unwrap());
    Http::new(Options { trust: Arc::new(trust), proxies, timeout: Duration::from_secs(2), ..Options::default() })
}

fn with_user(proxy: &Forward) -> String {
    format!("http://user:canary@{}", proxy.place())
}

#[test]
fn a_plain_request_carries_its_whole_address_and_our_credentials() {
    let peer = Peer::start(Manner::answer("200 OK", "ok"));
    let proxy = Forward::start(Way::To(([127, 0, 0, 1], peer.port()).into()));
    // The name is the proxy's to look up: nobody here knows it.
    let answer = by(&with_user(&proxy)).get("http://far.invalid:81/a?b=c", &[("X-Own", "1")]).unwrap();
    assert_eq!(answer.body, b"ok");
    let heard = proxy.heard();
    let head = heard[0].to_lowercase();
    assert!(heard[0].starts_with("GET http://far.invalid:81/a?b=c HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nproxy-authorization: basic dxnlcjpjyw5hcnk=\r\n"), "{head}");
    assert!(head.contains("\r\nhost: far.invalid:81\r\n") && head.contains("\r\nx-own: 1\r\n"), "{head}");
    assert_eq!(heard.len(), 1);
    // A body follows its header untouched.
    by(&proxy.url()).post_json("http://far.invalid/", "{\"GET /x HTTP/1.1\": 1}").unwrap();
    assert!(proxy.heard()[1].starts_with("POST http://far.invalid/ HTTP/1.1\r\n"), "{:?}", proxy.heard());
    assert!(!proxy.heard()[1].to_lowercase().contains("proxy-authorization"), "{:?}", proxy.heard());
}

#[test]
fn a_tls_request_goes_through_a_tunnel_that_sees_only_the_place() {
    let peer = TlsPeer::start(&["direct.pem"], "direct.key");
    let proxy = Forward::start(Way::To(([127, 0, 0, 1], peer.port()).into()));
    let url = format!("https://localhost:{}/secret/path", peer.port());
    assert_eq!(by(&with_user(&proxy)).get(&url, &[("Authorization", "Bearer hidden")]).unwrap().body, b"ok");
    let heard = proxy.heard();
    assert!(heard[0].starts_with(&format!("CONNECT localhost:{} HTTP/1.1\r\n", peer.port())), "{heard:?}");
    assert!(heard[0].contains("Proxy-Authorization: Basic dXNlcjpjYW5hcnk=\r\n"), "{heard:?}");
    assert!(!heard[0].contains("hidden") && !heard[0].contains("secret"), "{heard:?}");
    // The certificate is judged behind the proxy as in front of it.
    let error = by(&proxy.url()).get("https://other.invalid/", &[]).unwrap_err().to_string();
    assert!(error.starts_with("TLS: the certificate is not for other.invalid, but for localhost"), "{error}");
}

#[test]
fn a_proxy_that_misbehaves_is_named_and_the_peer_is_not_blamed() {
    let say = |status: &str| Way::Say(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes());
    let long = Way::Say([b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'a'; 20 * 1024]].concat());
    let table = [
        (say("407 Proxy Authentication Required"), "wants a user and a password (HTTP 407)", true),
        (say("403 Forbidden"), "does not let this pass (HTTP 403)", true),
        (say("502 Bad Gateway"), "cannot reach it (HTTP 502)", false),
        (say("504 Gateway Timeout"), "cannot reach it (HTTP 504)", false),
        (Way::Say(b"SSH-2.0-OpenSSH\r\n\r\n".to_vec()), "does not answer as an HTTP proxy", true),
        (Way::Close, "ended the connection before it answered", true),
        (long, "is larger than 16 KiB", true),
    ];
    for (way, words, is_ours) in table {
        let proxy = Forward::start(way);
        let error = by(&proxy.url()).get("https://far.invalid/", &[]).unwrap_err();
        assert!(error.to_string().contains(words) && error.to_string().contains(&proxy.place()), "{words}: {error}");
        assert_eq!(matches!(error, HttpError::Proxy(_)), is_ours, "{words}: {error:?}");
        assert!(error.is_unsent(), "{error:?}");
    }
    let proxy = Forward::start(say("407 Proxy Authentication Required"));
    let error = by(&with_user(&proxy)).get("https://far.invalid/", &[]).unwrap_err().to_string();
    assert!(error.contains("does not accept the user and password") && !error.contains("canary"), "{error}");
    let error = by(&proxy.url()).get("http://far.invalid/", &[]).unwrap_err();
    assert!(matches!(&error, HttpError::Proxy(what) if what.contains("wants a user and a password")), "{error:?}");
    let begun = Instant::now();
    let hangs = Forward::start(Way::Hang);
    let error = by(&hangs.url()).get("https://far.invalid/", &[]).unwrap_err().to_string();
    assert_eq!(error, "no answer within 2 s (waiting for the proxy)");
    assert!(begun.elapsed() < Duration::from_secs(10));
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = by(&format!("http://{gone}")).get("http://far.invalid/", &[]).unwrap_err();
    let words = format!("the proxy {gone} cannot be reached: connection refused by {gone}");
    assert_eq!(error, HttpError::Proxy(words));
}

#[test]
fn a_redirect_is_routed_and_checked_anew_and_metadata_stays_out_of_reach() {
    let inner = b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest\r\nContent-Length: 0\r\n\r\n".to_vec();
    let proxy = Forward::start(Way::Say(inner));
    let http = by(&proxy.url());
    let follows = Http::new(Options { redirects: 3, ..http.options().clone() });
    let error = follows.get("http://far.invalid/", &[]).unwrap_err();
    assert!(error.to_string().contains("169.254.169.254"), "{error}");
    assert_eq!(proxy.heard().len(), 1, "{:?}", proxy.heard());
}

#[test]
fn each_request_on_a_kept_connection_of_a_proxy_carries_its_whole_address() {
    let (peer, answered) = ends_after(1000, false);
    let proxies = Arc::new(Proxies::new(Some(&peer.url()), Environment::default()).unwrap());
    let http = Http::new(Options { keep_alive: true, proxies, ..Options::default() });
    for _ in 0..3 {
        assert_eq!(http.get("http://far.invalid/x", &[]).unwrap().body, b"ok");
    }
    assert_eq!((peer.connections(), answered.load(Ordering::SeqCst)), (1, 3));
}

#[test]
fn the_environment_is_honoured_by_each_client_and_the_first_screen_says_so() {
    let telegram = Telegram::start();
    let bot: std::net::SocketAddr = telegram.base_url().trim_start_matches("http://").parse().unwrap();
    let proxy = Forward::start(Way::To(bot));
    let dir = tempfile::tempdir().unwrap();
    let gone = "[[probe]]\nname = \"gone\"\ntarget = \"tcp://127.0.0.1:1\"\nfail_after = 1\n";
    let other = Forward::start(Way::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()));
    let far = format!("[[probe]]\nname = \"far\"\ntarget = \"http://far.example/\"\nproxy = {:?}\n", with_user(&other));
    let setup = Setup::new("200ms").telegram(&telegram).set("telegram.api_base", "http://api.far.example");
    setup.block(gone).block(&far).write(dir.path());
    let mut command = watchdog(dir.path());
    command.arg("run").env("http_proxy", with_user(&proxy)).env("NO_PROXY", "near.example").env_remove("HTTP_PROXY");
    let daemon = Daemon::start_with(&mut command);
    let told = telegram.wait_delivered(1, SOON);
    assert!(told[0].text.contains("probe/gone"), "{told:?}");
    daemon.wait_state("probe/far", "ok");
    let banner = daemon.stdout();
    for line in [format!("telegram through {}", proxy.place()), format!("1 probe through {}", other.place())] {
        assert!(banner.contains(&line), "{line} in {banner}");
    }
    daemon.terminate();
    let heard = proxy.heard();
    assert!(heard.iter().any(|head| head.starts_with("POST http://api.far.example/bot")), "{heard:?}");
    assert!(other.heard().iter().all(|head| head.starts_with("GET http://far.example/ ")), "{:?}", other.heard());
    for said in [banner, std::fs::read_to_string(dir.path().join("log")).unwrap_or_default()] {
        assert!(!said.contains("canary"), "{said}");
    }

    let mut check = watchdog(dir.path());
    let output = check.args(["config", "check"]).env("http_proxy", "socks5://user:canary@x:1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("http_proxy: a SOCKS proxy cannot be used") && !said.contains("canary"), "{said}");
}

#[test]
fn probes_go_by_the_environment_but_for_this_machine() {
    let proxy = Forward::start(Way::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()));
    let near = Peer::start(Manner::answer("200 OK", "ok"));
    let dir = tempfile::tempdir().unwrap();
    let quiet = "host.enabled = false\ndocker.enabled = false\nlisten = \"\"\n";
    let targets = format!(
        "deps = [\"far=http://far.example/\", \"near={}/\", \"except=http://a.except.invalid/\"]\n",
        near.url()
    );
    configure(dir.path(), &format!("{targets}{quiet}"));
    let mut check = watchdog(dir.path());
    let check = check.arg("check").env("HTTP_PROXY", proxy.url()).env("no_proxy", ".except.invalid");
    let output = check.env_remove("http_proxy").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let heard = proxy.heard();
    assert!(heard.len() == 1 && heard[0].starts_with("GET http://far.example/ "), "{heard:?} {said}");
    assert_eq!(near.connections(), 1, "{said}");
    // Under CGI the variable in capitals is the word of a stranger.
    let mut check = watchdog(dir.path());
    let check = check.arg("check").env("HTTP_PROXY", proxy.url()).env("REQUEST_METHOD", "GET");
    check.env_remove("http_proxy").output().unwrap();
    assert_eq!(proxy.heard().len(), 1, "{:?}", proxy.heard());
}

#[test]
fn a_probes_own_proxy_is_a_secret_and_a_proxy_that_is_gone_makes_it_unknown() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let keys = format!("target = \"http://far.example/\"\nproxy = \"http://user:canary@{gone}\"\n");
    let output = {
        configure(
            dir.path(),
            &format!("host.enabled = false\ndocker.enabled = false\n[[probe]]\nname = \"far\"\n{keys}"),
        );
        run(dir.path(), &["check"])
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("cannot be reached: connection refused") && said.contains("unknown"), "{said}");
    let shown = run(dir.path(), &["config", "show"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(!said.contains("canary") && !shown.contains("canary") && shown.contains("proxy"), "{shown}");
}
