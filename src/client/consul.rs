//! Consul's HTTP API on the wire: sessions, keys and who leads; typed, one call each.
//!
//! No retries and no policy. Every call has a deadline and a limit on what it reads; a blocking read
//! may take as long as it was told to wait. Answers that do not carry Consul's own headers are not taken
//! for Consul's: a proxy's 404 must never look like an empty prefix (F12). Listings are made for ten
//! thousand keys: [`prefix_each`](Consul::prefix_each) hands them over as they come and holds none, values are
//! decoded only when asked for, and a listing that has not changed is not looked at. The token is in no error and in no `Debug`.

mod error;
mod listing;
mod settings;

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use ureq::http::header::AUTHORIZATION;
use ureq::http::{HeaderValue, Method, Request};

pub use self::error::{Class, ConsulError, Operation};
pub use self::listing::{Entry, Listing, Pair};
pub use self::settings::{Environment, Settings, Token, connect, prefix, usable_key};
use super::http::{Coming, Http, HttpError, Limits, Response};
use crate::config::schema::Section;
use crate::config::value::{MASK, Secret};
use crate::core::message::clean;

/// The parts of the configuration that this folder owns.
pub const SECTIONS: &[Section] = &[Settings::section("consul")];

/// Bytes of a listing: some 50,000 nodes.
const LISTING_LIMIT: usize = 32 * 1024 * 1024;
/// Bytes of any other answer; a value may have 512 KiB, which is more in base64.
const BODY_LIMIT: usize = 1024 * 1024;
/// Characters of Consul's words that an error keeps.
const WORDS_LIMIT: usize = 200;
/// Consul waits no longer.
const WAIT_LIMIT: Duration = Duration::from_mins(10);

/// A client of one Consul. Cheap to clone; clones share connections and token.
#[derive(Clone)]
pub struct Consul {
    http: Http,
    base: Arc<str>,
    token: Arc<Token>,
    datacenter: Arc<str>,
    namespace: Arc<str>,
    /// The value of `Authorization`, for a proxy in front of it.
    authorization: Option<HeaderValue>,
}

/// How a key is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How<'a> {
    /// Whatever is there.
    Plain,
    /// Only if its `ModifyIndex` is this; zero: only if it is absent.
    Cas(u64),
    /// Taking or keeping the lock for this session.
    Acquire(&'a str),
    /// Giving the lock back.
    Release(&'a str),
}

/// What happens to the keys that a session holds when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Behavior {
    /// They are unlocked.
    Release,
    /// They are deleted.
    Delete,
}

/// A session as Consul shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Session {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// The name it was given.
    #[serde(default)]
    pub name: String,
    /// The agent it belongs to.
    #[serde(default)]
    pub node: String,
    /// `30s`; empty: no end.
    #[serde(rename = "TTL", default)]
    pub ttl: String,
    /// The checks of the agent that it depends on.
    #[serde(default)]
    pub node_checks: Option<Vec<String>>,
}

impl fmt::Debug for Consul {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consul").field("base", &self.base).field("token", &self.token).finish_non_exhaustive()
    }
}

impl Consul {
    /// A client whose API is at `base` (`http://127.0.0.1:8500`). An empty `datacenter` is the agent's own.
    pub fn new(http: Http, base: &str, token: Token, datacenter: &str) -> Consul {
        let base = base.trim_end_matches('/');
        let (token, datacenter) = (Arc::new(token), datacenter.trim().into());
        Consul { http, base: base.into(), token, datacenter, namespace: Arc::default(), authorization: None }
    }

    /// The same client for the keys of this namespace (Consul Enterprise); an empty one is the token's own.
    #[must_use]
    pub fn in_namespace(self, namespace: &str) -> Consul {
        Consul { namespace: namespace.trim().into(), ..self }
    }

    /// The same client, showing `user:password` as HTTP Basic authentication to whatever stands in front of Consul.
    #[must_use]
    pub fn with_auth(self, auth: &Secret) -> Consul {
        let value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(auth.expose().trim())));
        let authorization = value.ok().map(|mut value| {
            value.set_sensitive(true);
            value
        });
        Consul { authorization, ..self }
    }

    /// Where it is, for people.
    pub fn address(&self) -> &str {
        &self.base
    }

    /// The limit of each call that does not wait for news.
    pub fn timeout(&self) -> Duration {
        self.http.options().timeout
    }

    /// The same client with a connection of its own and another limit for each call.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Consul {
        let options = super::http::Options { timeout, ..self.http.options().clone() };
        Consul { http: Http::new(options), ..self.clone() }
    }

    /// All keys under `prefix/`. With `index`, waits for a listing newer than that for up to `wait`.
    /// `consistent` has the leader ask a quorum first. No key at all is an empty listing.
    pub fn prefix(
        &self,
        prefix: &str,
        index: Option<u64>,
        wait: Option<Duration>,
        consistent: bool,
    ) -> Result<Listing, ConsulError> {
        let (call, coming) = self.list(prefix, index, wait, consistent)?;
        Listing::read(coming.whole().map_err(|error| call.failed(error))?, index, prefix)
    }

    /// The same for many keys: each is handed to `take` as it comes, and the listing that is given back holds none.
    /// Errors: also those of `take`, which ends it; some keys may have been handed over before.
    pub fn prefix_each(
        &self,
        prefix: &str,
        index: Option<u64>,
        wait: Option<Duration>,
        consistent: bool,
        take: &mut dyn FnMut(&Entry<'_>) -> Result<(), ConsulError>,
    ) -> Result<Listing, ConsulError> {
        let (_, coming) = self.list(prefix, index, wait, consistent)?;
        Listing::walk(coming, index, prefix, take)
    }

    /// Asks for all keys under `prefix/`.
    fn list<'a>(
        &self,
        prefix: &'a str,
        index: Option<u64>,
        wait: Option<Duration>,
        consistent: bool,
    ) -> Result<(Call<'a>, Coming), ConsulError> {
        let mut query = "recurse".to_string();
        if consistent {
            query.push_str("&consistent");
        }
        let mut timeout = self.http.options().timeout;
        if let Some(index) = index {
            let wait = wait.unwrap_or_default().min(WAIT_LIMIT);
            // Index 0 would not wait, and the loop would spin; Consul adds up to a sixteenth to the wait.
            let _ = write!(query, "&index={}&wait={}ms", index.max(1), wait.as_millis().max(1));
            timeout = timeout.max(wait + wait / 16 + Duration::from_secs(10));
        }
        let limits = Limits { timeout, body: LISTING_LIMIT };
        let path = format!("kv/{}/", escape(prefix.trim_end_matches('/')));
        let call = Call { operation: Operation::ReadPrefix, subject: prefix, method: Method::GET };
        let coming = self.open(&call, &path, &query, (), limits)?;
        match coming.answer.status {
            200 | 404 => Ok((call, coming)),
            _ => Err(self.refused(&call, &coming.whole().map_err(|error| call.failed(error))?)),
        }
    }

    /// One key; `None` when it does not exist.
    pub fn get(&self, key: &str) -> Result<Option<Pair>, ConsulError> {
        let call = Call { operation: Operation::Read, subject: key, method: Method::GET };
        let answer = self.ask(&call, &format!("kv/{}", escape(key)), "", ())?;
        match answer.status {
            200 | 404 => Ok(Listing::read(answer, None, key)?.into_pair(key)?),
            _ => Err(self.refused(&call, &answer)),
        }
    }

    /// Writes a key. False: not done, because the index differs or the lock is not ours to take or give.
    pub fn put(&self, key: &str, value: &[u8], how: How<'_>) -> Result<bool, ConsulError> {
        let query = match how {
            How::Plain => String::new(),
            How::Cas(index) => format!("cas={index}"),
            How::Acquire(session) => format!("acquire={}", escape(session)),
            How::Release(session) => format!("release={}", escape(session)),
        };
        let call = Call { operation: Operation::Write, subject: key, method: Method::PUT };
        let answer = self.ask(&call, &format!("kv/{}", escape(key)), &query, value)?;
        self.verdict(&call, &answer)
    }

    /// Deletes a key, only at this `ModifyIndex` when one is given. False: the index differs.
    pub fn delete(&self, key: &str, cas: Option<u64>) -> Result<bool, ConsulError> {
        let query = cas.map(|index| format!("cas={index}")).unwrap_or_default();
        let call = Call { operation: Operation::Delete, subject: key, method: Method::DELETE };
        let answer = self.ask(&call, &format!("kv/{}", escape(key)), &query, ())?;
        self.verdict(&call, &answer)
    }

    /// A new session, and its id. It depends on its TTL alone: not on `serfHealth`, which would end the
    /// sessions of a whole fleet when the one agent that they all ask leaves the gossip.
    pub fn session_create(
        &self,
        name: &str,
        ttl: Duration,
        behavior: Behavior,
        lock_delay: Duration,
    ) -> Result<String, ConsulError> {
        #[derive(Deserialize)]
        struct Created {
            #[serde(rename = "ID")]
            id: String,
        }
        let body = serde_json::json!({
            "Name": name,
            "TTL": written(ttl),
            "Behavior": behavior,
            "LockDelay": written(lock_delay),
            "NodeChecks": [],
            // Its name before 1.7.
            "Checks": [],
        });
        let call = Call { operation: Operation::CreateSession, subject: name, method: Method::PUT };
        let answer = self.ask(&call, "session/create", "", body.to_string().as_str())?;
        if answer.status != 200 {
            return Err(self.refused(&call, &answer));
        }
        let created: Created = call.parse(&answer)?;
        Ok(created.id)
    }

    /// Renews a session. False: it is gone.
    pub fn session_renew(&self, id: &str) -> Result<bool, ConsulError> {
        let call = Call { operation: Operation::RenewSession, subject: id, method: Method::PUT };
        let answer = self.ask(&call, &format!("session/renew/{}", escape(id)), "", "")?;
        match answer.status {
            200 => Ok(call.parse::<Vec<Session>>(&answer)?.iter().any(|session| session.id == id)),
            // In Consul's words, so that the 404 of something in front of it does not end a session.
            404 if String::from_utf8_lossy(&answer.body).contains("not found") => Ok(false),
            _ => Err(self.refused(&call, &answer)),
        }
    }

    /// Ends a session; one that is gone already is not an error.
    pub fn session_destroy(&self, id: &str) -> Result<(), ConsulError> {
        let call = Call { operation: Operation::DestroySession, subject: id, method: Method::PUT };
        let answer = self.ask(&call, &format!("session/destroy/{}", escape(id)), "", "")?;
        self.verdict(&call, &answer).map(drop)
    }

    /// A session; `None` when it is gone.
    pub fn session_info(&self, id: &str) -> Result<Option<Session>, ConsulError> {
        let call = Call { operation: Operation::ReadSession, subject: id, method: Method::GET };
        let answer = self.ask(&call, &format!("session/info/{}", escape(id)), "", ())?;
        match answer.status {
            200 => Ok(call.parse::<Vec<Session>>(&answer)?.into_iter().find(|session| session.id == id)),
            _ => Err(self.refused(&call, &answer)),
        }
    }

    /// The address of the leader; `None` while there is none. Needs no token.
    pub fn leader(&self) -> Result<Option<String>, ConsulError> {
        let call = Call { operation: Operation::ReadLeader, subject: "the leader", method: Method::GET };
        let answer = self.ask(&call, "status/leader", "", ())?;
        match answer.status {
            200 => Ok(Some(call.parse::<String>(&answer)?).filter(|leader| !leader.is_empty())),
            _ => Err(self.refused(&call, &answer)),
        }
    }

    /// Asks for something small, and waits for all of the answer.
    fn ask(
        &self,
        call: &Call<'_>,
        path: &str,
        query: &str,
        body: impl ureq::AsSendBody + Clone,
    ) -> Result<Response, ConsulError> {
        let limits = Limits { timeout: self.http.options().timeout, body: BODY_LIMIT };
        self.open(call, path, query, body, limits)?.whole().map_err(|error| call.failed(error))
    }

    /// Asks, and waits for the header of the answer.
    fn open(
        &self,
        call: &Call<'_>,
        path: &str,
        query: &str,
        body: impl ureq::AsSendBody + Clone,
        limits: Limits,
    ) -> Result<Coming, ConsulError> {
        let mut url = format!("{}/v1/{path}", self.base);
        let named = |name: &str, value: &str| {
            if value.is_empty() { String::new() } else { format!("{name}={}", escape(value)) }
        };
        let mut mark = '?';
        for part in [query, &named("dc", &self.datacenter), &named("ns", &self.namespace)] {
            if !part.is_empty() {
                url.push(mark);
                url.push_str(part);
                mark = '&';
            }
        }
        let mut request = Request::builder().method(call.method.clone()).uri(url);
        if let Some(token) = self.token.current() {
            // A token that cannot travel in a header would be refused anyway; without one Consul says so.
            if let Ok(mut value) = HeaderValue::from_str(token.expose().trim()) {
                value.set_sensitive(true);
                request = request.header("X-Consul-Token", value);
            }
        }
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(body).map_err(|_| call.failed(HttpError::BadUrl))?;
        let coming = self.http.open(request, limits).map_err(|error| call.failed(error))?;
        if coming.answer.status == 403 {
            self.token.distrust();
        }
        Ok(coming)
    }

    /// The `true` or `false` that writes are answered with.
    fn verdict(&self, call: &Call<'_>, answer: &Response) -> Result<bool, ConsulError> {
        if answer.status != 200 {
            return Err(self.refused(call, answer));
        }
        call.parse(answer)
    }

    fn refused(&self, call: &Call<'_>, answer: &Response) -> ConsulError {
        let words = String::from_utf8_lossy(answer.body.get(..4_096).unwrap_or(&answer.body)).into_owned();
        let words = match self.token.current() {
            Some(token) if !token.is_empty() => words.replace(token.expose().trim(), MASK),
            _ => words,
        };
        ConsulError::Refused {
            operation: call.operation,
            subject: call.subject.to_string(),
            status: answer.status,
            words: clean(&words, WORDS_LIMIT),
        }
    }
}

/// One call, for its errors.
struct Call<'a> {
    operation: Operation,
    subject: &'a str,
    method: Method,
}

impl Call<'_> {
    fn failed(&self, error: HttpError) -> ConsulError {
        ConsulError::Http { operation: self.operation, subject: self.subject.to_string(), error }
    }

    fn parse<T: for<'de> Deserialize<'de>>(&self, answer: &Response) -> Result<T, ConsulError> {
        serde_json::from_slice(&answer.body).map_err(|_| ConsulError::Unreadable {
            operation: self.operation,
            subject: self.subject.to_string(),
            status: answer.status,
            why: "its body cannot be read",
        })
    }
}

/// As Go reads it, in whole seconds where that is exact.
fn written(span: Duration) -> String {
    if span.subsec_millis() == 0 { format!("{}s", span.as_secs()) } else { format!("{}ms", span.as_millis()) }
}

/// Everything but letters, digits, `-._~` and slashes as `%XX`.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
