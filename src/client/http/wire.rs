//! The connections of the HTTP client, in place of ureq's own: dialled with a deadline, through a proxy where one is
//! set, with TLS as [`Trust`] says, and with a buffer that holds a header up to the limit and grows only for that.

use std::cell::Cell;
use std::fmt;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

use super::error::{AT_PROXY, HANDSHAKE, HttpError, explain_io, undialled};
use super::{HEADER_LIMIT, Options};
use crate::client::dial::Bounded;
use crate::client::proxy::Proxy;
use crate::client::resolve::{Lane, ResolveError, is_link_local, resolve};
use crate::clock;
use crate::config::value::Secret;

/// Bytes of input that are there from the first.
const INPUT: usize = 8 * 1024;
/// Bytes of output.
const OUTPUT: usize = 4 * 1024;

thread_local! {
    /// True when the call under way in this thread opened a connection of its own.
    static DIALLED: Cell<bool> = const { Cell::new(false) };
}

/// Forgets that a connection was opened.
pub(super) fn watch_dialling() {
    DIALLED.set(false);
}

/// Whether a connection was opened since [`watch_dialling`].
pub(super) fn has_dialled() -> bool {
    DIALLED.get()
}

/// Looks up who is connected to: the peer, or the proxy on the way to it.
#[derive(Debug)]
pub(super) struct Lookup(pub Arc<Options>);

impl Resolver for Lookup {
    fn resolve(&self, uri: &Uri, _config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let options = &self.0;
        let limit = (*timeout.after).min(options.timeout);
        if uri.scheme_str() == Some("https") && clock::was_never_set() {
            let why = "the clock of this machine says a time before 1970, and certificates cannot be judged; set it";
            return Err(HttpError::Own(why.to_string()).into());
        }
        let found = match options.proxies.route(uri) {
            None => {
                let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
                resolve(host, uri.port_u16().unwrap_or(default), options.lane, options.allow_link_local, limit)
                    .map_err(HttpError::Resolve)?
            }
            Some(proxy) => {
                // The name is the proxy's to look up; an address is known to be refused already here.
                let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
                if let Some(address) = address.filter(|address| is_link_local(*address) && !options.allow_link_local) {
                    return Err(HttpError::Resolve(ResolveError::Refused(address)).into());
                }
                resolve(&proxy.host, proxy.port, Lane::Own, true, limit)
                    .map_err(|error| HttpError::Proxy(format!("the proxy {proxy} cannot be reached: {error}")))?
            }
        };
        // All were judged; to connect, the first of them will do.
        let mut addresses = self.empty();
        for address in found.into_iter().take(16) {
            addresses.push(address);
        }
        Ok(addresses)
    }
}

/// Makes connections.
#[derive(Debug)]
pub(super) struct Road(pub Arc<Options>);

impl Connector for Road {
    type Out = Wire;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Wire>, ureq::Error> {
        DIALLED.set(true);
        let limit = (*details.timeout.after).min(self.0.timeout);
        let deadline = Instant::now() + limit;
        let proxy = self.0.proxies.route(details.uri);
        let mut line = Bounded::dial(&details.addrs, deadline).map_err(|error| match proxy {
            None => undialled(error),
            Some(proxy) => HttpError::Proxy(format!("the proxy {proxy} cannot be reached: {error}")),
        })?;
        let is_secure = details.needs_tls();
        let lead = match proxy {
            Some(proxy) if is_secure => {
                tunnel(&mut line, proxy, details.uri)?;
                None
            }
            Some(proxy) => Some(Lead::new(proxy, details.uri)),
            None => None,
        };
        let stream = if is_secure {
            let tls = self.handshake(details.uri, &mut line)?;
            Stream::Tls(Box::new(StreamOwned::new(tls, line)))
        } else {
            Stream::Plain(line)
        };
        Ok(Some(Wire { stream, buffers: Room::default(), lead }))
    }
}

impl Road {
    fn handshake(&self, uri: &Uri, line: &mut Bounded) -> Result<ClientConnection, HttpError> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        // The name in a certificate has no dot at its end.
        let name = host.strip_suffix('.').unwrap_or(host).to_string();
        let name = ServerName::try_from(name).map_err(|_| HttpError::BadUrl)?;
        let tls = |error: rustls::Error| HttpError::Tls(crate::client::trust::explain(&error));
        let mut session = ClientConnection::new(self.0.trust.config(), name).map_err(tls)?;
        session.complete_io(line).map_err(|error| match error.kind() {
            ErrorKind::TimedOut => HttpError::Timeout(Duration::ZERO, HANDSHAKE),
            ErrorKind::UnexpectedEof => {
                HttpError::Broken("the peer ended the connection during the TLS handshake".to_string())
            }
            _ => explain_io(&error),
        })?;
        Ok(session)
    }
}

/// Has the proxy connect us to the place of `uri`.
fn tunnel(line: &mut Bounded, proxy: &Proxy, uri: &Uri) -> Result<(), HttpError> {
    let host = uri.host().ok_or(HttpError::BadUrl)?;
    let place = format!("{host}:{}", uri.port_u16().unwrap_or(443));
    let mut request = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n");
    request.push_str(concat!("User-Agent: watchdog/", env!("CARGO_PKG_VERSION"), "\r\n"));
    if let Some(credentials) = &proxy.credentials {
        request.push_str("Proxy-Authorization: ");
        request.push_str(credentials.expose());
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    let broken = |error: io::Error| match error.kind() {
        ErrorKind::TimedOut => HttpError::Timeout(Duration::ZERO, AT_PROXY),
        _ => HttpError::Proxy(format!("the proxy {proxy} ended the connection before it answered")),
    };
    line.write_all(request.as_bytes()).map_err(broken)?;
    let mut head = Vec::new();
    let mut piece = [0; 512];
    // Nobody speaks after the header before we do.
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = line.read(&mut piece).map_err(broken)?;
        if count == 0 {
            return Err(broken(ErrorKind::UnexpectedEof.into()));
        }
        head.extend_from_slice(piece.get(..count).unwrap_or_default());
        if head.len() > HEADER_LIMIT {
            let what = format!("the header of the proxy {proxy} is larger than {} KiB", HEADER_LIMIT / 1024);
            return Err(HttpError::Proxy(what));
        }
    }
    let first = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let first = String::from_utf8_lossy(first).into_owned();
    let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|code| code.parse().ok());
    match status {
        Some(200..=299) => Ok(()),
        Some(status) => Err(refused(proxy, status)),
        None => Err(HttpError::Proxy(format!("{proxy} does not answer as an HTTP proxy"))),
    }
}

/// What a proxy's refusal means: that it does not want us, or that it cannot reach the peer.
pub(super) fn refused(proxy: &Proxy, status: u16) -> HttpError {
    match status {
        407 if proxy.credentials.is_some() => {
            HttpError::Proxy(format!("the proxy {proxy} does not accept the user and password of its URL (HTTP 407)"))
        }
        407 => HttpError::Proxy(format!(
            "the proxy {proxy} wants a user and a password (HTTP 407): write http://user:password@{proxy}"
        )),
        500 | 502..=504 => HttpError::Unreached(format!("the proxy {proxy} cannot reach it (HTTP {status})")),
        status => HttpError::Proxy(format!("the proxy {proxy} does not let this pass (HTTP {status})")),
    }
}

/// What is put into each request that a proxy forwards.
struct Lead {
    /// `http://host:port`, which goes before the path.
    place: String,
    credentials: Option<Secret>,
    /// True when the next bytes sent are the beginning of a request.
    due: bool,
}

impl fmt::Debug for Lead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lead")
    }
}

impl Lead {
    fn new(proxy: &Proxy, uri: &Uri) -> Lead {
        let authority = uri.authority().map(ureq::http::uri::Authority::as_str).unwrap_or_default();
        // Credentials of the peer, if any, are not the proxy's to see.
        let place = authority.rsplit('@').next().unwrap_or_default();
        Lead { place: format!("http://{place}"), credentials: proxy.credentials.clone(), due: true }
    }

    /// The beginning of a request as a proxy wants it: with the whole address, and who we are.
    fn put(&self, output: &[u8]) -> Vec<u8> {
        let space = output.iter().position(|byte| *byte == b' ').map_or(0, |at| at + 1);
        let end = output.iter().position(|byte| *byte == b'\n').map_or(output.len(), |at| at + 1);
        let part = |range: std::ops::Range<usize>| output.get(range).unwrap_or_default();
        let mut all = [part(0..space), self.place.as_bytes(), part(space..end)].concat();
        if let Some(credentials) = &self.credentials {
            all.extend_from_slice(format!("Proxy-Authorization: {}\r\n", credentials.expose()).as_bytes());
        }
        all.extend_from_slice(part(end..output.len()));
        all
    }
}

/// A connection with its buffers; every wait ends with what is left of the call's limit.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Stream,
    buffers: Room,
    lead: Option<Lead>,
}

enum Stream {
    Plain(Bounded),
    Tls(Box<StreamOwned<ClientConnection, Bounded>>),
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Stream::Plain(_)) { "Plain" } else { "Tls" })
    }
}

impl Stream {
    fn line(&mut self) -> &mut Bounded {
        match self {
            Stream::Plain(line) => line,
            Stream::Tls(tls) => &mut tls.sock,
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Plain(line) => line.write_all(bytes),
            Stream::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(line) => line.read(buffer),
            Stream::Tls(tls) => tls.read(buffer),
        }
    }

    /// Bounds what follows; an error when no time is left.
    fn bound(&mut self, timeout: NextTimeout) -> Result<(), ureq::Error> {
        if timeout.after.is_zero() {
            return Err(ureq::Error::Timeout(timeout.reason));
        }
        self.line().until(Instant::now() + *timeout.after);
        Ok(())
    }
}

fn timed<T>(outcome: io::Result<T>, timeout: NextTimeout) -> Result<T, ureq::Error> {
    outcome.map_err(|error| match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => ureq::Error::Timeout(timeout.reason),
        _ => ureq::Error::Io(error),
    })
}

impl Transport for Wire {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.bound(timeout)?;
        let output = self.buffers.output.get(..amount).unwrap_or_default();
        match &mut self.lead {
            Some(lead) if lead.due => {
                lead.due = false;
                timed(self.stream.write_all(&lead.put(output)), timeout)
            }
            _ => timed(self.stream.write_all(output), timeout),
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.bound(timeout)?;
        if let Some(lead) = &mut self.lead {
            lead.due = true;
        }
        let amount = timed(self.stream.read(self.buffers.input_append_buf()), timeout)?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.line().is_idle()
    }

    fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }
}

/// The buffers of a connection. The input grows while a header does not fit, up to more than the limit of a header,
/// so that one over the limit is told as such.
#[derive(Debug, Default)]
struct Room {
    input: Vec<u8>,
    from: usize,
    to: usize,
    output: Vec<u8>,
    progress: bool,
}

impl Room {
    fn make(&mut self) {
        if self.output.is_empty() {
            self.output.resize(OUTPUT, 0);
        }
        if self.input.is_empty() {
            self.input.resize(INPUT, 0);
        }
        if self.to < self.input.len() {
            return;
        }
        if self.from > 0 {
            self.input.copy_within(self.from..self.to, 0);
            self.to -= self.from;
            self.from = 0;
        } else {
            let size = self.input.len().saturating_mul(2).min(HEADER_LIMIT + 1024);
            self.input.resize(size, 0);
        }
    }
}

impl Buffers for Room {
    fn output(&mut self) -> &mut [u8] {
        self.make();
        &mut self.output
    }

    fn input(&self) -> &[u8] {
        self.input.get(self.from..self.to).unwrap_or_default()
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        self.make();
        self.input.get_mut(self.to..).unwrap_or_default()
    }

    fn input_appended(&mut self, amount: usize) {
        self.to = self.to.saturating_add(amount).min(self.input.len());
    }

    fn input_consume(&mut self, amount: usize) {
        self.progress = amount > 0;
        self.from = self.from.saturating_add(amount).min(self.to);
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
        }
    }

    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        self.make();
        (self.input.get_mut(self.to..).unwrap_or_default(), &mut self.output)
    }

    fn can_use_input(&self) -> bool {
        self.from < self.to && self.progress
    }
}
