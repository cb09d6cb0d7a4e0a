//! RSA keys of OCI: read from PEM text, checked by their fingerprint, used to sign.
//!
//! Takes what people have: PKCS#8, PKCS#1, PKCS#8 with a pass phrase, and files with Oracle's
//! `OCI_API_KEY` label after the end. `ring` signs; `pkcs8` undoes a pass phrase; `rsa` makes the
//! short-lived keys of instance principals and does nothing else, because `ring` cannot make RSA keys.
//! A key never shows: `Debug` gives its fingerprint, errors say nothing of its content.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::rsa::KeyPair;
use ring::signature::RSA_PKCS1_SHA256;
use rsa::pkcs1::EncodeRsaPrivateKey as _;
use rsa::rand_core::{TryCryptoRng, TryRng};

use crate::config::value::Secret;

/// Bits of the keys that [`Key::generate`] makes.
const BITS: usize = 2048;
/// `SEQUENCE { rsaEncryption, NULL }` of RFC 8017 A.1.
const RSA_ENCRYPTION: [u8; 15] =
    [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// A private key. Cheap to clone.
#[derive(Clone)]
pub struct Key {
    pair: Arc<KeyPair>,
}

/// Why a text is not a usable key. Never shows any of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There is no PEM block of a private key.
    #[error("holds no private key in PEM form (a block that begins with -----BEGIN PRIVATE KEY-----)")]
    NoPem,
    /// The block does not decode.
    #[error("is damaged: the text between BEGIN and END is not base64, or END is missing")]
    Damaged,
    /// The old encryption of OpenSSL.
    #[error(
        "is encrypted in OpenSSL's old form, which cannot be read; convert it with \
         `openssl pkcs8 -topk8 -in OLD.pem -out NEW.pem`"
    )]
    OldEncryption,
    /// Encrypted, and there is no pass phrase.
    #[error("is encrypted; set pass_phrase")]
    NeedsPassPhrase,
    /// The pass phrase does not fit.
    #[error("cannot be decrypted; is pass_phrase right?")]
    WrongPassPhrase,
    /// Something else than an RSA key.
    #[error("is not an RSA key in a form that can be read ({0}); OCI takes RSA keys of at least 2048 bits")]
    WrongKind(String),
    /// Too short.
    #[error("is shorter than 2048 bits; make a new one with `openssl genrsa 2048`")]
    TooShort,
    /// The system has no randomness, or the maths failed.
    #[error("cannot be used to sign")]
    CannotSign,
    /// No key could be made.
    #[error("could not be made")]
    CannotMake,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.fingerprint())
    }
}

impl Key {
    /// Reads the first private key of a PEM text. A pass phrase that is not needed is not used.
    pub fn from_pem(text: &str, pass_phrase: Option<&Secret>) -> Result<Key, KeyError> {
        let (label, body) = block(text)?;
        if body.contains("ENCRYPTED") && label == "RSA PRIVATE KEY" {
            return Err(KeyError::OldEncryption);
        }
        let der = decode(body)?;
        let pair = match label {
            "PRIVATE KEY" => KeyPair::from_pkcs8(&der),
            "RSA PRIVATE KEY" => KeyPair::from_der(&der),
            "ENCRYPTED PRIVATE KEY" => {
                let pass_phrase = pass_phrase.filter(|phrase| !phrase.is_empty()).ok_or(KeyError::NeedsPassPhrase)?;
                let sealed = pkcs8::EncryptedPrivateKeyInfoRef::try_from(der.as_slice());
                let sealed = sealed.map_err(|_| KeyError::Damaged)?;
                let open = sealed.decrypt(pass_phrase.expose()).map_err(|_| KeyError::WrongPassPhrase)?;
                KeyPair::from_pkcs8(open.as_bytes())
            }
            other => return Err(KeyError::WrongKind(other.chars().take(40).collect())),
        };
        pair.map(Key::of).map_err(|rejected| match rejected.to_string().as_str() {
            "TooSmall" => KeyError::TooShort,
            why => KeyError::WrongKind(why.to_string()),
        })
    }

    /// A fresh key of 2048 bits, for one token of an instance principal. Takes up to a second.
    pub fn generate() -> Result<Key, KeyError> {
        let made =
            rsa::PrivateKey::new(&mut Randomness(SystemRandom::new()), BITS).map_err(|_| KeyError::CannotMake)?;
        let der = made.to_pkcs1_der().map_err(|_| KeyError::CannotMake)?;
        KeyPair::from_der(der.as_bytes()).map(Key::of).map_err(|_| KeyError::CannotMake)
    }

    fn of(pair: KeyPair) -> Key {
        Key { pair: Arc::new(pair) }
    }

    /// RSASSA-PKCS1-v1_5 with SHA-256 over `message`, in base64.
    pub fn sign(&self, message: &[u8]) -> Result<String, KeyError> {
        let mut signature = vec![0; self.pair.public().modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
            .map_err(|_| KeyError::CannotSign)?;
        Ok(STANDARD.encode(signature))
    }

    /// The public key as DER `SubjectPublicKeyInfo`.
    pub fn public_der(&self) -> Vec<u8> {
        let mut bits = vec![0];
        bits.extend_from_slice(self.pair.public().as_ref());
        let mut inner = RSA_ENCRYPTION.to_vec();
        inner.extend(element(0x03, &bits));
        element(0x30, &inner)
    }

    /// Lower-case hex MD5 of the public key, bytes joined by `:`, as the console shows it.
    pub fn fingerprint(&self) -> String {
        let bytes: Vec<String> = Md5::digest(self.public_der()).iter().map(|byte| format!("{byte:02x}")).collect();
        bytes.join(":")
    }
}

/// Label and body of the first block that is a private key, or else of the first block.
fn block(text: &str) -> Result<(&str, &str), KeyError> {
    const BEGIN: &str = "-----BEGIN ";
    let mut first = None;
    for (at, _) in text.match_indices(BEGIN) {
        let Some((label, rest)) = text.get(at + BEGIN.len()..).and_then(|rest| rest.split_once("-----")) else {
            continue;
        };
        let body = rest.split_once(&format!("-----END {label}-----")).map(|(body, _)| body);
        let found = body.map(|body| (label, body)).ok_or(KeyError::Damaged);
        if label.ends_with("PRIVATE KEY") {
            return found;
        }
        first = first.or(Some(found));
    }
    first.unwrap_or(Err(KeyError::NoPem))
}

fn decode(body: &str) -> Result<Vec<u8>, KeyError> {
    let packed: String = body.chars().filter(|c| !c.is_whitespace()).collect();
    STANDARD.decode(packed).map_err(|_| KeyError::Damaged)
}

/// One DER element; the content is shorter than 64 KiB.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = (content.len() as u16).to_be_bytes();
    let mut out = match content.len() {
        0..=127 => vec![tag, low],
        128..=255 => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    out.extend_from_slice(content);
    out
}

/// The system's randomness in the form that `rsa` takes.
struct Randomness(SystemRandom);

/// The system gave no randomness.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no randomness")]
struct NoRandomness;

impl TryRng for Randomness {
    type Error = NoRandomness;

    fn try_next_u32(&mut self) -> Result<u32, NoRandomness> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes).map(|()| u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, NoRandomness> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes).map(|()| u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
        self.0.fill(bytes).map_err(|_| NoRandomness)
    }
}

impl TryCryptoRng for Randomness {}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors() -> serde_json::Value {
        serde_json::from_str(include_str!("../../../tests/it/fixtures/oci-signing.json")).unwrap()
    }

    #[test]
    fn every_form_of_a_key_file_gives_the_same_key() {
        let vectors = vectors();
        let text = |name: &str| vectors[name].as_str().unwrap().to_string();
        let phrase = Secret::new(text("pass_phrase"));
        for name in [
            "private_key_pem_pkcs8",
            "private_key_pem_pkcs1",
            "private_key_pem_pkcs8_encrypted",
            "private_key_pem_with_console_label",
        ] {
            let key = Key::from_pem(&text(name), Some(&phrase)).unwrap();
            assert_eq!(key.fingerprint(), text("fingerprint"), "{name}");
            assert_eq!(STANDARD.encode(key.public_der()), text("public_key_spki_der_base64"), "{name}");
            let dressed = format!("a line before\r\n{}\r\n\r\n", text(name).replace('\n', "\r\n"));
            assert_eq!(Key::from_pem(&dressed, Some(&phrase)).unwrap().fingerprint(), text("fingerprint"), "{name}");
        }
    }

    #[test]
    fn what_is_no_key_says_what_to_do() {
        let vectors = vectors();
        let text = |name: &str| vectors[name].as_str().unwrap().to_string();
        let error = |text: &str, phrase: Option<&str>| {
            let phrase = phrase.map(Secret::new);
            Key::from_pem(text, phrase.as_ref()).unwrap_err()
        };
        let old = error(&text("private_key_pem_pkcs1_encrypted"), Some("throwaway-pass"));
        assert_eq!(old, KeyError::OldEncryption);
        assert!(old.to_string().contains("openssl pkcs8 -topk8"), "{old}");
        let sealed = text("private_key_pem_pkcs8_encrypted");
        assert_eq!(error(&sealed, None), KeyError::NeedsPassPhrase);
        assert_eq!(error(&sealed, Some("  ")), KeyError::NeedsPassPhrase);
        assert_eq!(error(&sealed, Some("wrong")), KeyError::WrongPassPhrase);
        assert_eq!(error("", None), KeyError::NoPem);
        assert_eq!(error("-----BEGIN PRIVATE KEY-----\nMIIE", None), KeyError::Damaged);
        assert_eq!(error("-----BEGIN PRIVATE KEY-----\n!!\n-----END PRIVATE KEY-----", None), KeyError::Damaged);
        let certificate = error(&text("leaf_certificate_pem"), None);
        assert_eq!(certificate, KeyError::WrongKind("CERTIFICATE".to_string()));
        let plain = text("private_key_pem_pkcs8");
        let cut = format!("{}\n-----END PRIVATE KEY-----", plain.get(..plain.len() / 2 / 65 * 65).unwrap());
        assert!(Key::from_pem(&cut, None).is_err());
    }

    #[test]
    fn a_key_made_here_signs_and_never_shows() {
        let key = Key::generate().unwrap();
        let signature = STANDARD.decode(key.sign(b"x").unwrap()).unwrap();
        let public = ring::signature::UnparsedPublicKey::new(
            &ring::signature::RSA_PKCS1_2048_8192_SHA256,
            key.pair.public().as_ref(),
        );
        assert!(public.verify(b"x", &signature).is_ok() && public.verify(b"y", &signature).is_err());
        assert_eq!(format!("{key:?}"), format!("Key({})", key.fingerprint()));
    }
}
