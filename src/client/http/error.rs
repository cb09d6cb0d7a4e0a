//! Why there is no answer, in words for people. Never shows a URL.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::{HEADER_FIELDS, HEADER_LIMIT};
use crate::client::dial::DialError;
use crate::client::resolve::ResolveError;
use crate::client::shortage;
use crate::client::trust::{self, Kind, Refusal};
use crate::core::time::people;

/// Why there is no answer. `Display` names no URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The URL cannot be used.
    #[error("not a usable http or https URL")]
    BadUrl,
    /// The name gave no usable address.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// Nobody listens there.
    #[error("connection refused by {0}")]
    Refused(SocketAddr),
    /// Our own machine is at fault: no descriptors, no ports, no network.
    #[error("cannot open a connection: {0}")]
    Own(String),
    /// The proxy is at fault; nothing is known of the peer, which was not asked.
    #[error("{0}")]
    Proxy(String),
    /// The proxy says that it cannot reach the peer.
    #[error("{0}")]
    Unreached(String),
    /// The deadline passed. The request may have been received.
    #[error("no answer within {}{}", people(*.0), meanwhile(.1))]
    Timeout(Duration, &'static str),
    /// TLS failed: expired, wrong name, unknown issuer.
    #[error("TLS: {0}")]
    Tls(Refusal),
    /// The body is over the limit.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The header is over a limit.
    #[error("{0}")]
    Header(String),
    /// The body is compressed in a way that is not known here.
    #[error("the answer is compressed with {0}, although the request asked for no compression: switch that off for it")]
    Coded(String),
    /// The connection broke, or what came is not HTTP.
    #[error("{0}")]
    Broken(String),
}

impl HttpError {
    /// True when the request surely did not reach the peer.
    pub fn is_unsent(&self) -> bool {
        match self {
            HttpError::BadUrl
            | HttpError::Resolve(_)
            | HttpError::Refused(_)
            | HttpError::Own(_)
            | HttpError::Proxy(_)
            | HttpError::Unreached(_) => true,
            HttpError::Timeout(_, phase) => [LOOKUP, CONNECTING, HANDSHAKE, AT_PROXY].contains(phase),
            // The certificate is judged before anything is sent; other failures of TLS may come later.
            HttpError::Tls(refusal) => refusal.kind != Kind::Talk,
            HttpError::TooLarge(_) | HttpError::Header(_) | HttpError::Coded(_) | HttpError::Broken(_) => false,
        }
    }
}

/// The phase of a call that ran out of its total time, wherever it was.
const IN_ALL: &str = "in all";
/// While the name was looked up.
pub const LOOKUP: &str = "looking up the name";
/// While the connection was made.
pub const CONNECTING: &str = "connecting";
/// During the TLS handshake.
pub const HANDSHAKE: &str = "TLS handshake";
/// While the proxy made a connection.
pub const AT_PROXY: &str = "waiting for the proxy";

/// The phase in brackets, where it says more than "in all".
fn meanwhile(phase: &str) -> String {
    if phase == IN_ALL { String::new() } else { format!(" ({phase})") }
}

/// An error of our own connector, on its way through ureq.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Carried(pub HttpError);

impl From<HttpError> for ureq::Error {
    fn from(error: HttpError) -> ureq::Error {
        ureq::Error::Other(Box::new(Carried(error)))
    }
}

pub(super) fn explain(error: ureq::Error, limit: Duration) -> HttpError {
    use ureq::Error as E;
    match error {
        E::BadUri(_) | E::Http(_) => HttpError::BadUrl,
        E::HostNotFound => HttpError::Broken("the name has no address".to_string()),
        E::Timeout(phase) => HttpError::Timeout(limit, name_phase(phase)),
        E::LargeResponseHeader(..) => {
            HttpError::Header(format!("the header of the answer is larger than {} KiB", HEADER_LIMIT / 1024))
        }
        E::Io(e) => explain_io(&e),
        E::Other(inner) => match inner.downcast::<Carried>().map(|carried| carried.0) {
            Ok(HttpError::Timeout(_, phase)) => HttpError::Timeout(limit, phase),
            Ok(error) => error,
            Err(_) => HttpError::Broken("the request failed".to_string()),
        },
        E::ConnectionFailed => HttpError::Broken("connection failed".to_string()),
        E::Protocol(e) => {
            let what = e.to_string();
            if what.contains("too many headers") {
                return HttpError::Header(format!("the header of the answer has more than {HEADER_FIELDS} fields"));
            }
            HttpError::Broken(format!("not a valid HTTP answer: {}", without_text(&what)))
        }
        _ => HttpError::Broken("the request failed".to_string()),
    }
}

/// What the library says of an answer without what it repeats of it: a `Location` may hold a password.
fn without_text(said: &str) -> &str {
    match said.split_once(": ") {
        Some((lead, _)) if lead != "http parse fail" => lead,
        _ => said,
    }
}

/// What became of a connection that was to be made.
pub(super) fn undialled(error: DialError) -> HttpError {
    match error {
        DialError::Refused(address) => HttpError::Refused(address),
        DialError::Timeout(_) => HttpError::Timeout(Duration::ZERO, CONNECTING),
        DialError::Own(why) => HttpError::Own(why),
        error @ DialError::Unreachable(..) => HttpError::Broken(error.to_string()),
    }
}

pub(super) fn explain_io(error: &io::Error) -> HttpError {
    // A TLS failure arrives wrapped in an I/O error.
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return HttpError::Tls(trust::explain(tls));
    }
    if let Some(shortage) = shortage::seen(error) {
        return HttpError::Own(shortage.to_string());
    }
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            HttpError::Broken("connection reset by the peer".to_string())
        }
        io::ErrorKind::UnexpectedEof => {
            HttpError::Broken("the connection ended before the answer was whole".to_string())
        }
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
            HttpError::Broken("the compressed body of the answer is damaged".to_string())
        }
        _ => HttpError::Broken(error.to_string()),
    }
}

/// True for a connection that ended under our hands.
pub(super) fn is_cut(error: &ureq::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    let cut = [BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof];
    matches!(error, ureq::Error::Io(error) if cut.contains(&error.kind()))
}

fn name_phase(phase: ureq::Timeout) -> &'static str {
    use ureq::Timeout as T;
    match phase {
        T::Resolve => LOOKUP,
        T::Connect => CONNECTING,
        T::SendRequest | T::SendBody => "sending the request",
        T::RecvResponse => "waiting for the answer",
        T::RecvBody => "reading the answer",
        _ => IN_ALL,
    }
}
