//! Who a TLS peer must be, for every client: the bundled authorities, those of a PEM file, or one certificate.
//!
//! A certificate that the user gave is accepted when it is byte for byte the peer's, also where it is self-signed:
//! its dates and its name are still checked. A fingerprint pins one certificate and is then all that counts. Nothing
//! is ever accepted in spite of a failed check. Why a peer was refused is said in words for people, with the way out
//! (`trust/words.rs`); the library's own names of errors reach nobody. Sessions are never resumed: a resumed one shows
//! no certificate, and one that has expired meanwhile would go unseen.

mod words;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage};

pub use self::words::{Flaw, Kind, Refusal, days, explain};
use super::roots::authorities;
use crate::config::value::Secret;

/// The SHA-256 of a certificate.
type Fingerprint = [u8; 32];

/// What a client trusts, as the settings say it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terms<'a> {
    /// PEM file of the only authorities, or of the peer's own certificate.
    pub ca: Option<&'a Path>,
    /// SHA-256 of the one certificate that the peer may have, in hex, with or without colons.
    pub fingerprint: Option<&'a str>,
    /// PEM files of the certificate and the key that we show.
    pub identity: Option<(&'a Path, &'a Path)>,
    /// What the settings are called.
    pub keys: Keys,
}

/// What the settings of one client are called, for the way out of an error; empty where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keys {
    /// The key of [`Terms::ca`].
    pub ca: &'static str,
    /// The key of [`Terms::fingerprint`].
    pub pin: &'static str,
}

/// Which of the [`Terms`] cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// The file of authorities.
    Ca(String),
    /// The fingerprint.
    Fingerprint(String),
    /// The certificate that we show.
    Certificate(String),
    /// Its key.
    Key(String),
}

impl Wrong {
    /// Why, in words.
    pub fn what(self) -> String {
        let (Wrong::Ca(what) | Wrong::Fingerprint(what) | Wrong::Certificate(what) | Wrong::Key(what)) = self;
        what
    }
}

/// What a client trusts, ready for use. Shared by its connections.
pub struct Trust {
    judge: Arc<Judge>,
    identity: Option<Arc<SingleCertAndKey>>,
    config: Arc<ClientConfig>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trust")
    }
}

impl Trust {
    /// The bundled authorities.
    pub fn bundled() -> Arc<Trust> {
        static BUNDLED: LazyLock<Option<Arc<Trust>>> =
            LazyLock::new(|| Trust::new(&Terms::default()).ok().map(Arc::new));
        // Nothing is read for it that could fail; trusting nobody is the safe other case.
        BUNDLED.clone().unwrap_or_else(|| Arc::new(Trust::of(Judge::new(Arc::new(RootCertStore::empty())), None)))
    }

    /// The bundled authorities, for a client whose settings are called so.
    pub fn with_keys(keys: Keys) -> Arc<Trust> {
        Arc::new(Trust::of(Judge { keys, ..Judge::new(bundled_roots()) }, None))
    }

    /// Reads the file `ca` of authorities, if one is given, for a client whose key for it is `key`.
    pub fn by(ca: Option<&Path>, key: &'static str) -> Result<Arc<Trust>, String> {
        let keys = Keys { ca: key, pin: "" };
        let ca = ca.filter(|path| !path.as_os_str().is_empty());
        if ca.is_none() {
            return Ok(Trust::with_keys(keys));
        }
        Trust::new(&Terms { ca, keys, ..Terms::default() }).map(Arc::new).map_err(Wrong::what)
    }

    /// Reads the files that `terms` name.
    pub fn new(terms: &Terms<'_>) -> Result<Trust, Wrong> {
        let pin = terms.fingerprint.map(fingerprint).transpose().map_err(Wrong::Fingerprint)?;
        if pin.is_some() && terms.ca.is_some() {
            let what = format!("already says which certificate it must be; remove it or {}", terms.keys.ca);
            return Err(Wrong::Fingerprint(what));
        }
        let known = terms.ca.map(authorities).transpose().map_err(Wrong::Ca)?.unwrap_or_default();
        let roots = match terms.ca {
            None => bundled_roots(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in &known {
                    roots.add(certificate.clone()).map_err(|_| {
                        Wrong::Ca(format!("{} holds a certificate that cannot be read", path.display()))
                    })?;
                }
                Arc::new(roots)
            }
        };
        let identity = terms.identity.map(|(certificate, key)| identity(certificate, key)).transpose()?;
        let judge = Judge { known, pin, keys: terms.keys, ..Judge::new(roots) };
        Ok(Trust::of(judge, identity))
    }

    fn of(judge: Judge, identity: Option<Arc<SingleCertAndKey>>) -> Trust {
        let judge = Arc::new(judge);
        let seen = Arc::new(Witness { judge: Arc::clone(&judge), seen: None });
        let config = Arc::new(config(seen, identity.as_ref(), Arc::new(DefaultTimeProvider), &[]));
        Trust { judge, identity, config }
    }

    /// For connections of HTTP/1, on the machine's clock.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// The same with these protocols (ALPN).
    pub fn config_for(&self, protocols: &[&[u8]]) -> ClientConfig {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        config
    }

    /// For one connection that is to be judged by another clock, and whose certificates are of interest.
    pub fn watched(&self, time: Arc<dyn TimeProvider>) -> (Arc<ClientConfig>, Seen) {
        let seen = Seen::default();
        let witness = Witness { judge: Arc::clone(&self.judge), seen: Some(seen.clone()) };
        (Arc::new(config(Arc::new(witness), self.identity.as_ref(), time, &[])), seen)
    }
}

/// What a watched connection showed: the verdict on its certificates.
#[derive(Debug, Clone, Default)]
pub struct Seen(Arc<Mutex<Option<Verified>>>);

impl Seen {
    /// The dates of the chain that was accepted; `None` before, or when it was refused.
    pub fn take(&self) -> Option<Verified> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The dates of a chain that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Until when the peer's own certificate is valid, in seconds since 1970.
    pub leaf_ends: i64,
    /// Until when the chain in use holds: the earliest of its dates.
    pub ends: i64,
    /// The certificate that ends first, in words: `certificate`, `intermediate certificate "R3"`.
    pub first: String,
}

fn config(
    witness: Arc<Witness>,
    identity: Option<&Arc<SingleCertAndKey>>,
    time: Arc<dyn TimeProvider>,
    protocols: &[&[u8]],
) -> ClientConfig {
    let builder = ClientConfig::builder_with_details(Arc::clone(&witness.judge.provider), time)
        .with_protocol_versions(rustls::DEFAULT_VERSIONS);
    #[allow(clippy::expect_used, reason = "ring knows both versions; there is nothing else that could fail")]
    let builder = builder.expect("both versions");
    let builder = builder.dangerous().with_custom_certificate_verifier(witness);
    let mut config = match identity {
        Some(identity) => {
            let identity: Arc<dyn ResolvesClientCert> = Arc::<SingleCertAndKey>::clone(identity);
            builder.with_client_cert_resolver(identity)
        }
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    config
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    Arc::clone(&PROVIDER)
}

fn bundled_roots() -> Arc<RootCertStore> {
    static ROOTS: LazyLock<Arc<RootCertStore>> =
        LazyLock::new(|| Arc::new(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()));
    Arc::clone(&ROOTS)
}

fn fingerprint(text: &str) -> Result<Fingerprint, String> {
    const RIGHT: &str = "is not a SHA-256 fingerprint, which has 64 hexadecimal digits; read it by \
                         `openssl x509 -in cert.pem -noout -fingerprint -sha256`";
    let digits: String = text.chars().filter(|c| !matches!(c, ':' | ' ')).collect();
    let mut bytes = [0; 32];
    if digits.len() != 64 || !digits.is_ascii() {
        return Err(RIGHT.to_string());
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        let pair = digits.get(index * 2..index * 2 + 2).unwrap_or_default();
        *byte = u8::from_str_radix(pair, 16).map_err(|_| RIGHT.to_string())?;
    }
    Ok(bytes)
}

/// The fingerprint of a certificate.
fn fingerprint_of(certificate: &[u8]) -> Fingerprint {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, certificate).as_ref());
    bytes
}

fn identity(certificate: &Path, key: &Path) -> Result<Arc<SingleCertAndKey>, Wrong> {
    let chain = authorities(certificate).map_err(Wrong::Certificate)?;
    let text = Secret::resolve("client_key", None, Some(key)).map_err(Wrong::Key)?;
    let shown = key.display();
    let text = text.ok_or_else(|| Wrong::Key("is needed beside the certificate".to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(text.expose().as_bytes())
        .map_err(|_| Wrong::Key(format!("{shown} holds no private key in PEM form without a passphrase")))?;
    let pair = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => Wrong::Key(format!("{shown} does not belong to the certificate")),
        _ => Wrong::Key(format!("{shown} cannot be used: its kind of key is not known here")),
    })?;
    Ok(Arc::new(SingleCertAndKey::from(pair)))
}

/// Decides whether a peer is the right one.
struct Judge {
    roots: Arc<RootCertStore>,
    /// The certificates of the user's file, as they are.
    known: Vec<CertificateDer<'static>>,
    pin: Option<Fingerprint>,
    keys: Keys,
    provider: Arc<CryptoProvider>,
}

impl Judge {
    fn new(roots: Arc<RootCertStore>) -> Judge {
        Judge { roots, known: Vec::new(), pin: None, keys: Keys::default(), provider: provider() }
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<Verified, Refusal> {
        if let Some(pin) = &self.pin {
            let seen = fingerprint_of(leaf);
            return if seen == *pin {
                Ok(words::dates(&[leaf], &[]))
            } else {
                Err(words::not_pinned(&seen, self.keys))
            };
        }
        let refuse = |why: webpki::Error| words::refused(&why, leaf, chain, name, now, self);
        let certificate = EndEntityCert::try_from(leaf).map_err(refuse)?;
        if self.known.iter().any(|known| known == leaf) {
            words::in_time(leaf, now)?;
            certificate.verify_is_valid_for_subject_name(name).map_err(refuse)?;
            return Ok(words::dates(&[leaf], &[]));
        }
        let algorithms = self.provider.signature_verification_algorithms.all;
        let path = certificate
            .verify_for_usage(algorithms, &self.roots.roots, chain, now, KeyUsage::server_auth(), None, None)
            .map_err(refuse)?;
        certificate.verify_is_valid_for_subject_name(name).map_err(refuse)?;
        let between: Vec<CertificateDer<'_>> = path.intermediate_certificates().map(webpki::Cert::der).collect();
        let path_in_use: Vec<&CertificateDer<'_>> = std::iter::once(leaf).chain(&between).collect();
        let anchors = self.known.iter().filter(|known| words::is_anchor(known, path.anchor()));
        Ok(words::dates(&path_in_use, &anchors.collect::<Vec<_>>()))
    }
}

/// The judge as the TLS library wants it; writes down what was accepted, where that is of interest.
struct Witness {
    judge: Arc<Judge>,
    seen: Option<Seen>,
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
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self
            .judge
            .verify(leaf, chain, name, now)
            .map_err(|refusal| rustls::Error::from(CertificateError::Other(OtherError(Arc::new(refusal)))))?;
        if let Some(Seen(seen)) = &self.seen {
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(verified);
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signature, &self.judge.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signature, &self.judge.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_with_and_without_colons() {
        let plain = "0a".repeat(32);
        let colons = ["0A"; 32].join(":");
        assert_eq!(fingerprint(&plain), Ok([10; 32]));
        assert_eq!(fingerprint(&colons), Ok([10; 32]));
        for wrong in ["", "0a", &"0g".repeat(32), &"é".repeat(32), &"0a".repeat(33)] {
            assert!(fingerprint(wrong).unwrap_err().contains("64 hexadecimal digits"), "{wrong}");
        }
    }

    #[test]
    fn a_file_without_certificates_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        let made = || Trust::new(&Terms { ca: Some(&file), ..Terms::default() }).unwrap_err().what();
        assert!(made().contains("ca.pem"));
        std::fs::write(&file, "no certificate").unwrap();
        assert!(made().contains("no certificate in PEM form"));
        assert!(Trust::new(&Terms::default()).is_ok());
    }
}
