//! What is told of probes: each verdict by the real check, from the result that it would have had.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ureq::http::HeaderMap;
use watchdog::client::dial::DialError;
use watchdog::client::dns::DnsError;
use watchdog::client::http::{HttpError, Response};
use watchdog::client::icmp::PingError;
use watchdog::client::resolve::ResolveError;
use watchdog::client::trust::{Flaw, Refusal, Verified};
use watchdog::config::Config;
use watchdog::core::edge::EdgeKind;
use watchdog::core::signal::Reading;
use watchdog::source::probe::advice::Peer;
use watchdog::source::probe::exec::Ended;
use watchdog::source::probe::verdict::Verdict;
use watchdog::source::probe::{Check, Probe, observed, read as probes, tcp, unresolved};

use super::{Chapter, Scene, outfit};

const MS: Duration = Duration::from_millis(1);
const LIMIT: Duration = Duration::from_secs(5);

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The probe of this table.
fn probe(toml: &str) -> Probe {
    let config = Config::from_toml(&format!("[[probe]]\n{toml}")).unwrap_or_else(|e| panic!("{e}"));
    let (mut probes, _) = probes::probes(&config, &outfit()).unwrap_or_else(|e| panic!("{e}"));
    probes.remove(0)
}

/// What is told of a probe with this verdict.
fn told(probe: &Probe, verdict: &Verdict) -> String {
    let mut scene = Scene::new();
    let kind = if verdict.reading == Reading::Unknown { EdgeKind::Unknown } else { EdgeKind::Alert };
    scene.until(kind, "probe", || vec![observed(&probe.spec, verdict, scene_time())])
}

/// The scene sets the time of each look itself.
fn scene_time() -> watchdog::core::time::Mono {
    watchdog::core::time::Mono(0)
}

fn http(keys: &str, judge: impl Fn(&watchdog::source::probe::http::HttpCheck) -> Verdict) -> String {
    let probe = probe(&format!("name = \"api\"\ntarget = \"https://api.example.org/health?token=x\"\n{keys}"));
    let Check::Http(check) = &probe.check else { panic!("not http") };
    told(&probe, &judge(check))
}

fn answer(status: u16, kind: &str, body: &str) -> Response {
    Response { status, content_type: kind.to_string(), body: body.as_bytes().to_vec(), ..Response::default() }
}

fn tls(judge: impl Fn(&watchdog::source::probe::tls::TlsCheck) -> Verdict) -> String {
    let probe = probe("name = \"shop-cert\"\ntarget = \"tls://shop.example.org\"\nseverity = \"warning\"");
    let Check::Tls(check) = &probe.check else { panic!("not tls") };
    told(&probe, &judge(check))
}

fn dns(keys: &str, judge: impl Fn(&watchdog::source::probe::dns::DnsCheck) -> Verdict) -> String {
    let probe = probe(&format!("name = \"shop-name\"\ntarget = \"dns://shop.example.org\"\n{keys}"));
    let Check::Dns(check) = &probe.check else { panic!("not dns") };
    told(&probe, &judge(check))
}

fn exec(judge: impl Fn(&watchdog::source::probe::exec::ExecCheck) -> Verdict) -> String {
    let probe = probe("name = \"backup-age\"\ncommand = [\"/usr/local/bin/backup-age\", \"--max\", \"26h\"]");
    let Check::Exec(check) = &probe.check else { panic!("not exec") };
    told(&probe, &judge(check))
}

#[test]
fn what_is_told_of_probes() {
    let mut chapter = Chapter::new("Probes");
    tcp_verdicts(&mut chapter);
    dns_verdicts(&mut chapter);
    tls_verdicts(&mut chapter);
    http_verdicts(&mut chapter);
    http_bodies(&mut chapter);
    exec_verdicts(&mut chapter);
    icmp_verdicts(&mut chapter);
    chapter.check();
}

fn tcp_verdicts(chapter: &mut Chapter) {
    let db = probe("name = \"db\"\ntarget = \"tcp://127.0.0.1:5432\"");
    let peer = Peer { host: "127.0.0.1", port: 5432 };
    let remote = probe("name = \"mail\"\ntarget = \"tcp://mail.example.org:25\"\nexpect = \"220\"");
    let far = Peer { host: "mail.example.org", port: 25 };
    let there = address("192.0.2.25:25");
    let cache = probe("name = \"cache\"\ntarget = \"tcp://redis:6379\"");
    let Check::Tcp(check) = &remote.check else { panic!("not tcp") };
    let refused = DialError::Refused(address("127.0.0.1:5432"));
    chapter.show("tcp: refused on this host", &told(&db, &tcp::not_connected(&refused, LIMIT, peer)));
    let service = Peer { host: "redis", port: 6379 };
    let refused = DialError::Refused(address("172.18.0.3:6379"));
    chapter.show("tcp: refused by a compose service", &told(&cache, &tcp::not_connected(&refused, LIMIT, service)));
    let refused = DialError::Refused(there);
    chapter.show("tcp: refused on another host", &told(&remote, &tcp::not_connected(&refused, LIMIT, far)));
    let silent = DialError::Timeout(there);
    chapter.show("tcp: timed out", &told(&remote, &tcp::not_connected(&silent, LIMIT, far)));
    let unreachable = DialError::Unreachable(there, "no route to host".to_string());
    chapter.show("tcp: unreachable", &told(&remote, &tcp::not_connected(&unreachable, LIMIT, far)));
    chapter.show("tcp: closed at once", &told(&db, &tcp::hung_up("closed", peer)));
    chapter.show("tcp: reset", &told(&remote, &tcp::hung_up("reset", far)));
    chapter.show("tcp: connected, but silent", &told(&remote, &check.lacks("220", "no more within 5 s", b"")));
    let other = check.lacks("220", "the connection ended", b"554 no service\r\n");
    chapter.show("tcp: another answer", &told(&remote, &other));
    let gone = ResolveError::NotFound { name: "redis".to_string(), why: "Name or service not known".to_string() };
    chapter.show("tcp: the name does not resolve", &told(&cache, &unresolved(&gone, "redis")));
    let silent = ResolveError::Timeout { name: "redis".to_string(), limit: LIMIT };
    chapter.show("tcp: the resolver does not answer", &told(&cache, &unresolved(&silent, "redis")));
}

fn dns_verdicts(chapter: &mut Chapter) {
    let server = address("192.0.2.53:53");
    let asked = "server = \"192.0.2.53\"\n";
    chapter.show("dns: NXDOMAIN", &dns(asked, |check| check.failed(&DnsError::NoSuchName(server))));
    let fails = DnsError::Failed(server, "SERVFAIL".to_string());
    chapter.show("dns: SERVFAIL", &dns(asked, |check| check.failed(&fails)));
    chapter.show("dns: no answer", &dns(asked, |check| check.failed(&DnsError::Timeout(server))));
    let found: Vec<IpAddr> = vec!["192.0.2.7".parse().unwrap()];
    let keys = "expect = \"192.0.2.8\"\n";
    chapter.show("dns: another address", &dns(keys, |check| check.judge(found.clone(), 3 * MS)));
    let gone =
        ResolveError::NotFound { name: "shop.example.org".to_string(), why: "Name or service not known".to_string() };
    chapter.show("dns: not found by the system", &dns("", |_| unresolved(&gone, "shop.example.org")));
}

fn tls_verdicts(chapter: &mut Chapter) {
    const DAY: i64 = 86_400;
    let now = crate::world::NEW_YEAR / 1_000;
    let ends =
        |days: i64| Verified { leaf_ends: now + days * DAY, ends: now + days * DAY, first: "certificate".into() };
    chapter.show("tls: expires soon", &tls(|check| check.judge(&ends(9))));
    let table = [
        ("expired", Flaw::Expired, "the certificate expired 2 days ago: renew it"),
        (
            "not valid yet",
            Flaw::NotYetValid,
            "the certificate is not valid yet, only in 3 days; one of the two clocks is wrong",
        ),
        (
            "another name",
            Flaw::Name,
            "the certificate is not for shop.example.org, but for www.example.org (it expires in 60 days)",
        ),
        (
            "unknown authority",
            Flaw::Authority,
            "the certificate is signed by an unknown authority, \"Example CA\": give the authority's certificate as \
             ca_file (it expires in 60 days)",
        ),
        (
            "the intermediate certificate is missing",
            Flaw::Chain,
            "the certificate is signed by an unknown authority, \"R11\"; a server with a public certificate must also send \
             its intermediate one (it expires in 60 days)",
        ),
        (
            "self-signed",
            Flaw::SelfSigned,
            "the certificate is self-signed: give it as ca_file (it expires in 3000 days)",
        ),
        ("pinned", Flaw::Pin, "the certificate is not the pinned one: its SHA-256 fingerprint is 5f1d…"),
        ("plain text", Flaw::NotTls, "the peer does not speak TLS; is the port one for plain connections?"),
        (
            "client certificate",
            Flaw::ClientCertificate,
            "the peer wants a client certificate: set client_cert and client_key where the probe has them",
        ),
    ];
    for (heading, flaw, words) in table {
        chapter.show(&format!("tls: {heading}"), &tls(|check| check.refused(&Refusal::new(flaw, words))));
    }
}

fn http_verdicts(chapter: &mut Chapter) {
    let mut headers = HeaderMap::new();
    headers.insert("location", "https://login.example.org/start?session=secret".parse().unwrap());
    let moved = Response { headers, ..answer(301, "text/html", "") };
    chapter.show("http: redirect", &http("", |check| check.judge(&moved, 12 * MS)));
    for status in [401, 404, 429, 500, 503, 418] {
        let body = if status == 503 { "upstream connect error" } else { "" };
        let answer = answer(status, "text/plain", body);
        chapter.show(&format!("http: status {status}"), &http("", |check| check.judge(&answer, 12 * MS)));
    }
    let ok = answer(200, "text/plain", "ok");
    let slow = http("max_latency = \"2s\"\nseverity = \"warning\"\n", |check| check.judge(&ok, 4_210 * MS));
    chapter.show("http: too slow", &slow);
    let stuck = HttpError::Timeout(LIMIT, "waiting for the answer");
    chapter.show("http: no answer in time", &http("", |check| check.failed(&stuck)));
    let refused = HttpError::Refused(address("192.0.2.80:443"));
    chapter.show("http: refused", &http("", |check| check.failed(&refused)));
    let broken = HttpError::Broken("connection reset by the peer".to_string());
    chapter.show("http: reset", &http("", |check| check.failed(&broken)));
    let expired = HttpError::Tls(Refusal::new(Flaw::Expired, "the certificate expired 2 days ago: renew it"));
    chapter.show("http: expired certificate", &http("", |check| check.failed(&expired)));
    let proxy = HttpError::Proxy("the proxy 192.0.2.3:3128 answers with status 407".to_string());
    chapter.show("http: the proxy refuses", &http("", |check| check.failed(&proxy)));
}

fn http_bodies(chapter: &mut Chapter) {
    let page = answer(200, "text/html", "<h1>Login</h1>");
    let lacks = http("body_contains = \"healthy\"\n", |check| check.judge(&page, 12 * MS));
    chapter.show("http: the body lacks a text", &lacks);
    let error = answer(200, "text/plain", "database error");
    let holds = http("body_not_contains = \"error\"\n", |check| check.judge(&error, 12 * MS));
    chapter.show("http: the body contains an unwanted text", &holds);
    let wanted = "json_pointer = \"/status/db\"\njson_equals = \"up\"\n";
    let down = answer(200, "application/json", r#"{"status":{"db":"down"}}"#);
    chapter.show("http: JSON pointer, another value", &http(wanted, |check| check.judge(&down, 12 * MS)));
    let empty = answer(200, "application/json", "{}");
    chapter.show("http: JSON pointer, no value", &http(wanted, |check| check.judge(&empty, 12 * MS)));
    chapter.show("http: not JSON", &http(wanted, |check| check.judge(&page, 12 * MS)));
}

fn exec_verdicts(chapter: &mut Chapter) {
    let output = b"checking /srv/backup\nlast backup is 31 h old\n";
    chapter.show("exec: exit code", &exec(|check| check.ended(Ended::Code(2), output, 40 * MS)));
    let missing = b"sh: 1: restic: not found\n";
    chapter.show("exec: exit code 127", &exec(|check| check.ended(Ended::Code(127), missing, 40 * MS)));
    chapter.show("exec: signal", &exec(|check| check.ended(Ended::Signal(11), b"", 40 * MS)));
    chapter.show("exec: time limit", &exec(|check| check.ended(Ended::Late, b"waiting for lock\n", LIMIT)));
    chapter.show("exec: not runnable", &exec(|check| check.not_started("No such file or directory")));
}

fn icmp_verdicts(chapter: &mut Chapter) {
    let router = probe("name = \"router\"\ntarget = \"icmp://192.0.2.1\"");
    let Check::Icmp(check) = &router.check else { panic!("not icmp") };
    let there: IpAddr = "192.0.2.1".parse().unwrap();
    chapter.show("icmp: no answer", &told(&router, &check.failed(&PingError::Timeout(there))));
    let unreachable = PingError::Unreachable(there, "no route to host".to_string());
    chapter.show("icmp: unreachable", &told(&router, &check.failed(&unreachable)));
    let forbidden = PingError::Forbidden { range: "1 0".to_string() };
    chapter.show("icmp: pings not allowed", &told(&router, &check.failed(&forbidden)));
}
