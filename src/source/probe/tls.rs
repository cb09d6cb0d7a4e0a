//! tls: does the peer show a certificate that holds, for the right name, for long enough (F45)?
//!
//! The certificate is verified as every client would (rustls with the bundled roots, or those of
//! `ca_file`), and never accepted in spite of that. The verifier also writes down the certificate it
//! was shown, so that a refused one can still be named: expired, of an unknown authority, for another
//! name, and how many days are left. Days are counted on the program's own [`Clock`].

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::pool::Verdict;
use super::tcp::not_connected;
use super::{excerpt, unresolved};
use crate::client::dial::{Bounded, dial};
use crate::client::resolve::{Lane, resolve};
use crate::client::roots::store;
use crate::clock::Clock;
use crate::core::time::people;

const DAY: i64 = 86_400;

/// One tls check.
pub struct TlsCheck {
    /// Name or address to connect to.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The name asked for, which the certificate must carry.
    pub server_name: ServerName<'static>,
    /// Limit of one look, name lookup included.
    pub limit: Duration,
    /// May talk to link-local and metadata addresses.
    pub allow_link_local: bool,
    /// Fewer days than this left are not well.
    pub min_days: u32,
    /// Verifies certificates; shared by all checks with the same authorities.
    pub verifier: Arc<WebPkiServerVerifier>,
    /// Tells the time that certificates are judged by.
    pub clock: Clock,
}

/// A verifier that trusts the authorities in the PEM file `ca`, or the bundled ones.
pub fn verifier(ca: Option<&Path>) -> Result<Arc<WebPkiServerVerifier>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    WebPkiServerVerifier::builder_with_provider(Arc::new(store(ca)?), provider)
        .build()
        .map_err(|e| format!("cannot verify certificates: {e}"))
}

impl TlsCheck {
    /// Looks once.
    pub fn look(&self) -> Verdict {
        let deadline = Instant::now() + self.limit;
        let addresses = match resolve(&self.host, self.port, Lane::Targets, self.allow_link_local, self.limit) {
            Ok(addresses) => addresses,
            Err(error) => return unresolved(&error),
        };
        let stream = match dial(&addresses, deadline) {
            Ok(stream) => stream,
            Err(error) => return not_connected(&error, self.limit),
        };
        let witness = Arc::new(Witness { verifier: Arc::clone(&self.verifier), shown: Mutex::default() });
        let mut session = match self.session(&witness) {
            Ok(session) => session,
            Err(error) => return Verdict::unknown(format!("cannot begin TLS: {error}")),
        };
        let outcome = session.complete_io(&mut Bounded::new(stream, deadline));
        let shown = witness.shown.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (outcome, shown) {
            (Ok(_), Some(leaf)) => self.judge(&leaf, None),
            (Ok(_), None) => Verdict::unknown("the peer showed no certificate"),
            (Err(error), leaf) => {
                let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
                match (tls, leaf) {
                    (Some(rustls::Error::InvalidCertificate(why)), Some(leaf)) => self.judge(&leaf, Some(why)),
                    (Some(tls), _) => Verdict::down(format!("TLS: {tls}")),
                    (None, _) if error.kind() == std::io::ErrorKind::TimedOut => {
                        Verdict::down(format!("no answer within {} (TLS handshake)", people(self.limit)))
                    }
                    (None, _) => Verdict::down(format!("the connection broke during the TLS handshake: {error}")),
                }
            }
        }
    }

    fn session(&self, witness: &Arc<Witness>) -> Result<ClientConnection, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Arc::<Witness>::clone(witness);
        let config = ClientConfig::builder_with_details(provider, Arc::new(OwnTime(self.clock.clone())))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        ClientConnection::new(Arc::new(config), self.server_name.clone())
    }

    /// The verdict on the certificate `leaf`, which was refused for the reason `why`, if any.
    fn judge(&self, leaf: &[u8], why: Option<&CertificateError>) -> Verdict {
        use CertificateError as E;
        let now = self.clock.now().wall.0.div_euclid(1000);
        let Ok((_, certificate)) = X509Certificate::from_der(leaf) else {
            return Verdict::down("the certificate cannot be read");
        };
        let left = certificate.validity().not_after.timestamp().saturating_sub(now);
        if left < 0 {
            return Verdict::down(format!("certificate expired {} ago", days(left.saturating_neg())));
        }
        let expires = format!("expires in {}", days(left));
        let Some(why) = why else {
            let enough = left >= i64::from(self.min_days).saturating_mul(DAY);
            return if enough {
                Verdict::up(format!("certificate {expires}"))
            } else {
                Verdict::down(format!("certificate {expires}, fewer than {} days", self.min_days))
            };
        };
        let what = match why {
            E::NotValidYet | E::NotValidYetContext { .. } => {
                "is not valid yet; one of the two clocks is wrong".to_string()
            }
            E::NotValidForName | E::NotValidForNameContext { .. } => {
                format!("is not for {}, but for {}", self.server_name.to_str(), names(&certificate))
            }
            E::UnknownIssuer => "is signed by an unknown authority; if that is meant, set ca_file".to_string(),
            E::Revoked => "is revoked".to_string(),
            other => format!("does not hold: {other}"),
        };
        Verdict::down(format!("certificate {what} ({expires})"))
    }
}

fn days(seconds: i64) -> String {
    match seconds / DAY {
        0 => people(Duration::from_secs(seconds.unsigned_abs())),
        1 => "1 day".to_string(),
        days => format!("{days} days"),
    }
}

/// The names a certificate is for, shortened and escaped: they come from the peer.
fn names(certificate: &X509Certificate<'_>) -> String {
    use x509_parser::extensions::GeneralName;
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return "no name".to_string() };
    let shown: Vec<&str> = names
        .value
        .general_names
        .iter()
        .filter_map(|name| if let GeneralName::DNSName(name) = name { Some(*name) } else { None })
        .take(4)
        .collect();
    if shown.is_empty() { "no name".to_string() } else { excerpt(shown.join(", ").as_bytes()) }
}

/// Verifies like the verifier it asks, and writes down what it was shown.
struct Witness {
    verifier: Arc<WebPkiServerVerifier>,
    shown: Mutex<Option<Vec<u8>>>,
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Witness")
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(leaf.to_vec());
        self.verifier.verify_server_cert(leaf, chain, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// The program's clock as rustls wants it.
struct OwnTime(Clock);

impl fmt::Debug for OwnTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnTime")
    }
}

impl TimeProvider for OwnTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().wall.0.div_euclid(1000)).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_left_read_like_speech() {
        assert_eq!(days(9 * DAY + 5), "9 days");
        assert_eq!(days(DAY), "1 day");
        assert_eq!(days(7200), "2h");
    }

    #[test]
    fn a_file_without_certificates_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        assert!(verifier(Some(&file)).unwrap_err().contains("ca.pem"));
        std::fs::write(&file, "no certificate").unwrap();
        assert!(verifier(Some(&file)).unwrap_err().contains("no certificate in PEM form"));
        assert!(verifier(None).is_ok());
    }
}
