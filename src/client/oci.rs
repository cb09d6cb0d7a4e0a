//! Oracle Cloud Infrastructure on the wire: the state of compute instances, and actions on them.
//!
//! One call in, one answer or one error out: no retries and no policy. Every request is signed anew,
//! because the date is part of what is signed; the one exception to "no retries" is a token that was
//! refused, which is replaced once. Redirects are not followed. An instance of another region than ours is refused
//! before anything is sent (F69). Neither keys nor tokens show in any output.

pub mod config;
pub mod error;
pub mod key;
pub mod principal;
pub mod realm;
pub mod settings;
pub mod sign;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::Request as HttpRequest;

use self::config::{Origin, Profile, SetupError};
pub use self::error::{Cause, Class, ConflictKind, OciError, Refused};
use self::key::Key;
use self::principal::{Principal, Where};
use self::realm::{Region, full, ocid};
use self::sign::Request;
use super::http::{Http, HttpError, Options, Part, Response};
use super::proxy::Proxies;
use super::trust::Trust;
use crate::clock::Clock;
use crate::config::form;
use crate::config::value::Secret;
use crate::config::veil::quoted;

/// The version of the compute API, at the head of every path.
const VERSION: &str = "/20160918";
/// Bytes of an answer at most; fifty instances with their metadata are well below.
const BODY_LIMIT: usize = 4 * 1024 * 1024;
/// Instances asked for at once.
const PAGE: usize = 50;
/// Pages of a list at most.
const PAGES: usize = 100;
/// Letters of a retry token at most, which is also Oracle's limit.
const TOKEN_LIMIT: usize = 64;

/// Everything that is needed to call: who we are, where to, and how long it may take.
#[derive(Debug, Clone)]
pub struct Access {
    identity: Identity,
    endpoint: Option<String>,
    timeout: Duration,
    clock: ClockInHand,
    trust: Arc<Trust>,
    proxies: Arc<Proxies>,
}

/// A clock that `Debug` can pass over.
#[derive(Clone)]
struct ClockInHand(Clock);

impl std::fmt::Debug for ClockInHand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

#[derive(Debug, Clone)]
enum Identity {
    ApiKey { key: Key, key_id: String, region: Option<Region> },
    SessionToken { key: Key, file: PathBuf, region: Option<Region> },
    Principal(Arc<Principal>),
}

/// What one request is signed with and where it goes.
struct Pass {
    key: Key,
    key_id: Secret,
    token: Option<Secret>,
    region: Option<Region>,
}

impl Access {
    /// By a profile of a configuration file: its API key, or its session token.
    pub fn profile(
        origin: &Origin,
        endpoint: Option<&str>,
        clock: Clock,
        timeout: Duration,
    ) -> Result<Access, SetupError> {
        let profile = Profile::read(origin)?;
        if profile.region.is_none() && endpoint.is_none() {
            return Err(SetupError::Key {
                file: PathBuf::from(&origin.file),
                profile: origin.profile.clone(),
                key: "region",
                why: "is missing; OCI_REGION is not set either".to_string(),
            });
        }
        let (key, region) = (profile.key, profile.region);
        let identity = match (profile.key_id, profile.token_file) {
            (None, Some(file)) => Identity::SessionToken { key, file, region },
            (key_id, _) => Identity::ApiKey { key, key_id: key_id.unwrap_or_default(), region },
        };
        Access::with(identity, endpoint, clock, timeout)
    }

    /// As the instance that we run on. Asks nobody yet.
    pub fn principal(
        place: Where,
        endpoint: Option<&str>,
        clock: Clock,
        timeout: Duration,
    ) -> Result<Access, SetupError> {
        let principal = Principal::new(place, clock.clone(), timeout);
        Access::with(Identity::Principal(Arc::new(principal)), endpoint, clock, timeout)
    }

    /// The full name of our region, to check an instance's OCID by at start; `None` where it is not known before the
    /// first call (instance principals) or nothing names one (explicit endpoint).
    pub fn region(&self) -> Option<&str> {
        match &self.identity {
            Identity::ApiKey { region, .. } | Identity::SessionToken { region, .. } => {
                region.as_ref().map(|region| region.name.as_str())
            }
            Identity::Principal(_) => None,
        }
    }

    fn with(identity: Identity, endpoint: Option<&str>, clock: Clock, timeout: Duration) -> Result<Access, SetupError> {
        let endpoint = endpoint.map(checked).transpose()?;
        let (trust, proxies) = (Trust::bundled(), Proxies::direct());
        Ok(Access { identity, endpoint, timeout, clock: ClockInHand(clock), trust, proxies })
    }

    /// The same with these authorities and proxies; those of a principal stand in its [`Where`].
    #[must_use]
    pub fn via(self, trust: Arc<Trust>, proxies: Arc<Proxies>) -> Access {
        Access { trust, proxies, ..self }
    }
}

/// An endpoint without its last slash: https, or http on this machine, and no path (T21).
fn checked(endpoint: &str) -> Result<String, SetupError> {
    let wrong = |why: &str| Err(SetupError::Endpoint(format!("{} {why}", quoted(endpoint))));
    form::url(endpoint.trim()).map_err(SetupError::Endpoint)?;
    let endpoint = endpoint.trim().trim_end_matches('/');
    let (scheme, host) = endpoint.split_once("://").unwrap_or_default();
    if !matches!(scheme, "http" | "https") || host.is_empty() || host.contains(['/', '?', '#', '@']) {
        return wrong("is not a base URL; write for example https://iaas.eu-frankfurt-1.oraclecloud.com");
    }
    let bare = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let here = bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if scheme == "http" && !here {
        return wrong("is not encrypted, and anybody on the way could tell lies about machines; write https://");
    }
    Ok(endpoint.to_string())
}

/// A compute instance as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its OCID.
    pub id: String,
    /// The name that people gave it.
    pub display_name: String,
    /// `RUNNING`, `STOPPED`, … ; Oracle may add words.
    pub lifecycle: String,
    /// The version that was read, for `if-match`; `None` in lists.
    pub etag: Option<String>,
    /// `Abcd:EU-FRANKFURT-1-AD-1`.
    pub availability_domain: String,
    /// `FAULT-DOMAIN-2`, or empty.
    pub fault_domain: String,
    /// The compartment's OCID.
    pub compartment_id: String,
    /// As Oracle writes it: a full name or a short code.
    pub region: String,
    /// When Oracle will reboot it for maintenance, RFC 3339.
    pub maintenance_due: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    id: String,
    display_name: Option<String>,
    lifecycle_state: String,
    availability_domain: Option<String>,
    fault_domain: Option<String>,
    compartment_id: Option<String>,
    region: Option<String>,
    time_maintenance_reboot_due: Option<String>,
}

impl Wire {
    fn instance(self, etag: Option<&str>) -> Instance {
        Instance {
            id: self.id,
            display_name: self.display_name.unwrap_or_default(),
            lifecycle: self.lifecycle_state,
            etag: etag.map(str::to_string),
            availability_domain: self.availability_domain.unwrap_or_default(),
            fault_domain: self.fault_domain.unwrap_or_default(),
            compartment_id: self.compartment_id.unwrap_or_default(),
            region: self.region.unwrap_or_default(),
            maintenance_due: self.time_maintenance_reboot_due.filter(|due| !due.is_empty()),
        }
    }
}

/// The compute API.
#[derive(Clone)]
pub struct Oci {
    http: Http,
    access: Access,
}

impl std::fmt::Debug for Oci {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Oci").field("access", &self.access).finish_non_exhaustive()
    }
}

/// One call: for its errors, and for what goes on the wire.
struct Call<'a> {
    operation: &'a str,
    subject: &'a str,
    method: &'static str,
    path: String,
    more: Vec<(&'static str, &'a str)>,
}

impl Call<'_> {
    fn failed(&self, cause: impl Into<Cause>) -> OciError {
        OciError::new(self.operation, self.subject, cause)
    }
}

impl Oci {
    /// A client with this access. Asks nobody yet.
    pub fn new(access: Access) -> Result<Oci, OciError> {
        let (trust, proxies) = (Arc::clone(&access.trust), Arc::clone(&access.proxies));
        let own = Options { timeout: access.timeout, body_limit: BODY_LIMIT, trust, proxies, ..Options::default() };
        let http = Http::new(own);
        Ok(Oci { http, access })
    }

    /// Reads an instance.
    pub fn instance(&self, id: &str) -> Result<Instance, OciError> {
        let call = Call {
            operation: "read instance",
            subject: id,
            method: "GET",
            path: format!("{VERSION}/instances/{id}"),
            more: Vec::new(),
        };
        self.one(&call)
    }

    /// Starts an action (`START`, `STOP`, `RESET`, `SOFTRESET`, …) and gives the instance as it is then, which is
    /// before the action has ended. `if_match` is the etag of the read that led to it. The same
    /// `retry_token` (1 to 64 letters) for the same decision makes a repetition harmless for 24 hours.
    pub fn act(&self, id: &str, action: &str, if_match: Option<&str>, retry_token: &str) -> Result<Instance, OciError> {
        let mut more = vec![("opc-retry-token", retry_token)];
        more.extend(if_match.map(|etag| ("if-match", etag)));
        let operation = format!("{action} instance");
        let path = format!("{VERSION}/instances/{id}?action={action}");
        let call = Call { operation: &operation, subject: id, method: "POST", path, more };
        if action.is_empty() || !action.bytes().all(|b| b.is_ascii_uppercase()) {
            return Err(call.failed(Cause::Argument("the action is not a word in capital letters")));
        }
        let visible = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        if !visible(retry_token) || retry_token.len() > TOKEN_LIMIT {
            return Err(call.failed(Cause::Argument("the retry token should be 1 to 64 visible characters")));
        }
        if if_match.is_some_and(|etag| !visible(etag) || etag.len() > 512) {
            return Err(call.failed(Cause::Argument("the etag cannot be sent")));
        }
        self.one(&call)
    }

    /// Every instance of a compartment, not of those below it. At most [`PAGES`] pages are read.
    pub fn instances(&self, compartment: &str) -> Result<Vec<Instance>, OciError> {
        let first = format!("{VERSION}/instances?compartmentId={}&limit={PAGE}", encoded(compartment));
        let mut call = Call {
            operation: "list instances of compartment",
            subject: compartment,
            method: "GET",
            path: first.clone(),
            more: Vec::new(),
        };
        if ocid(compartment).is_none_or(|id| !matches!(id.kind, "compartment" | "tenancy")) {
            return Err(call.failed(Cause::Argument("it is not an OCID of a compartment (ocid1.compartment.…)")));
        }
        let mut all = Vec::new();
        let mut last = String::new();
        for _ in 0..PAGES {
            let answer = self.send(&call)?;
            let page: Vec<Wire> = serde_json::from_slice(&answer.body).map_err(|_| unreadable(&call, &answer))?;
            all.extend(page.into_iter().map(|wire| wire.instance(None)));
            let Some(next) = answer.header("opc-next-page") else { return Ok(all) };
            if next == last {
                break;
            }
            last = next.to_string();
            call.path = format!("{first}&page={}", encoded(next));
        }
        Err(call.failed(Cause::Endless(PAGES)))
    }

    /// A call about one instance, which must be of our region.
    fn one(&self, call: &Call) -> Result<Instance, OciError> {
        let id = ocid(call.subject).filter(|id| id.kind == "instance");
        if id.is_none() {
            return Err(call.failed(Cause::Argument("it is not an OCID of an instance (ocid1.instance.…)")));
        }
        let answer = self.send(call)?;
        let wire: Wire = serde_json::from_slice(&answer.body).map_err(|_| unreadable(call, &answer))?;
        if wire.id != call.subject {
            return Err(unreadable(call, &answer));
        }
        Ok(wire.instance(answer.header("etag")))
    }

    /// Sends, and once more with a new token when that of a principal was refused.
    fn send(&self, call: &Call) -> Result<Response, OciError> {
        let pass = self.pass(call, None)?;
        let answer = self.once(call, &pass)?;
        let principal = matches!(self.access.identity, Identity::Principal(_));
        let (answer, pass) = if answer.status == 401 && principal {
            let pass = self.pass(call, pass.token.as_ref())?;
            (self.once(call, &pass)?, pass)
        } else {
            (answer, pass)
        };
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        let refused = Refused::of(&answer, self.access.clock.0.now().wall, pass.token.as_ref().map(Secret::expose));
        Err(call.failed(Cause::Refused(Box::new(refused))))
    }

    fn once(&self, call: &Call, pass: &Pass) -> Result<Response, OciError> {
        let base = match (&self.access.endpoint, &pass.region) {
            (Some(endpoint), _) => endpoint.clone(),
            (None, Some(region)) => region.service("iaas"),
            (None, None) => return Err(call.failed(Cause::Argument("no region is known"))),
        };
        let url = format!("{base}{}", call.path);
        let date = self.access.clock.0.now().wall.http_date();
        let request = Request { method: call.method, url: &url, body: &[], date: &date, sign_host: true };
        let headers = request.sign(&pass.key, pass.key_id.expose()).map_err(|e| call.failed(e))?;
        let mut built = HttpRequest::builder().method(call.method).uri(&url).header("accept", "application/json");
        for (name, value) in headers {
            built = built.header(name, value);
        }
        for (name, value) in &call.more {
            built = built.header(*name, *value);
        }
        let sent = if call.method == "GET" {
            built.body(()).map(|request| self.http.run(request, |_| Part::All))
        } else {
            built.body([].as_slice()).map(|request| self.http.send(request))
        };
        sent.map_err(|_| call.failed(HttpError::BadUrl))?.map_err(|e| call.failed(e))
    }

    /// What to sign with. `refused`: the token that must be replaced.
    fn pass(&self, call: &Call, refused: Option<&Secret>) -> Result<Pass, OciError> {
        let pass = match &self.access.identity {
            Identity::ApiKey { key, key_id, region } => {
                Pass { key: key.clone(), key_id: Secret::new(key_id), token: None, region: region.clone() }
            }
            Identity::SessionToken { key, file, region } => {
                // Read each time: a tool of Oracle's renews it.
                let token = config::token(file).map_err(|why| call.failed(Cause::Identity(why, Class::Auth)))?;
                let key_id = Secret::new(format!("ST${}", token.expose()));
                Pass { key: key.clone(), key_id, token: Some(token), region: region.clone() }
            }
            Identity::Principal(principal) => {
                let session = principal.session(refused).map_err(|error| call.failed(without_token(&error)))?;
                let key_id = Secret::new(format!("ST${}", session.token.expose()));
                Pass { key: session.key, key_id, token: Some(session.token), region: Some(session.region) }
            }
        };
        if let (Some(ours), Some(id)) = (&pass.region, ocid(call.subject))
            && !id.region.is_empty()
            && full(&id.region.to_ascii_lowercase()) != ours.name
        {
            let theirs = full(id.region).to_string();
            return Err(call.failed(Cause::Region { theirs, ours: ours.name.clone() }));
        }
        Ok(pass)
    }
}

/// A call that could not be signed never left, whatever the reason; whether we are let in stays visible.
fn without_token(error: &OciError) -> Cause {
    let class = match error.class() {
        Class::Auth | Class::NotFound => Class::Auth,
        Class::Permanent => Class::Permanent,
        _ => Class::NotSent,
    };
    Cause::Identity(error.to_string(), class)
}

fn unreadable(call: &Call, answer: &Response) -> OciError {
    call.failed(Cause::Unreadable { status: answer.status, request_id: error::request_id(answer) })
}

/// Percent-encoded for a query.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => {
                // Writing to a string cannot fail.
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::time::Wall;

    #[test]
    fn an_endpoint_is_a_base_url_and_plain_only_on_this_machine() {
        for good in ["https://x.example", "http://127.0.0.1:8089/", "http://localhost:1", "http://[::1]:2"] {
            assert_eq!(checked(good).unwrap(), good.trim_end_matches('/'));
        }
        for bad in [
            "",
            "x.example",
            "ftp://x",
            "https://",
            "https://x/20160918",
            "https://u@x",
            "http://x.example",
            "http://10.0.0.1",
            "http://127.example.org",
            "http://[fe80::1]",
        ] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_page_token_is_encoded_as_the_sdk_does() {
        assert_eq!(encoded("AAAAAAAAAAFzdGFydA+/=="), "AAAAAAAAAAFzdGFydA%2B%2F%3D%3D");
        assert_eq!(encoded("web 1/blue"), "web%201%2Fblue");
    }

    #[test]
    fn the_date_is_that_of_the_vectors() {
        assert_eq!(Wall(1_672_954_300_000).http_date(), "Thu, 05 Jan 2023 21:31:40 GMT");
        assert_eq!(Wall(-5).http_date(), "Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
