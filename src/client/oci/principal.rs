//! Instance principals: signing as the OCI instance that we run on, without a key file.
//!
//! The metadata service gives a certificate and its key; with a fresh session key they are traded for
//! a token at the federation endpoint. The token is kept and replaced before it ends; while it lasts,
//! a failed renewal harms nobody. Only here link-local addresses may be asked. Keys and tokens
//! never show.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use ureq::http::Request as HttpRequest;

use super::error::{Cause, OciError, Refused, request_id};
use super::key::Key;
use super::realm::Region;
use super::sign::Request;
use crate::client::http::{Http, HttpError, Options};
use crate::client::proxy::Proxies;
use crate::client::trust::Trust;
use crate::clock::Clock;
use crate::config::value::Secret;
use crate::core::time::Wall;

/// The metadata service of every instance.
pub const METADATA: &str = "http://169.254.169.254/opc/v2";
/// A token is replaced this long before it ends, or after half its life when that is sooner.
const MARGIN: Duration = Duration::from_mins(5);
/// How long a token is used that does not say when it ends.
const UNDATED: Duration = Duration::from_mins(10);
/// Limit of one question to the metadata service, which is on the same machine.
const METADATA_LIMIT: Duration = Duration::from_secs(3);
/// What we are doing when something here fails.
const OPERATION: &str = "get a token for this instance from";

/// How to reach the two services.
#[derive(Debug, Clone, Default)]
pub struct Where {
    /// The metadata service, up to and with `/opc/v2`; `None` for [`METADATA`].
    pub metadata: Option<String>,
    /// The federation endpoint (`https://auth.<region>.<domain>`); `None` for that of the region.
    pub federation: Option<String>,
    /// Who may sign the certificate of the federation endpoint; `None`: the bundled authorities.
    pub trust: Option<Arc<Trust>>,
    /// Through which proxy the federation endpoint is asked.
    pub proxies: Arc<Proxies>,
}

/// The identity of the instance we run on.
pub struct Principal {
    metadata: Http,
    federation: Http,
    base: String,
    endpoint: Option<String>,
    clock: Clock,
    session: Mutex<Option<Session>>,
}

/// A token, the key that goes with it, and where they are good.
#[derive(Debug, Clone)]
pub struct Session {
    /// Signs.
    pub key: Key,
    /// The token; `keyId` is `ST$` and this.
    pub token: Secret,
    /// The region of the instance.
    pub region: Region,
    /// From then on it should be replaced.
    renew: Wall,
    /// From then on it is worth nothing.
    ends: Wall,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RegionInfo {
    region_identifier: String,
    #[serde(default)]
    realm_domain_component: String,
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

#[derive(Deserialize)]
struct Claims {
    exp: i64,
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Principal {
    /// Asks nobody yet. `timeout` limits the question to the federation endpoint.
    pub fn new(place: Where, clock: Clock, timeout: Duration) -> Principal {
        let small = Options { timeout, body_limit: 64 * 1024, ..Options::default() };
        // What the machine says of itself comes from the machine itself, never through a proxy.
        let local = Options { timeout: timeout.min(METADATA_LIMIT), allow_link_local: true, ..small.clone() };
        let trust = place.trust.unwrap_or_else(Trust::bundled);
        let small = Options { trust, proxies: place.proxies, ..small };
        let base = place.metadata.filter(|base| !base.is_empty()).unwrap_or_else(|| METADATA.to_string());
        Principal {
            metadata: Http::new(local),
            federation: Http::new(small),
            base: base.trim_end_matches('/').to_string(),
            endpoint: place.federation.map(|endpoint| endpoint.trim_end_matches('/').to_string()),
            clock,
            session: Mutex::new(None),
        }
    }

    /// The present token, or a new one when it ends soon or is the one that was `refused`.
    pub fn session(&self, refused: Option<&Secret>) -> Result<Session, OciError> {
        let mut kept = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now().wall;
        let present = kept.as_ref().filter(|session| refused != Some(&session.token));
        if let Some(session) = present.filter(|session| now < session.renew) {
            return Ok(session.clone());
        }
        let last = present.filter(|session| now < session.ends).cloned();
        match (self.fetch(), last) {
            (Ok(session), _) => Ok(kept.insert(session).clone()),
            (Err(error), Some(session)) => {
                tracing::warn!("{error}; the present token is still good");
                Ok(session)
            }
            (Err(error), None) => Err(error),
        }
    }

    fn fetch(&self) -> Result<Session, OciError> {
        let region = self.region()?;
        let certificate = self.ask("/identity/cert.pem")?;
        let leaf = self.ask("/identity/key.pem")?;
        let leaf = Key::from_pem(&leaf, None).map_err(|why| OciError::new(OPERATION, "/identity/key.pem", why))?;
        let intermediate = self.ask("/identity/intermediate.pem")?;
        let key = Key::generate().map_err(|why| OciError::new(OPERATION, "a new key", why))?;

        let wrong = |what| OciError::new(OPERATION, "/identity/cert.pem", Cause::Argument(what));
        let blocks = bodies(&certificate);
        let body = blocks.first().ok_or_else(|| wrong("it is not a certificate in PEM form"))?;
        let der = STANDARD.decode(body).map_err(|_| wrong("it is not a certificate in PEM form"))?;
        let tenancy = tenancy(&der).ok_or_else(|| wrong("the certificate names no tenancy"))?;
        let key_id = format!("{tenancy}/fed-x509-sha256/{}", certificate_fingerprint(&der));
        let json = serde_json::json!({
            "certificate": body,
            "publicKey": STANDARD.encode(key.public_der()),
            "intermediateCertificates": bodies(&intermediate),
            "fingerprintAlgorithm": "SHA256",
        });
        let token = self.trade(&region, &leaf, &key_id, &json.to_string())?;
        Ok(self.dated(key, token, region))
    }

    /// Key and token with the times that the token's own `exp` gives.
    fn dated(&self, key: Key, token: Secret, region: Region) -> Session {
        let now = self.clock.now().wall;
        let undated = Wall(now.0.saturating_add(i64::try_from(UNDATED.as_millis()).unwrap_or(i64::MAX)));
        let ends = expiry(token.expose()).unwrap_or(undated);
        let left = ends.since(now);
        Session { key, token, region, renew: ends.minus(MARGIN.min(left / 2)), ends }
    }

    fn ask(&self, path: &str) -> Result<String, OciError> {
        let failed = |cause: Cause| OciError::new(OPERATION, path, cause);
        let url = format!("{}{path}", self.base);
        let answer = self.metadata.get(&url, &[("authorization", "Bearer Oracle")]).map_err(|e| failed(e.into()))?;
        if answer.status != 200 {
            let refused = Refused::of(&answer, self.clock.now().wall, None);
            return Err(failed(Cause::Refused(Box::new(refused))));
        }
        String::from_utf8(answer.body).map_err(|_| failed(Cause::Argument("the answer is not text")))
    }

    fn region(&self) -> Result<Region, OciError> {
        let whole = self.ask("/instance/regionInfo").ok();
        if let Some(told) = whole.and_then(|text| serde_json::from_str::<RegionInfo>(&text).ok()) {
            let name = match told.realm_domain_component.as_str() {
                "" => told.region_identifier,
                domain => format!("{}.{domain}", told.region_identifier),
            };
            if let Some(region) = Region::parse(&name, None) {
                return Ok(region);
            }
        }
        let path = "/instance/region";
        let text = self.ask(path)?;
        Region::parse(&text, None)
            .ok_or_else(|| OciError::new(OPERATION, path, Cause::Argument("the answer is not a region")))
    }

    /// The certificate for a token.
    fn trade(&self, region: &Region, leaf: &Key, key_id: &str, json: &str) -> Result<Secret, OciError> {
        let base = self.endpoint.clone().unwrap_or_else(|| region.service("auth"));
        let failed = |cause: Cause| OciError::new(OPERATION, "the federation endpoint", cause);
        let url = format!("{base}/v1/x509");
        let date = self.clock.now().wall.http_date();
        let request = Request { method: "POST", url: &url, body: json.as_bytes(), date: &date, sign_host: false };
        let headers = request.sign(leaf, key_id).map_err(|e| failed(e.into()))?;
        let mut built = HttpRequest::post(&url);
        for (name, value) in headers {
            built = built.header(name, value);
        }
        let built = built.body(json.as_bytes()).map_err(|_| failed(HttpError::BadUrl.into()))?;
        let answer = self.federation.send(built).map_err(|e| failed(e.into()))?;
        if answer.status != 200 {
            let refused = Refused::of(&answer, self.clock.now().wall, None);
            return Err(failed(Cause::Refused(Box::new(refused))));
        }
        let unreadable = || failed(Cause::Unreadable { status: answer.status, request_id: request_id(&answer) });
        let token: Token = serde_json::from_slice(&answer.body).map_err(|_| unreadable())?;
        let fits = !token.token.is_empty() && token.token.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
        fits.then(|| Secret::new(token.token)).ok_or_else(unreadable)
    }
}

/// The base64 of each block of a PEM text, without line ends.
fn bodies(pem: &str) -> Vec<String> {
    let blocks = pem.split("-----BEGIN ").skip(1);
    let inner = blocks.filter_map(|block| block.split_once("-----")?.1.split_once("-----END ").map(|(body, _)| body));
    inner.map(|body| body.split_whitespace().collect()).collect()
}

/// The tenancy that the subject of an instance's certificate names.
fn tenancy(der: &[u8]) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let mut values = certificate.subject().iter_attributes().filter_map(|attribute| attribute.as_str().ok());
    let tenancy = values.find_map(|value| {
        value.strip_prefix("opc-tenant:").or_else(|| value.strip_prefix("opc-identity:")).map(str::to_string)
    })?;
    super::realm::ocid(&tenancy).is_some().then_some(tenancy)
}

/// Upper-case hex SHA-256 of a certificate, bytes joined by `:`.
fn certificate_fingerprint(der: &[u8]) -> String {
    let bytes: Vec<String> = digest(&SHA256, der).as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    bytes.join(":")
}

/// When a JWT ends.
fn expiry(token: &str) -> Option<Wall> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?.trim_end_matches('=')).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    Some(Wall(claims.exp.saturating_mul(1000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_gives_tenancy_and_fingerprint() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/it/fixtures/oci-signing.json")).unwrap();
        let pem = vectors["leaf_certificate_pem"].as_str().unwrap();
        let der = STANDARD.decode(&bodies(pem)[0]).unwrap();
        assert_eq!(tenancy(&der).as_deref(), vectors["tenancy"].as_str());
        assert_eq!(certificate_fingerprint(&der), vectors["leaf_certificate_sha256"].as_str().unwrap());
        assert_eq!(bodies(&format!("{pem}{pem}")).len(), 2);
        assert_eq!((tenancy(b"x"), bodies("x").len()), (None, 0));
    }

    #[test]
    fn a_token_says_when_it_ends_or_nothing() {
        assert_eq!(expiry("eyJhbGciOiJub25lIn0.eyJleHAiOjE2NzI5NTc5MDB9.c2ln"), Some(Wall(1_672_957_900_000)));
        for text in ["", "a.b.c", "a.e30.c", "no dots"] {
            assert_eq!(expiry(text), None, "{text}");
        }
    }
}
