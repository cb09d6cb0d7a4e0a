//! Whether a request is signed as the reference says. Written from the reference, not from the client.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use watchdog::client::oci::key::Key;

use super::super::listener::Request;
use super::vector;

/// Bytes before the RSA public key in a `SubjectPublicKeyInfo` of 2048 bits.
const SPKI_HEAD: usize = 24;

/// What is wrong.
#[derive(Debug, PartialEq)]
pub enum Wrong {
    /// A client must never do this.
    Violation(String),
    /// The clock of the client is off by more than five minutes, or its token is no longer good.
    NotLetIn,
}

/// Which key must have signed.
pub enum Signer<'a> {
    /// The API key, or a token that was handed out with a public key.
    Caller(&'a BTreeMap<String, Vec<u8>>),
    /// The key of the instance's certificate.
    Leaf,
}

/// Checks everything about the signature.
pub fn verify(asked: &Request, signer: &Signer) -> Result<(), Wrong> {
    let violation = |what: String| Err(Wrong::Violation(format!("{} {}: {what}", asked.verb, asked.path)));
    let parameters = parameters(asked.header("authorization"));
    let parameter = |name: &str| parameters.get(name).map(String::as_str).unwrap_or_default();
    if parameter("version") != "1" || parameter("algorithm") != "rsa-sha256" {
        return violation(format!("authorization {parameters:?}"));
    }
    let body = matches!(asked.verb.as_str(), "POST" | "PUT" | "PATCH");
    let mut expected = vec!["date", "(request-target)"];
    if matches!(signer, Signer::Caller(_)) {
        expected.push("host");
    }
    if body {
        expected.extend(["content-length", "content-type", "x-content-sha256"]);
    }
    let mut names: Vec<&str> = parameter("headers").split(' ').collect();
    let lines: Vec<String> = names
        .iter()
        .map(|name| match *name {
            "(request-target)" => format!("{name}: {} {}", asked.verb.to_lowercase(), asked.path),
            name => format!("{name}: {}", asked.header(name)),
        })
        .collect();
    names.sort_unstable();
    expected.sort_unstable();
    if names != expected {
        return violation(format!("signs {names:?} instead of {expected:?}"));
    }
    if let Some(missing) = expected.iter().find(|name| **name != "(request-target)" && asked.header(name).is_empty()) {
        return violation(format!("signs {missing}, which is not there"));
    }
    if body && asked.header("content-length") != asked.body.len().to_string() {
        return violation(format!("content-length {}", asked.header("content-length")));
    }
    if body && asked.header("x-content-sha256") != STANDARD.encode(digest(&SHA256, &asked.body)) {
        return violation("x-content-sha256 is not that of the body".to_string());
    }
    let public = key(parameter("keyId"), signer)?;
    let signature = STANDARD.decode(parameter("signature")).unwrap_or_default();
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public.get(SPKI_HEAD..).unwrap_or_default());
    if key.verify(lines.join("\n").as_bytes(), &signature).is_err() {
        return violation(format!("the signature does not fit {lines:#?}"));
    }
    let Ok(date) = httpdate::parse_http_date(asked.header("date")) else {
        return violation(format!("date {}", asked.header("date")));
    };
    let now = SystemTime::now();
    let off = now.duration_since(date).unwrap_or_else(|early| early.duration());
    if off > Duration::from_mins(5) { Err(Wrong::NotLetIn) } else { Ok(()) }
}

fn key(id: &str, signer: &Signer) -> Result<Vec<u8>, Wrong> {
    let stranger = || Err(Wrong::Violation(format!("keyId {id}")));
    match signer {
        Signer::Caller(tokens) => match id.strip_prefix("ST$") {
            Some(token) => tokens.get(token).cloned().ok_or(Wrong::NotLetIn),
            None if id == format!("{}/{}/{}", vector("tenancy"), vector("user"), vector("fingerprint")) => {
                Ok(STANDARD.decode(vector("public_key_spki_der_base64")).unwrap())
            }
            None => stranger(),
        },
        Signer::Leaf => {
            let expected = format!("{}/fed-x509-sha256/{}", vector("tenancy"), vector("leaf_certificate_sha256"));
            if id != expected {
                return stranger();
            }
            Ok(Key::from_pem(&vector("leaf_private_key_pem_pkcs8"), None).unwrap().public_der())
        }
    }
}

fn parameters(authorization: &str) -> BTreeMap<String, String> {
    let Some(rest) = authorization.strip_prefix("Signature ") else { return BTreeMap::new() };
    let pairs = rest.split("\",").filter_map(|part| part.split_once("=\""));
    pairs.map(|(name, value)| (name.to_string(), value.trim_end_matches('"').to_string())).collect()
}
