//! Why a TLS peer was refused, in words for people: which certificate, what is wrong, and the way out.
//!
//! Names in certificates come from the peer: they are escaped and short. The library's own names of errors are
//! turned into words where nothing better is known, and never shown as they are.

use std::fmt::Write as _;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::{AlertDescription, CertificateError, OtherError};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Name};

use super::{Fingerprint, Judge, Keys, Verified, fingerprint_of};
use crate::core::message::clean;
use crate::core::time::people;

const DAY: i64 = 86_400;
/// Characters of a name that a certificate holds.
const NAME: usize = 60;

/// Why a TLS connection did not come about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct Refusal {
    /// In one sentence.
    pub words: String,
    /// What kind of reason it is.
    pub kind: Kind,
    /// What is wrong.
    pub flaw: Flaw,
}

/// What is wrong with a peer, as far as it decides what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// A certificate of the chain has expired.
    Expired,
    /// A certificate of the chain is not valid yet.
    NotYetValid,
    /// The certificate is for other names.
    Name,
    /// The certificate is signed by nobody but itself.
    SelfSigned,
    /// The certificate is signed by an authority that is not known.
    Authority,
    /// The same, and the peer sent no certificate but its own.
    Chain,
    /// The certificate is not the pinned one.
    Pin,
    /// Anything else about the certificate.
    Certificate,
    /// The peer wants a certificate of ours.
    ClientCertificate,
    /// The peer does not speak TLS.
    NotTls,
    /// Anything else about the connection.
    Talk,
}

impl Flaw {
    fn kind(self) -> Kind {
        match self {
            Flaw::Expired | Flaw::NotYetValid => Kind::Date { since: None },
            Flaw::Name | Flaw::SelfSigned | Flaw::Authority | Flaw::Chain | Flaw::Pin | Flaw::Certificate => {
                Kind::Certificate
            }
            Flaw::ClientCertificate | Flaw::NotTls | Flaw::Talk => Kind::Talk,
        }
    }
}

/// Kinds of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A certificate has expired, or is not valid yet. Looking again does not change a date.
    Date {
        /// Since when it has expired, in seconds since 1970.
        since: Option<i64>,
    },
    /// The certificate is not that of the right peer.
    Certificate,
    /// The two do not understand each other.
    Talk,
}

impl Refusal {
    /// A refusal for this reason, in these words.
    pub fn new(flaw: Flaw, words: impl Into<String>) -> Refusal {
        Refusal { words: words.into(), kind: flaw.kind(), flaw }
    }
}

/// What an error of the TLS library means.
pub fn explain(error: &rustls::Error) -> Refusal {
    use rustls::Error as E;
    let talk = |words: &str| Refusal::new(Flaw::Talk, words);
    match error {
        E::InvalidCertificate(CertificateError::Other(OtherError(inner))) => match inner.downcast_ref::<Refusal>() {
            Some(refusal) => refusal.clone(),
            None => Refusal::new(Flaw::Certificate, "the certificate cannot be verified"),
        },
        E::InvalidCertificate(why) => {
            Refusal::new(Flaw::Certificate, format!("the certificate cannot be verified ({})", spoken(why)))
        }
        E::NoCertificatesPresented => Refusal::new(Flaw::Certificate, "the peer showed no certificate"),
        E::InvalidMessage(_) => {
            Refusal::new(Flaw::NotTls, "the peer does not speak TLS; is the port one for plain connections?")
        }
        E::PeerIncompatible(_) => {
            talk("the peer and the watchdog have no version or cipher of TLS in common; TLS 1.2 or 1.3 is needed")
        }
        E::AlertReceived(alert) => alerted(*alert),
        E::PeerMisbehaved(why) => {
            Refusal::new(Flaw::Talk, format!("the peer breaks the rules of TLS ({})", spoken(why)))
        }
        other => Refusal::new(Flaw::Talk, format!("the connection failed ({})", spoken(other))),
    }
}

/// What the peer said when it ended the handshake.
fn alerted(alert: AlertDescription) -> Refusal {
    use AlertDescription as A;
    let words = match alert {
        A::CertificateRequired => {
            "the peer wants a client certificate: set client_cert and client_key where the probe has them".to_string()
        }
        A::UnknownCA
        | A::BadCertificate
        | A::CertificateUnknown
        | A::CertificateExpired
        | A::CertificateRevoked
        | A::UnsupportedCertificate
        | A::AccessDenied => {
            format!("the peer refused the client certificate ({})", spoken(&alert))
        }
        A::UnrecognisedName => "the peer serves nothing under this name".to_string(),
        A::ProtocolVersion => "the peer wants another version of TLS than 1.2 or 1.3".to_string(),
        A::HandshakeFailure => {
            "the peer ended the handshake: no cipher in common, or it wants a client certificate".to_string()
        }
        other => format!("the peer ended the connection ({})", spoken(&other)),
    };
    let client = words.contains("client certificate");
    Refusal::new(if client { Flaw::ClientCertificate } else { Flaw::Talk }, words)
}

/// The first name in the `Debug` form of a library's error, as words: `PathLenConstraintViolated` is
/// `path len constraint violated`.
fn spoken(error: &impl std::fmt::Debug) -> String {
    let text = format!("{error:?}");
    let mut name = text.split(|c: char| !c.is_ascii_alphanumeric()).find(|part| !part.is_empty()).unwrap_or("unknown");
    // What matters stands inside: `General("…")` and the like say nothing by themselves.
    if name == "Other" || name == "General" {
        name = "Unknown";
    }
    let mut words = String::new();
    let mut last_is_capital = true;
    for c in name.chars() {
        if c.is_ascii_uppercase() && !last_is_capital {
            words.push(' ');
        }
        last_is_capital = c.is_ascii_uppercase();
        words.push(c.to_ascii_lowercase());
    }
    words
}

/// The peer's certificate is another than the pinned one.
pub(super) fn not_pinned(seen: &Fingerprint, keys: Keys) -> Refusal {
    let words = format!(
        "the certificate is not the pinned one: its SHA-256 fingerprint is {}; if it was renewed, set {} to that",
        hex(seen),
        keys.pin
    );
    Refusal::new(Flaw::Pin, words)
}

/// Refuses a certificate out of its time.
pub(super) fn in_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Refusal> {
    out_of_time(&[certificate], now).map_or(Ok(()), Err)
}

fn out_of_time(path: &[&CertificateDer<'_>], now: UnixTime) -> Option<Refusal> {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    for (index, der) in path.iter().enumerate() {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else { continue };
        let (from, until) = dates_of(&certificate);
        let what = called(index, &certificate);
        if until < now {
            let ago = days(now.saturating_sub(until));
            let way_out = if index == 0 { "renew it" } else { "the peer must send a newer one" };
            let refusal = Refusal::new(Flaw::Expired, format!("the {what} expired {ago} ago: {way_out}"));
            return Some(Refusal { kind: Kind::Date { since: Some(until) }, ..refusal });
        }
        if from > now {
            let wait = days(from.saturating_sub(now));
            let words = format!("the {what} is not valid yet, only in {wait}; one of the two clocks is wrong");
            return Some(Refusal::new(Flaw::NotYetValid, words));
        }
    }
    None
}

/// Why the chain of `leaf` does not hold.
pub(super) fn refused(
    why: &webpki::Error,
    leaf: &CertificateDer<'_>,
    chain: &[CertificateDer<'_>],
    name: &ServerName<'_>,
    now: UnixTime,
    judge: &Judge,
) -> Refusal {
    use webpki::Error as E;
    let Ok((_, certificate)) = X509Certificate::from_der(leaf) else {
        return Refusal::new(Flaw::Certificate, "the certificate cannot be read");
    };
    // A date is told first: whatever else is wrong, this needs a new certificate.
    if let Some(refusal) = out_of_time(&[leaf], now) {
        return refusal;
    }
    let dated = matches!(why, E::CertExpired { .. } | E::CertNotValidYet { .. });
    let path: Vec<&CertificateDer<'_>> = std::iter::once(leaf).chain(chain).collect();
    if let Some(refusal) = out_of_time(&path, now).filter(|_| dated) {
        return refusal;
    }
    let mut words = match why {
        E::CertNotValidForName(_) => not_for(name, &certificate, judge.keys, leaf),
        E::UnknownIssuer | E::CaUsedAsEndEntity => unknown(&certificate, leaf, chain, judge),
        E::UnsupportedCertVersion => {
            "the certificate is of an old form (X.509 version 1), which is not accepted: make a new one".to_string()
        }
        E::CertRevoked => "the certificate is revoked".to_string(),
        E::InvalidSignatureForPublicKey => {
            "the signature on the certificate is not that of its authority: another authority of the same name signed it"
                .to_string()
        }
        E::RequiredEkuNotFoundContext(_) => {
            "the certificate may not be used by a server (extended key usage): make one for serverAuth".to_string()
        }
        E::NameConstraintViolation | E::PathLenConstraintViolated | E::EndEntityUsedAsCa => {
            "an authority of the certificate may not sign it (constraints of the authority)".to_string()
        }
        E::UnsupportedSignatureAlgorithmContext(_)
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
        | E::SignatureAlgorithmMismatch => {
            "the certificate is signed in a way that is not accepted, such as by SHA-1: make a new one".to_string()
        }
        other => format!("the certificate cannot be verified ({})", spoken(other)),
    };
    let left = dates_of(&certificate).1.saturating_sub(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    let _ = write!(words, " (it expires in {})", days(left));
    let flaw = match why {
        E::CertNotValidForName(_) => Flaw::Name,
        E::UnknownIssuer | E::CaUsedAsEndEntity if certificate.subject() == certificate.issuer() => Flaw::SelfSigned,
        E::UnknownIssuer | E::CaUsedAsEndEntity if chain.is_empty() && judge.known.is_empty() => Flaw::Chain,
        E::UnknownIssuer | E::CaUsedAsEndEntity => Flaw::Authority,
        _ => Flaw::Certificate,
    };
    Refusal::new(flaw, words)
}

fn not_for(name: &ServerName<'_>, certificate: &X509Certificate<'_>, keys: Keys, leaf: &CertificateDer<'_>) -> String {
    let name = clean(&name.to_str(), NAME);
    if let Some(names) = names(certificate) {
        return format!("the certificate is not for {name}, but for {names}");
    }
    let pin = if keys.pin.is_empty() {
        String::new()
    } else {
        format!(", or pin it by {} = \"{}\"", keys.pin, hex(&fingerprint_of(leaf)))
    };
    format!(
        "the certificate holds no name (subjectAltName), so it is not for {name}: make one that does (openssl req \
         -addext \"subjectAltName=DNS:…\"){pin}"
    )
}

fn unknown(
    certificate: &X509Certificate<'_>,
    leaf: &CertificateDer<'_>,
    chain: &[CertificateDer<'_>],
    judge: &Judge,
) -> String {
    let Keys { ca, pin } = judge.keys;
    let pin = if pin.is_empty() {
        String::new()
    } else {
        format!(", or pin it by {pin} = \"{}\"", hex(&fingerprint_of(leaf)))
    };
    if certificate.subject() == certificate.issuer() {
        return match (ca.is_empty(), judge.known.is_empty()) {
            (true, _) => "the certificate is self-signed".to_string(),
            (false, true) => format!("the certificate is self-signed: give it as {ca}{pin}"),
            (false, false) => format!("the certificate is self-signed and not in {ca}: add it there{pin}"),
        };
    }
    // The authority that is missing is that of the last certificate that was sent.
    let last = chain.last().and_then(|der| X509Certificate::from_der(der).ok());
    let issuer = match &last {
        Some((_, last)) if last.subject() != last.issuer() => common_name(last.issuer()),
        Some((_, last)) => common_name(last.subject()),
        None => common_name(certificate.issuer()),
    };
    let whose = if judge.known.is_empty() {
        format!("the certificate is signed by an unknown authority, \"{issuer}\"")
    } else {
        format!("the certificate is signed by \"{issuer}\", which is not in {ca}")
    };
    let way_out = match (ca.is_empty(), judge.known.is_empty()) {
        (true, _) => String::new(),
        (false, true) => format!(": give the authority's certificate as {ca}{pin}"),
        (false, false) => format!(": add the authority's certificate there{pin}"),
    };
    let hint = if chain.is_empty() && judge.known.is_empty() {
        "; a server with a public certificate must also send its intermediate one"
    } else {
        ""
    };
    format!("{whose}{way_out}{hint}")
}

/// The dates of a chain in use: the peer's certificate, those between, and the user's own authorities.
pub(super) fn dates(path: &[&CertificateDer<'_>], anchors: &[&CertificateDer<'_>]) -> Verified {
    let mut verified = Verified { leaf_ends: i64::MAX, ends: i64::MAX, first: "certificate".to_string() };
    let all = path.iter().enumerate().chain(anchors.iter().map(|anchor| (usize::MAX, anchor)));
    for (index, der) in all {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else { continue };
        let until = dates_of(&certificate).1;
        if index == 0 {
            verified.leaf_ends = until;
        }
        if until < verified.ends {
            verified.ends = until;
            verified.first = called(index, &certificate);
        }
    }
    verified
}

/// Whether this certificate is the authority at the end of a path.
pub(super) fn is_anchor(known: &CertificateDer<'_>, anchor: &TrustAnchor<'_>) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(known) else { return false };
    // An anchor holds what stands inside of the outermost sequence.
    let inside = |whole: &[u8], part: &[u8]| whole.ends_with(part);
    inside(certificate.subject().as_raw(), anchor.subject.as_ref())
        && inside(certificate.public_key().raw, anchor.subject_public_key_info.as_ref())
}

fn called(index: usize, certificate: &X509Certificate<'_>) -> String {
    match index {
        0 => "certificate".to_string(),
        usize::MAX => format!("authority \"{}\"", common_name(certificate.subject())),
        _ => format!("intermediate certificate \"{}\"", common_name(certificate.subject())),
    }
}

fn dates_of(certificate: &X509Certificate<'_>) -> (i64, i64) {
    let validity = certificate.validity();
    (validity.not_before.timestamp(), validity.not_after.timestamp())
}

fn common_name(name: &X509Name<'_>) -> String {
    let found = name.iter_common_name().chain(name.iter_organization()).find_map(|part| part.as_str().ok());
    clean(found.unwrap_or("no name"), NAME)
}

/// Names of a certificate that are told.
const NAMES: usize = 4;

/// The names that a certificate is for, the first four and how many more; `None` when it holds none.
fn names(certificate: &X509Certificate<'_>) -> Option<String> {
    listed(certificate.subject_alternative_name().ok().flatten()?.value.general_names.iter())
}

fn listed<'a>(names: impl Iterator<Item = &'a GeneralName<'a>>) -> Option<String> {
    let shown = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(clean(name, NAME)),
        GeneralName::IPAddress(bytes) => match *bytes {
            [a, b, c, d] => Some(std::net::Ipv4Addr::new(*a, *b, *c, *d).to_string()),
            bytes => <[u8; 16]>::try_from(bytes).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
        },
        _ => None,
    });
    let mut shown: Vec<String> = shown.collect();
    let more = shown.len().saturating_sub(NAMES);
    shown.truncate(NAMES);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!shown.is_empty()).then(|| shown.join(", ") + &rest)
}

fn hex(bytes: &Fingerprint) -> String {
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A number of seconds in words: whole days, or less than one as it is.
pub fn days(seconds: i64) -> String {
    match seconds / DAY {
        0 => people(Duration::from_secs(seconds.unsigned_abs())),
        1 => "1 day".to_string(),
        days => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_first_are_counted() {
        let named = |count: usize| {
            let names = (0..count).map(|n| GeneralName::DNSName(["a", "b", "c", "d", "e", "f"][n])).collect::<Vec<_>>();
            listed(names.iter())
        };
        assert_eq!(named(0), None);
        assert_eq!(named(4).as_deref(), Some("a, b, c, d"));
        assert_eq!(named(6).as_deref(), Some("a, b, c, d and 2 more"));
    }

    #[test]
    fn days_left_read_like_speech() {
        assert_eq!(days(9 * DAY + 5), "9 days");
        assert_eq!(days(DAY), "1 day");
        assert_eq!(days(7200), "2 h");
    }

    #[test]
    fn no_error_of_the_library_is_shown_as_it_is_written() {
        use rustls::Error as E;
        let all = [
            E::DecryptError,
            E::EncryptError,
            E::General("raw words".to_string()),
            E::HandshakeNotComplete,
            E::PeerSentOversizedRecord,
            E::InvalidMessage(rustls::InvalidMessage::InvalidContentType),
            E::InvalidCertificate(CertificateError::Other(OtherError(std::sync::Arc::new(webpki::Error::BadDer)))),
            E::InvalidCertificate(CertificateError::BadSignature),
            E::AlertReceived(AlertDescription::InternalError),
            E::PeerMisbehaved(rustls::PeerMisbehaved::SignedKxWithWrongAlgorithm),
        ];
        for error in all {
            let words = explain(&error).words;
            let is_plain = !words.contains(['{', '[', '_']) && !words.contains("Error") && !words.contains("raw");
            assert!(is_plain && words.contains(' '), "{words}");
        }
        assert_eq!(spoken(&webpki::Error::MaximumPathDepthExceeded), "maximum path depth exceeded");
        assert_eq!(spoken(&AlertDescription::UnknownCA), "unknown ca");
    }
}
