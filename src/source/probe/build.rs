//! Puts one probe together from its settings, and shares between probes what can be shared: http
//! clients and certificate verifiers with the same options, and the process groups of commands.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::ServerName;
use ureq::http::header::{AUTHORIZATION, CONNECTION};
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method as Verb, Uri};

use super::dns::DnsCheck;
use super::exec::{ExecCheck, Groups};
use super::http::{HttpCheck, JsonWant, Statuses};
use super::icmp::IcmpCheck;
use super::pool::Pace;
use super::settings::{Fault, Method, Settings, Type, wrong};
use super::target::{Place, Target};
use super::tcp::TcpCheck;
use super::tls::TlsCheck;
use super::{Check, Probe};
use crate::client::http::{Http, Options};
use crate::client::proxy::{Environment, Proxies};
use crate::client::resolve::{Lane, is_link_local, zone};
use crate::client::trust::{Keys, Terms, Trust, Wrong};
use crate::config::form;
use crate::config::headers::{FILE, read as read_headers};
use crate::config::value::Secret;
use crate::config::veil::is_secret_name;
use crate::config::written::wrote;
use crate::core::about::About;
use crate::core::rule::{Rule, Test};
use crate::core::signal::{SignalKey, Spec};
use crate::source::Outfit;

/// What the keys about certificates are called.
const KEYS: Keys = Keys { ca: "ca_file", pin: "tls_fingerprint" };
/// The longest body that may be asked about.
const BODY: u64 = 8 * 1024 * 1024;
/// Headers that the client sets by itself, or that hold secrets.
const TAKEN: &[&str] =
    &["authorization", "proxy-authorization", "cookie", "connection", "content-length", "transfer-encoding"];

/// Days that a certificate may have left and still be taken for one that ends soon.
const MOST_DAYS: u32 = 3_650;

/// Options that make one http client different from another.
type Kind = (Duration, u32, bool, usize, TrustKind, Option<String>);
/// Settings that make one trust different from another: authorities, fingerprint, our certificate and its key.
type TrustKind = (Option<PathBuf>, Option<String>, Option<PathBuf>, Option<PathBuf>);

/// Builds probes.
pub struct Workshop<'a> {
    outfit: &'a Outfit,
    clients: BTreeMap<Kind, Arc<Http>>,
    trusts: BTreeMap<TrustKind, Arc<Trust>>,
    environment: Environment,
    plain: Arc<HeaderMap>,
    groups: Groups,
}

impl<'a> Workshop<'a> {
    /// An empty workshop. Probes without a `proxy` of their own go by `environment`.
    pub fn new(outfit: &'a Outfit, environment: Environment) -> Workshop<'a> {
        Workshop {
            outfit,
            clients: BTreeMap::new(),
            trusts: BTreeMap::new(),
            environment,
            plain: Arc::new(plain_headers()),
            groups: Groups::default(),
        }
    }

    /// The process groups that the exec probes built here share.
    pub fn into_groups(self) -> Groups {
        self.groups
    }

    /// A probe of type `kind`; says which field is wrong and how it would be right.
    pub fn probe(&mut self, settings: &Settings, kind: Type) -> Result<Probe, Fault> {
        let pace = self.pace(settings)?;
        let target = match kind {
            Type::Exec => None,
            _ => Some(Target::parse(&settings.target, kind).map_err(|e| wrong("target", e))?),
        };
        let dependency = target.as_ref().and_then(Target::place).map(dependency);
        let place = target.as_ref().and_then(Target::endpoint);
        if let Some(place) = target.as_ref().and_then(Target::place) {
            may_talk_to(place, settings).map_err(|what| wrong("target", what))?;
        }
        let (check, short) = match target {
            None => self.exec(settings, pace.limit)?,
            Some(target) => {
                let short = target.to_string();
                (self.check(settings, kind, target, pace.limit)?, short)
            }
        };
        let rule = Rule {
            fail_after: settings.fail_after,
            recover_after: settings.recover_after,
            ..Rule::counted(Test::Verdict)
        };
        let key = SignalKey::new(&format!("probe/{}", settings.name));
        let title = format!("{kind} {short}");
        // People know a check by the name that they gave it; what it asks stands beside.
        let about = About { name: settings.name.as_str().into(), group: title.as_str().into(), ..About::default() };
        let about = wrote(about, &settings.note, &settings.runbook, settings.cooldown)
            .map_err(|(field, what)| wrong(field, what))?;
        let spec = Spec::new(key, title, settings.severity, rule).about(about);
        Ok(Probe { spec: Arc::new(spec), pace, check, dependency, place })
    }

    fn pace(&self, settings: &Settings) -> Result<Pace, Fault> {
        // A zero interval is the default, written out.
        let interval = settings.interval.map(|i| i.0).filter(|i| !i.is_zero()).unwrap_or(self.outfit.tick);
        let limit = settings.timeout.map_or(self.outfit.timeout, |t| t.0);
        if interval < Duration::from_millis(100) {
            return Err(wrong("interval", "is too short; the least is 100ms"));
        }
        if !(Duration::from_millis(10)..=Duration::from_mins(5)).contains(&limit) {
            return Err(wrong("timeout", "should be from 10ms to 5m"));
        }
        for (field, count) in [("fail_after", settings.fail_after), ("recover_after", settings.recover_after)] {
            if !(1..=1000).contains(&count) {
                return Err(wrong(field, "should be from 1 to 1000"));
            }
        }
        Ok(Pace { interval, limit, counts: settings.fail_after.max(settings.recover_after) })
    }

    fn check(&mut self, settings: &Settings, kind: Type, target: Target, limit: Duration) -> Result<Check, Fault> {
        let allow_link_local = settings.allow_link_local;
        Ok(match target {
            Target::Url(uri, _) => Check::Http(Box::new(self.http(settings, uri, limit)?)),
            Target::Name(name) => Check::Dns(dns(settings, name, limit)?),
            Target::Port(place) if kind == Type::Icmp => {
                Check::Icmp(IcmpCheck { host: place.host, limit, allow_link_local })
            }
            Target::Port(place) if kind == Type::Tls => Check::Tls(Box::new(self.tls(settings, place, limit)?)),
            Target::Port(place) => Check::Tcp(TcpCheck {
                port: place.port.unwrap_or_default(),
                host: place.host,
                limit,
                allow_link_local,
                send: settings.send.clone(),
                expect: texts(settings)?,
                waiting: Mutex::default(),
            }),
        })
    }

    fn http(&mut self, settings: &Settings, uri: Uri, limit: Duration) -> Result<HttpCheck, Fault> {
        if settings.body_limit > BODY {
            return Err(wrong("body_limit", format!("should be at most {BODY}")));
        }
        if settings.follow_redirects > 10 {
            return Err(wrong("follow_redirects", "should be at most 10"));
        }
        if settings.body_not_contains.as_deref() == Some("") {
            return Err(wrong("body_not_contains", "is empty, which every body contains"));
        }
        let json = match (&settings.json_pointer, &settings.json_equals) {
            (None, Some(_)) => return Err(wrong("json_equals", "needs json_pointer: the place that it is about")),
            (Some(pointer), _) if !pointer.is_empty() && form::pointer(pointer).is_err() => {
                return Err(wrong("json_pointer", form::pointer(pointer).err().unwrap_or_default()));
            }
            (Some(pointer), equals) => Some(JsonWant { pointer: pointer.clone(), equals: equals.clone() }),
            (None, None) => None,
        };
        if settings.method == Method::Head
            && (json.is_some() || settings.body_contains.is_some() || settings.body_not_contains.is_some())
        {
            return Err(wrong("method", "HEAD brings no body to look into; use GET"));
        }
        Ok(HttpCheck {
            client: self.client(settings, limit)?,
            method: if settings.method == Method::Head { Verb::HEAD } else { Verb::GET },
            uri,
            headers: self.headers(settings)?,
            statuses: Statuses::parse(&settings.status).map_err(|e| wrong("status", e))?,
            contains: settings.body_contains.clone(),
            lacks: settings.body_not_contains.clone(),
            json,
            max_latency: settings.max_latency.map(|s| s.0).filter(|s| !s.is_zero()),
        })
    }

    /// Most probes send nothing of their own and share one map of headers.
    fn headers(&self, settings: &Settings) -> Result<Arc<HeaderMap>, Fault> {
        let headers = headers(settings)?;
        Ok(if headers == *self.plain { Arc::clone(&self.plain) } else { Arc::new(headers) })
    }

    fn client(&mut self, settings: &Settings, timeout: Duration) -> Result<Arc<Http>, Fault> {
        // At most BODY, which fits everywhere.
        let body_limit = usize::try_from(settings.body_limit).unwrap_or(usize::MAX);
        let redirects = settings.follow_redirects;
        let proxy = Secret::resolve("proxy", settings.proxy.as_ref(), settings.proxy_file.as_deref())
            .map_err(|e| wrong(if settings.proxy.is_some() { "proxy" } else { "proxy_file" }, e))?;
        let proxy = proxy.map(|proxy| proxy.expose().trim().to_string());
        let trust = trust_kind(settings);
        let kind = (timeout, redirects, settings.allow_link_local, body_limit, trust, proxy);
        // A connection that is kept is one probe's own.
        if let Some(client) = self.clients.get(&kind).filter(|_| !settings.keep_alive) {
            return Ok(Arc::clone(client));
        }
        let proxies = Proxies::new(kind.5.as_deref(), self.environment.clone()).map_err(|e| wrong("proxy", e))?;
        let options = Options {
            timeout,
            redirects,
            allow_link_local: settings.allow_link_local,
            lane: Lane::Targets,
            keep_alive: settings.keep_alive,
            body_limit,
            trust: self.trust(settings)?,
            proxies: Arc::new(proxies),
        };
        let client = Arc::new(Http::new(options));
        if !settings.keep_alive {
            self.clients.insert(kind, Arc::clone(&client));
        }
        Ok(client)
    }

    fn trust(&mut self, settings: &Settings) -> Result<Arc<Trust>, Fault> {
        let kind = trust_kind(settings);
        if let Some(trust) = self.trusts.get(&kind) {
            return Ok(Arc::clone(trust));
        }
        let (ca, fingerprint, certificate, key) = &kind;
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate.as_path(), key.as_path())),
            (Some(_), None) => return Err(wrong("client_cert", "needs client_key, the file of its private key")),
            (None, Some(_)) => return Err(wrong("client_key", "needs client_cert, the file of its certificate")),
            (None, None) => None,
        };
        let terms = Terms { ca: ca.as_deref(), fingerprint: fingerprint.as_deref(), identity, keys: KEYS };
        let trust = Trust::new(&terms).map_err(|what| {
            let field = match &what {
                Wrong::Ca(_) => KEYS.ca,
                Wrong::Fingerprint(_) => KEYS.pin,
                Wrong::Certificate(_) => "client_cert",
                Wrong::Key(_) => "client_key",
            };
            wrong(field, what.what())
        })?;
        let trust = Arc::new(trust);
        self.trusts.insert(kind, Arc::clone(&trust));
        Ok(trust)
    }

    fn tls(&mut self, settings: &Settings, place: Place, limit: Duration) -> Result<TlsCheck, Fault> {
        let (field, asked) = match &settings.server_name {
            Some(name) => ("server_name", name),
            None => ("target", &place.host),
        };
        // The name in a certificate has no dot at its end.
        let asked = asked.strip_suffix('.').unwrap_or(asked).to_string();
        let server_name = ServerName::try_from(asked).map_err(|_| {
            wrong(field, "is not a name that a certificate can carry; write for example \"example.org\"")
        })?;
        if settings.min_days > MOST_DAYS {
            return Err(wrong("min_days", format!("is more than any certificate lasts; the most is {MOST_DAYS}")));
        }
        Ok(TlsCheck {
            port: place.port.unwrap_or(443),
            host: place.host,
            server_name,
            limit,
            allow_link_local: settings.allow_link_local,
            min_days: settings.min_days,
            trust: self.trust(settings)?,
            clock: self.outfit.clock.clone(),
        })
    }

    /// A command and what to call it: only the program's own name, arguments may hold secrets.
    fn exec(&self, settings: &Settings, limit: Duration) -> Result<(Check, String), Fault> {
        let (command, short) = match settings.command.as_slice() {
            [] => return Err(wrong("command", "is needed: [\"/usr/local/bin/check\", \"--fast\"]")),
            [line] if settings.shell => {
                (vec!["sh".to_string(), "-c".to_string(), line.clone()], line.split_whitespace().next())
            }
            _ if settings.shell => {
                return Err(wrong("command", "is one line when shell = true: [\"check | grep ok\"]"));
            }
            [program, ..] if program.trim().is_empty() => return Err(wrong("command", "begins with an empty program")),
            [program, ..] => (settings.command.clone(), Some(program.as_str())),
        };
        if command.iter().any(|part| part.contains('\0')) {
            return Err(wrong("command", "holds a NUL character"));
        }
        let short = short.and_then(|program| program.rsplit('/').next()).unwrap_or("sh").chars().take(80).collect();
        Ok((Check::Exec(ExecCheck { command, limit, groups: self.groups.clone() }), short))
    }
}

fn trust_kind(settings: &Settings) -> TrustKind {
    let path = |path: &Option<PathBuf>| path.clone().filter(|path| !path.as_os_str().is_empty());
    let fingerprint = settings.tls_fingerprint.clone().filter(|text| !text.trim().is_empty());
    (path(&settings.ca_file), fingerprint, path(&settings.client_cert), path(&settings.client_key))
}

/// What a probe sends beside what every request has.
fn headers(settings: &Settings) -> Result<HeaderMap, Fault> {
    let mut headers = if settings.keep_alive { HeaderMap::new() } else { plain_headers() };
    let read = read_headers(&settings.headers).map_err(|all| {
        let all: Vec<String> = all.iter().map(|one| format!("\"{}\": {}", one.key.escape_debug(), one.what)).collect();
        wrong("headers", all.join("; "))
    })?;
    for (name, value) in read {
        let bad = |what: &str| wrong("headers", format!("\"{}\" {what}", name.escape_debug()));
        if TAKEN.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(bad("cannot be set here; for credentials use user and password, or authorization"));
        }
        let header = HeaderName::try_from(name.as_str()).map_err(|_| bad("is not a header's name"))?;
        let is_secret = is_secret_name(&name) || settings.headers.contains_key(&format!("{name}{FILE}"));
        let mut value = HeaderValue::try_from(value.expose()).map_err(|_| bad("has a bad value"))?;
        value.set_sensitive(is_secret);
        headers.insert(header, value);
    }
    let secret =
        Secret::resolve("authorization", settings.authorization.as_ref(), settings.authorization_file.as_deref())
            .map_err(|e| {
                wrong(if settings.authorization.is_some() { "authorization" } else { "authorization_file" }, e)
            })?;
    if let Some(secret) = secret {
        let value = HeaderValue::try_from(secret.expose());
        let mut value = value.map_err(|_| wrong("authorization", "holds a character that no header may hold"))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    if let Some(value) = basic(settings)?
        && headers.insert(AUTHORIZATION, value).is_some()
    {
        return Err(wrong("user", "and authorization are both set; keep one"));
    }
    Ok(headers)
}

/// User and password as HTTP wants them.
fn basic(settings: &Settings) -> Result<Option<HeaderValue>, Fault> {
    let password = Secret::resolve("password", settings.password.as_ref(), settings.password_file.as_deref())
        .map_err(|e| wrong(if settings.password.is_some() { "password" } else { "password_file" }, e))?;
    let Some(user) = settings.user.as_deref().filter(|user| !user.is_empty()) else {
        return match password {
            None => Ok(None),
            Some(_) => Err(wrong("password", "needs user, whose password it is")),
        };
    };
    if user.contains(':') {
        return Err(wrong("user", "holds a colon, which ends the name; put the password into password"));
    }
    let both = format!("{user}:{}", password.as_ref().map(Secret::expose).unwrap_or_default());
    let value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(both)));
    let mut value = value.map_err(|_| wrong("password", "cannot be sent"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// The connection is used once, and says so.
fn plain_headers() -> HeaderMap {
    HeaderMap::from_iter([(CONNECTION, HeaderValue::from_static("close"))])
}

/// What a place shares its fate with: its address, or the zone of its name.
fn dependency(place: &Place) -> Arc<str> {
    match place.address() {
        Some(address) => address.to_string().into(),
        None => zone(&place.host).into(),
    }
}

fn may_talk_to(place: &Place, settings: &Settings) -> Result<(), String> {
    match place.address().filter(|address| is_link_local(*address)) {
        Some(address) if !settings.allow_link_local => {
            Err(format!("{address} is a link-local or metadata address; set allow_link_local = true if it is meant"))
        }
        _ => Ok(()),
    }
}

fn dns(settings: &Settings, name: String, limit: Duration) -> Result<DnsCheck, Fault> {
    let server = match settings.server.trim() {
        "" if settings.allow_link_local => return Err(wrong("allow_link_local", "means nothing without a server")),
        "" => None,
        // An IPv6 address alone needs no brackets here: there is nothing that it could be confused with.
        text if text.parse::<IpAddr>().is_ok() => Some(Place { host: text.to_string(), port: None }),
        text => {
            let right = "write for example \"192.0.2.53\", \"192.0.2.53:5353\" or \"[2001:db8::53]:53\"";
            Some(Place::parse(text).map_err(|e| wrong("server", format!("{e}; {right}")))?)
        }
    };
    if let Some(place) = &server {
        may_talk_to(place, settings).map_err(|what| wrong("server", what))?;
    }
    Ok(DnsCheck {
        name,
        limit,
        expect: addresses(&settings.expect.0)?,
        server,
        allow_link_local: settings.allow_link_local,
    })
}

/// What a tcp server must say.
fn texts(settings: &Settings) -> Result<Vec<String>, Fault> {
    let all: Vec<String> =
        settings.expect.0.iter().chain(Some(&settings.receive).filter(|t| !t.is_empty())).cloned().collect();
    if all.iter().any(String::is_empty) {
        return Err(wrong("expect", "holds an empty text; write for example [\"SSH-2.0\"]"));
    }
    if all.iter().any(|text| text.len() > super::tcp::ANSWER) {
        return Err(wrong("expect", format!("holds a text of more than {} bytes", super::tcp::ANSWER)));
    }
    Ok(all)
}

fn addresses(texts: &[String]) -> Result<Vec<IpAddr>, Fault> {
    let parse = |text: &String| {
        let address = text.trim().parse::<IpAddr>().map(|a| a.to_canonical());
        address.map_err(|_| wrong("expect", format!("\"{}\" is not an address", text.escape_debug())))
    };
    texts.iter().map(parse).collect()
}
