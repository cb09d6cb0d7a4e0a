//! One connection of the scripted cloud: read, recorded, judged, answered or not.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::super::listener::{Ended, Request, hang, hang_unread, reset};
use super::machine::Lifecycle;
use super::verify::{Signer, Wrong, verify};
use super::{CANARY, COMPARTMENT, Door, Entry, Fault, Kind, Shared, State, date, vector};

/// What will be sent.
struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Reply {
    fn json(status: u16, body: &Value) -> Reply {
        Reply { status, headers: Vec::new(), body: body.to_string() }
    }

    fn refuse(status: u16, code: &str, message: &str) -> Reply {
        Reply::json(status, &json!({"code": code, "message": message}))
    }
}

pub fn connection(shared: &Shared, mut stream: TcpStream, door: Option<Door>, ended: &Ended) {
    match door {
        Some(Door::Hang) => return hang_unread(ended),
        Some(Door::Reset) => return reset(stream),
        None => {}
    }
    let Some(asked) = Request::read(&mut stream) else { return };
    let kind = kind(&asked);
    let Arrived { index, fault, answered, shown } = arrive(shared, &asked, kind);
    if let Fault::Slow(span) = fault {
        ended.within(span);
    }
    let mut reply = match fault {
        Fault::Refuse(status, code, message) => Some(Reply::refuse(status, code, message)),
        Fault::RateLimit(seconds) => {
            let mut reply = Reply::refuse(429, "TooManyRequests", "User-rate limit exceeded.");
            reply.headers.push(("retry-after", seconds.to_string()));
            Some(reply)
        }
        Fault::Page(status) => {
            let body = "<html><head><title>Bad Gateway</title></head><body>nginx</body></html>".to_string();
            Some(Reply { status, headers: Vec::new(), body })
        }
        Fault::Skew(_) => Some(Reply::refuse(401, "NotAuthenticated", "Date outside of the allowed window")),
        Fault::Lose | Fault::Hang => None,
        _ => Some(judge(&mut shared.lock(), &asked, kind, (index, shown))),
    };
    match fault {
        Fault::EffectThenRefuse(status, code) => reply = Some(Reply::refuse(status, code, "something went wrong")),
        Fault::EffectThenNonsense => reply = Some(Reply::json(200, &json!({"hello": "world"}))),
        Fault::EffectThenClose | Fault::EffectThenHang => reply = None,
        _ => {}
    }
    if let Some(reply) = &reply {
        shared.lock().ledger[index].answered = Some(reply.status);
        send(&mut stream, reply, &fault, ended);
    }
    shared.changed.notify_all();
    depart(shared, kind);
    answered.into_iter().for_each(|hook| hook());
    if matches!(fault, Fault::Hang | Fault::EffectThenHang) {
        hang(&mut stream, ended);
    }
}

/// A request that was read.
struct Arrived {
    /// Its place in the ledger.
    index: usize,
    fault: Fault,
    answered: Option<super::Hook>,
    /// The instance as it was then: a look shows what the ledger says, however long its signature takes.
    shown: Option<(String, Value)>,
}

/// Writes the request into the ledger, runs the hooks, and takes its fault.
fn arrive(shared: &Shared, asked: &Request, kind: Kind) -> Arrived {
    let (hooks, arrived) = {
        let mut state = shared.lock();
        let n = state.arrivals.entry(kind).or_default();
        *n += 1;
        let n = *n;
        let fault = state.script.get_mut(&kind).and_then(std::collections::VecDeque::pop_front).unwrap_or(Fault::Serve);
        let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
        let instance = path.strip_prefix("/20160918/instances/").unwrap_or_default().to_string();
        let (before, shown) = match state.machines.get_mut(&instance) {
            None => (None, None),
            Some(machine) => {
                machine.settle();
                (Some(machine.lifecycle()), Some((machine.etag(), machine.json())))
            }
        };
        let index = state.ledger.len();
        state.ledger.push(Entry {
            at: Instant::now(),
            kind,
            verb: asked.verb.clone(),
            path: asked.path.clone(),
            action: query.strip_prefix("action=").map(str::to_string),
            instance,
            if_match: asked.headers.get("if-match").cloned(),
            retry_token: asked.headers.get("opc-retry-token").cloned(),
            before,
            answered: None,
            effect: false,
            repeated: false,
            headers: asked.headers.clone(),
        });
        let mut hooks = take(&mut state.on_arrival, kind, n);
        let strike = struck(&mut state);
        let (fault, answered) = match strike {
            Some(strike) => {
                hooks.extend(strike.arrived);
                (strike.fault.unwrap_or(fault), strike.answered)
            }
            None => (fault, None),
        };
        (hooks, Arrived { index, fault, answered, shown })
    };
    shared.changed.notify_all();
    hooks.into_iter().for_each(|hook| hook());
    arrived
}

/// The strike that the newest request in the ledger meets.
fn struck(state: &mut State) -> Option<super::Strike> {
    let (entry, before) = state.ledger.split_last()?;
    for index in 0..state.strikes.len() {
        let strike = &mut state.strikes[index];
        if (strike.wanted)(entry, before) {
            if strike.skip == 0 {
                return Some(state.strikes.remove(index));
            }
            strike.skip -= 1;
        }
    }
    None
}

fn depart(shared: &Shared, kind: Kind) {
    let hooks = {
        let mut state = shared.lock();
        let n = state.answers.entry(kind).or_default();
        *n += 1;
        let n = *n;
        take(&mut state.on_answered, kind, n)
    };
    hooks.into_iter().for_each(|hook| hook());
}

fn take(hooks: &mut Vec<(Kind, usize, super::Hook)>, kind: Kind, n: usize) -> Vec<super::Hook> {
    let mut taken = Vec::new();
    let mut index = 0;
    while index < hooks.len() {
        if hooks[index].0 == kind && hooks[index].1 == n {
            taken.push(hooks.remove(index).2);
        } else {
            index += 1;
        }
    }
    taken
}

fn kind(asked: &Request) -> Kind {
    let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
    match (asked.verb.as_str(), path) {
        ("GET", path) if path.starts_with("/opc/v2/") => Kind::Metadata,
        ("POST", "/v1/x509") => Kind::Token,
        ("GET", "/20160918/instances") => Kind::List,
        ("GET", path) if path.starts_with("/20160918/instances/") && query.is_empty() => Kind::Get,
        ("POST", path) if path.starts_with("/20160918/instances/") => match query {
            "action=START" => Kind::Start,
            "action=STOP" => Kind::Stop,
            "action=SOFTSTOP" => Kind::SoftStop,
            "action=RESET" => Kind::Reset,
            "action=SOFTRESET" => Kind::SoftReset,
            _ => Kind::Other,
        },
        _ => Kind::Other,
    }
}

/// What the real one would do and say.
fn judge(state: &mut State, asked: &Request, kind: Kind, arrived: (usize, Option<(String, Value)>)) -> Reply {
    if kind == Kind::Metadata {
        return metadata(state, asked);
    }
    let signer = if kind == Kind::Token { Signer::Leaf } else { Signer::Caller(&state.tokens) };
    let mut judged = verify(asked, &signer);
    if kind == Kind::Other {
        judged = Err(Wrong::Violation(format!("nobody should ask {} {}", asked.verb, asked.path)));
    }
    if let Err(wrong) = judged {
        if let Wrong::Violation(what) = wrong {
            state.violations.push(what);
        }
        return Reply::refuse(
            401,
            "NotAuthenticated",
            "The required information to complete authentication was not provided.",
        );
    }
    match kind {
        Kind::Token => token(state, asked),
        Kind::List => list(state, asked),
        _ => instance(state, kind, arrived),
    }
}

fn instance(state: &mut State, kind: Kind, (index, shown): (usize, Option<(String, Value)>)) -> Reply {
    let durations = state.durations;
    let entry = state.ledger[index].clone();
    let Some(machine) = state.machines.get_mut(&entry.instance) else {
        return Reply::refuse(404, "NotAuthorizedOrNotFound", "Authorization failed or requested resource not found.");
    };
    if let (Kind::Get, Some((etag, json))) = (kind, shown) {
        return Reply { headers: vec![("etag", etag)], ..Reply::json(200, &json) };
    }
    machine.settle();
    let used = entry.retry_token.as_ref().and_then(|token| state.retries.get(token));
    if let Some(used) = used {
        if *used != (entry.instance.clone(), kind) {
            state.violations.push(format!("a retry token of {used:?} was used again for {kind:?}"));
            return Reply::refuse(400, "InvalidParameter", "The retry token was used for something else.");
        }
        state.ledger[index].repeated = true;
        return Reply { headers: vec![("etag", machine.etag())], ..Reply::json(200, &machine.json()) };
    }
    if entry.if_match.as_ref().is_some_and(|etag| *etag != machine.etag()) {
        return Reply::refuse(412, "NoEtagMatch", "The If-Match header does not match the resource's etag.");
    }
    let needed = if kind == Kind::Start { Lifecycle::Stopped } else { Lifecycle::Running };
    if machine.lifecycle() != needed {
        let message = format!("The instance is in state {}.", machine.lifecycle().word());
        return Reply::refuse(409, "IncorrectState", &message);
    }
    match kind {
        Kind::Start => machine.start(&durations),
        Kind::Stop | Kind::SoftStop => machine.stop(&durations),
        _ => machine.reset(&durations),
    }
    state.ledger[index].effect = true;
    if let Some(token) = entry.retry_token {
        state.retries.insert(token, (entry.instance, kind));
    }
    Reply { headers: vec![("etag", machine.etag())], ..Reply::json(200, &machine.json()) }
}

fn list(state: &mut State, asked: &Request) -> Reply {
    let query = asked.path.split_once('?').map_or("", |(_, query)| query);
    let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    if value("compartmentId") != Some(COMPARTMENT) {
        return Reply::refuse(404, "NotAuthorizedOrNotFound", "Authorization failed or requested resource not found.");
    }
    let from = match value("page").map(|page| page.strip_prefix("p%2B%2F%3D").and_then(|n| n.parse::<usize>().ok())) {
        None => 0,
        Some(Some(from)) => from,
        Some(None) => {
            state.violations.push(format!("page is not encoded: {query}"));
            return Reply::refuse(400, "InvalidParameter", "page");
        }
    };
    let size = state.page_size.unwrap_or(usize::MAX);
    state.machines.values_mut().for_each(super::Machine::settle);
    let all: Vec<Value> = state.machines.values().map(super::Machine::json).collect();
    let page: Vec<&Value> = all.iter().skip(from).take(size).collect();
    let mut reply = Reply::json(200, &json!(page));
    if from.saturating_add(size) < all.len() {
        reply.headers.push(("opc-next-page", format!("p+/={}", from + size)));
    }
    reply
}

fn metadata(state: &mut State, asked: &Request) -> Reply {
    if asked.header("authorization") != "Bearer Oracle" {
        state.violations.push(format!("metadata without its header: {}", asked.path));
        return Reply::refuse(401, "", "");
    }
    let body = match asked.path.as_str() {
        "/opc/v2/identity/cert.pem" | "/opc/v2/identity/intermediate.pem" => vector("leaf_certificate_pem"),
        "/opc/v2/identity/key.pem" => vector("leaf_private_key_pem_pkcs8"),
        "/opc/v2/instance/region" => "fra".to_string(),
        "/opc/v2/instance/regionInfo" => json!({
            "realmDomainComponent": "oraclecloud.com",
            "realmKey": "oc1",
            "regionIdentifier": "eu-frankfurt-1",
            "regionKey": "FRA",
        })
        .to_string(),
        _ => return Reply::refuse(404, "", ""),
    };
    Reply { status: 200, headers: Vec::new(), body }
}

fn token(state: &mut State, asked: &Request) -> Reply {
    let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
    let plain = |value: &Value| value.as_str().is_some_and(|text| STANDARD.decode(text).is_ok());
    let Some(public) = body["publicKey"].as_str().and_then(|text| STANDARD.decode(text).ok()) else {
        state.violations.push("a token request without publicKey".to_string());
        return Reply::refuse(400, "InvalidParameter", "publicKey");
    };
    if !plain(&body["certificate"]) || !plain(&body["intermediateCertificates"][0]) {
        state.violations.push("certificates are not plain base64".to_string());
    }
    let life = state.token_life.unwrap_or(Duration::from_hours(1));
    let ends = (SystemTime::now() + life).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({"exp": ends, "jti": state.ledger.len()}).to_string();
    let token = format!("eyJhbGciOiJub25lIn0.{}.{CANARY}", URL_SAFE_NO_PAD.encode(claims));
    state.tokens.insert(token.clone(), public);
    Reply::json(200, &json!({"token": token}))
}

fn send(stream: &mut TcpStream, reply: &Reply, fault: &Fault, ended: &Ended) {
    let ahead = if let Fault::Skew(seconds) = fault { *seconds } else { 0 };
    let mut head = format!(
        "HTTP/1.1 {} X\r\nDate: {}\r\nContent-Type: application/json\r\nopc-request-id: PEER/1/2\r\nConnection: close\r\n",
        reply.status,
        date(ahead)
    );
    for (name, value) in &reply.headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    let length = format!("Content-Length: {}\r\n\r\n", reply.body.len());
    let _ = match fault {
        Fault::EffectThenHalf => {
            stream.write_all(format!("{head}{length}{}", &reply.body[..reply.body.len() / 2]).as_bytes())
        }
        Fault::EffectThenEndless => {
            let mut sent = stream.write_all(format!("{head}\r\n").as_bytes());
            while sent.is_ok() && !ended.is() {
                sent = stream.write_all(&[b' '; 16 * 1024]);
            }
            sent
        }
        _ => stream.write_all(format!("{head}{length}{}", reply.body).as_bytes()),
    };
}
