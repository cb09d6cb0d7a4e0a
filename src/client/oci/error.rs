//! Why a call to OCI gave no result, in words for people and in a [`Class`] for those who decide.
//!
//! The table from status and code to class is written once, in [`classify`]. What the server said is
//! cleaned, cut short and searched for our token before it gets in here; URLs and keys never do.
//! Says nothing of what to do with a machine: that is the executor's.

use std::time::Duration;

use serde::Deserialize;

use super::key::KeyError;
use crate::client::http::{HttpError, Response};
use crate::config::value::MASK;
use crate::core::message::clean;
use crate::core::time::{Wall, people};

/// Characters of the server's message that an error keeps.
const MESSAGE_LIMIT: usize = 200;
/// The longest `Retry-After` that is believed.
const LONGEST_WAIT: u64 = 3600;
/// A clock that is off by more than this is named; OCI refuses from 5 minutes.
const SKEW: Duration = Duration::from_mins(4);

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {operation} {subject}: {cause}")]
pub struct OciError {
    /// What was tried: `read instance`, `STOP instance`.
    pub operation: String,
    /// On what: an OCID, or the path of the metadata service.
    pub subject: String,
    /// Why it failed.
    pub cause: Cause,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// No whole answer came.
    #[error("{0}")]
    Http(#[from] HttpError),
    /// OCI, or something before it, said no.
    #[error("{0}")]
    Refused(Box<Refused>),
    /// A success whose body is not what was promised. The call has probably taken effect.
    #[error("status {status}, but the answer cannot be read{}", told(.request_id))]
    Unreadable {
        /// The status code.
        status: u16,
        /// `opc-request-id`, or empty.
        request_id: String,
    },
    /// The instance is not where our credentials lead (F69).
    #[error(
        "it is in region {theirs} and this program is set up for {ours}; give the node a watchdog of its region, or correct instance_id or region"
    )]
    Region {
        /// The region in the OCID.
        theirs: String,
        /// The region of the configuration.
        ours: String,
    },
    /// What was to be sent cannot be sent.
    #[error("{0}")]
    Argument(&'static str),
    /// There is nothing to sign with: the token of the session or of the principal is missing.
    #[error("{0}")]
    Identity(String, Class),
    /// The key does not sign.
    #[error("the private key {0}")]
    Key(#[from] KeyError),
    /// The list does not end.
    #[error("the list did not end after {0} pages")]
    Endless(usize),
}

/// A status that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.words())]
pub struct Refused {
    /// The status code.
    pub status: u16,
    /// OCI's code; empty when something else than OCI answered.
    pub code: String,
    /// Its words: cleaned, at most 200 characters, without the token.
    pub message: String,
    /// `opc-request-id`, or empty.
    pub request_id: String,
    /// `Retry-After`, at most an hour.
    pub retry_after: Option<Duration>,
    /// Milliseconds that our clock is ahead of theirs, when the difference explains a 401.
    pub skew: Option<i64>,
}

/// What kind of failure it is, for those who decide what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// May go away by itself. An action **may have taken effect**: look before it is sent again.
    Transient,
    /// Too many requests; without effect. Wait at least this long when it says so.
    RateLimited(Option<Duration>),
    /// We are not let in: key, clock or policy; without effect.
    Auth,
    /// There is no such instance, or we may not see it; without effect.
    NotFound,
    /// The instance is in no state for it; without effect.
    Conflict(ConflictKind),
    /// The instance changed since it was read (`if-match`); without effect. Read it again.
    Precondition,
    /// The same request will fail again; without effect.
    Permanent,
    /// The cloud has no room for the instance, or the tenancy's limit is reached. Time may help.
    NoCapacity,
    /// No answer, or none that can be read: sent, outcome unknown. Look before it is sent again.
    Unknown,
    /// Never left this machine, or nobody listened.
    NotSent,
}

/// Kinds of 409.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConflictKind {
    /// `IncorrectState`, `ExternalServerIncorrectState`: not from this lifecycle state; later perhaps.
    IncorrectState,
    /// `LockConflict`: somebody holds a lock; later perhaps.
    Locked,
    /// `Conflict`: being modified by something else; read again, then decide.
    BeingModified,
    /// `InvalidatedRetryToken`: the token was used for something that was since undone; never again with it.
    RetryToken,
    /// Any other, such as `NotAuthorizedOrResourceAlreadyExists`: will not get better.
    Other,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Body {
    code: String,
    message: String,
}

impl OciError {
    pub(super) fn new(operation: &str, subject: &str, cause: impl Into<Cause>) -> OciError {
        OciError { operation: operation.to_string(), subject: clean(subject, 255), cause: cause.into() }
    }

    /// What kind of failure it is.
    pub fn class(&self) -> Class {
        match &self.cause {
            Cause::Http(error) => unanswered(error),
            Cause::Refused(refused) => classify(refused.status, &refused.code, &refused.message, refused.retry_after),
            Cause::Unreadable { .. } => Class::Unknown,
            Cause::Region { .. } | Cause::Argument(_) | Cause::Key(_) | Cause::Endless(_) => Class::Permanent,
            Cause::Identity(_, class) => *class,
        }
    }

    /// `opc-request-id` of the answer, for Oracle's support.
    pub fn request_id(&self) -> Option<&str> {
        let id = match &self.cause {
            Cause::Refused(refused) => &refused.request_id,
            Cause::Unreadable { request_id, .. } => request_id,
            _ => return None,
        };
        (!id.is_empty()).then_some(id)
    }
}

impl Refused {
    /// Reads an answer that is not a success. `ours` is our clock; `token` must not show.
    pub(super) fn of(answer: &Response, ours: Wall, token: Option<&str>) -> Refused {
        // What is not JSON comes from a proxy: only its status counts.
        let body: Body = serde_json::from_slice(&answer.body).unwrap_or_default();
        let hide = |text: &str| match token.filter(|token| !token.is_empty()) {
            Some(token) => text.replace(token, MASK),
            None => text.to_string(),
        };
        let skew = answer.header("date").filter(|_| answer.status == 401).and_then(|date| skew(date, ours));
        Refused {
            status: answer.status,
            code: clean(&hide(&body.code), 60),
            message: clean(&hide(&body.message), MESSAGE_LIMIT - 1),
            request_id: request_id(answer),
            retry_after: answer.retry_after.map(|seconds| Duration::from_secs(seconds.min(LONGEST_WAIT))),
            skew,
        }
    }

    fn words(&self) -> String {
        let mut words = format!("HTTP {}", self.status);
        for (lead, text) in [(" ", self.code.as_str()), (": ", &self.message), ("; ", self.hint())] {
            if !text.is_empty() {
                words.push_str(lead);
                words.push_str(text);
            }
        }
        words + &self.skew.map(skewed).unwrap_or_default() + &told(&self.request_id)
    }

    /// What a person can do about it.
    fn hint(&self) -> &'static str {
        match (self.status, self.code.as_str()) {
            (_, "") => "the answer is not OCI's, perhaps a proxy's",
            (401, _) if self.skew.is_none() => "check that the key belongs to this user and has not expired",
            (404, _) => "it does not exist, or no policy allows this (INSTANCE_READ, INSTANCE_POWER_ACTIONS)",
            _ => "",
        }
    }
}

/// `opc-request-id`, cleaned.
pub(super) fn request_id(answer: &Response) -> String {
    clean(answer.header("opc-request-id").unwrap_or_default(), 100)
}

/// Milliseconds that `ours` is ahead of the server's `Date`, when that is more than [`SKEW`].
fn skew(date: &str, ours: Wall) -> Option<i64> {
    let theirs = httpdate::parse_http_date(date).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    let ahead = ours.0.saturating_sub(i64::try_from(theirs.as_millis()).ok()?);
    (u128::from(ahead.unsigned_abs()) > SKEW.as_millis()).then_some(ahead)
}

fn skewed(ahead: i64) -> String {
    let span = people(Duration::from_millis(ahead.unsigned_abs()));
    let way = if ahead > 0 { "ahead of" } else { "behind" };
    format!(
        "; our clock is {span} {way} Oracle's, and 5 min is the most it accepts: set the clock of this machine (NTP)"
    )
}

fn told(request_id: &str) -> String {
    if request_id.is_empty() { String::new() } else { format!(" (opc-request-id {request_id})") }
}

/// The class of a call that got no whole answer.
fn unanswered(error: &HttpError) -> Class {
    match error {
        HttpError::BadUrl => Class::Permanent,
        error if error.is_unsent() => Class::NotSent,
        _ => Class::Unknown,
    }
}

/// The table of answers, from Oracle's "API Errors" and the retry rules of its SDK.
pub fn classify(status: u16, code: &str, message: &str, retry_after: Option<Duration>) -> Class {
    let words = message.to_ascii_lowercase();
    if status >= 400 && (words.contains("out of host capacity") || words.contains("out of capacity")) {
        return Class::NoCapacity;
    }
    match (status, code) {
        (400, "LimitExceeded" | "QuotaExceeded") => Class::NoCapacity,
        (401 | 403, _) => Class::Auth,
        (404, _) => Class::NotFound,
        (409, "IncorrectState" | "ExternalServerIncorrectState") => Class::Conflict(ConflictKind::IncorrectState),
        (409, "LockConflict") => Class::Conflict(ConflictKind::Locked),
        (409, "Conflict") => Class::Conflict(ConflictKind::BeingModified),
        (409, "InvalidatedRetryToken") => Class::Conflict(ConflictKind::RetryToken),
        (409, _) => Class::Conflict(ConflictKind::Other),
        (412, _) => Class::Precondition,
        (429, _) => Class::RateLimited(retry_after),
        (501, _) => Class::Permanent,
        // 408 is a proxy's: it may have passed on what it then lost patience with.
        (408 | 500.., _) => Class::Transient,
        _ => Class::Permanent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::trust::{Flaw, Refusal};

    const WAIT: Option<Duration> = Some(Duration::from_secs(7));

    #[test]
    fn every_row_of_the_table_of_errors_has_its_class() {
        use ConflictKind as K;
        for (status, code, message, class) in [
            (400, "CannotParseRequest", "", Class::Permanent),
            (400, "InvalidParameter", "", Class::Permanent),
            (400, "MissingParameter", "", Class::Permanent),
            (400, "LimitExceeded", "", Class::NoCapacity),
            (400, "QuotaExceeded", "", Class::NoCapacity),
            (400, "RelatedResourceNotAuthorizedOrNotFound", "", Class::Permanent),
            (401, "NotAuthenticated", "", Class::Auth),
            (402, "SignUpRequired", "", Class::Permanent),
            (403, "SignUpRequired", "", Class::Auth),
            (403, "NotAuthorized", "", Class::Auth),
            (403, "NotAllowed", "", Class::Auth),
            (404, "NotAuthorizedOrNotFound", "", Class::NotFound),
            (404, "NotFound", "", Class::NotFound),
            (404, "InvalidParameter", "", Class::NotFound),
            (405, "MethodNotAllowed", "", Class::Permanent),
            (409, "IncorrectState", "", Class::Conflict(K::IncorrectState)),
            (409, "ExternalServerIncorrectState", "", Class::Conflict(K::IncorrectState)),
            (409, "LockConflict", "", Class::Conflict(K::Locked)),
            (409, "Conflict", "is currently being modified, try again later", Class::Conflict(K::BeingModified)),
            (409, "InvalidatedRetryToken", "", Class::Conflict(K::RetryToken)),
            (409, "NotAuthorizedOrResourceAlreadyExists", "", Class::Conflict(K::Other)),
            (412, "NoEtagMatch", "", Class::Precondition),
            (429, "TooManyRequests", "", Class::RateLimited(WAIT)),
            (500, "InternalServerError", "", Class::Transient),
            (500, "InternalServerError", "Out of host capacity.", Class::NoCapacity),
            (500, "InternalError", "Out of capacity for shape VM.Standard.A1.Flex", Class::NoCapacity),
            (501, "MethodNotImplemented", "", Class::Permanent),
            (502, "BadGateway", "", Class::Transient),
            (503, "ServiceUnavailable", "", Class::Transient),
            (504, "GatewayTimeout", "", Class::Transient),
            (599, "Whatever", "", Class::Transient),
            // By status only, as from a proxy.
            (301, "", "", Class::Permanent),
            (400, "", "", Class::Permanent),
            (407, "", "", Class::Permanent),
            (408, "", "", Class::Transient),
            (409, "", "", Class::Conflict(K::Other)),
            (500, "", "", Class::Transient),
        ] {
            assert_eq!(classify(status, code, message, WAIT), class, "{status} {code} {message}");
        }
    }

    #[test]
    fn what_never_left_is_told_from_what_may_have_arrived() {
        let span = Duration::from_secs(5);
        let tls = |flaw| HttpError::Tls(Refusal::new(flaw, "no"));
        for (error, class) in [
            (HttpError::BadUrl, Class::Permanent),
            (HttpError::Refused(([127, 0, 0, 1], 9).into()), Class::NotSent),
            (
                HttpError::Resolve(crate::client::resolve::ResolveError::Busy {
                    name: String::new(),
                    why: String::new(),
                }),
                Class::NotSent,
            ),
            (HttpError::Own("no descriptors".to_string()), Class::NotSent),
            (HttpError::Timeout(span, "connecting"), Class::NotSent),
            (HttpError::Timeout(span, "sending the request"), Class::Unknown),
            (HttpError::Timeout(span, "in all"), Class::Unknown),
            (HttpError::Timeout(span, "TLS handshake"), Class::NotSent),
            (HttpError::Proxy("the proxy is gone".to_string()), Class::NotSent),
            (tls(Flaw::Certificate), Class::NotSent),
            (tls(Flaw::Expired), Class::NotSent),
            (tls(Flaw::Talk), Class::Unknown),
            (HttpError::TooLarge(1), Class::Unknown),
            (HttpError::Broken("connection reset by the peer".to_string()), Class::Unknown),
        ] {
            assert_eq!(OciError::new("STOP instance", "x", error.clone()).class(), class, "{error:?}");
        }
    }

    fn answer(status: u16, date: &str, body: &str) -> Response {
        let mut headers = ureq::http::HeaderMap::new();
        headers.insert("date", date.parse().unwrap());
        headers.insert("opc-request-id", "AB/CD\t".parse().unwrap());
        Response { status, headers, body: body.as_bytes().to_vec(), ..Response::default() }
    }

    #[test]
    fn a_clock_that_is_off_is_named_with_its_direction() {
        let server = "Thu, 05 Jan 2023 21:31:40 GMT";
        let at = 1_672_954_300_000;
        let words = |ours: i64| {
            let body = r#"{"code":"NotAuthenticated","message":"no"}"#;
            Refused::of(&answer(401, server, body), Wall(ours), None).to_string()
        };
        assert!(words(at + 363_000).contains("our clock is 6 min 3 s ahead of Oracle's"), "{}", words(at + 363_000));
        assert!(words(at - 363_000).contains("our clock is 6 min 3 s behind Oracle's"), "{}", words(at - 363_000));
        for close in [at, at + 240_000, at - 240_000] {
            assert!(!words(close).contains("clock") && words(close).contains("check that the key"), "{}", words(close));
        }
        let other = Refused::of(&answer(500, server, "{}"), Wall(0), None);
        assert_eq!(other.skew, None);
    }

    #[test]
    fn what_the_server_says_is_clean_short_and_without_our_token() {
        let long = format!(r#"{{"code":"NotAuthenticated","message":"tok-canary \u001b[2J{}"}}"#, "ä".repeat(500));
        let refused = Refused::of(&answer(401, "", &long), Wall(0), Some("tok-canary"));
        assert!(refused.message.chars().count() <= MESSAGE_LIMIT, "{}", refused.message.chars().count());
        let shown = format!("{refused} {refused:?}");
        assert!(!shown.contains("canary") && !shown.contains('\u{1b}') && shown.contains("AB/CD"), "{shown}");
        let page = Refused::of(&answer(502, "", "<html><script>x</script>"), Wall(0), None);
        assert!(page.to_string().starts_with("HTTP 502; ") && !page.to_string().contains('<'), "{page}");
    }
}
