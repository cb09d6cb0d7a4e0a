//! Request signing of OCI: draft-cavage-http-signatures-08 with RSA and SHA-256.
//!
//! One [`Request`] says what is to be sent; [`Request::sign`] gives every header that must go with
//! it, `host` and `content-length` included, because what is signed must be what is on the wire.
//! Knows nothing of HTTP clients, clocks or files. Byte-exact against the vectors of Oracle's SDK.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};

use super::key::{Key, KeyError};

/// The name under which the first line of the request is signed.
const TARGET: &str = "(request-target)";

/// A request before it is signed. It must be sent exactly as it stands here.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The verb, upper case.
    pub method: &'a str,
    /// The whole URL, encoded as it will be sent.
    pub url: &'a str,
    /// The exact bytes of the body; empty for none.
    pub body: &'a [u8],
    /// Now, in the form of RFC 7231: `Thu, 05 Jan 2023 21:31:40 GMT`.
    pub date: &'a str,
    /// Whether `host` is among the signed headers: always but for token requests of principals.
    pub sign_host: bool,
}

impl Request<'_> {
    /// Name and value of everything that is signed, in the order of the SDK.
    pub fn signed(&self) -> Vec<(&'static str, String)> {
        let (host, path) = split(self.url);
        let mut signed = vec![("date", self.date.to_string())];
        signed.push((TARGET, format!("{} {path}", self.method.to_ascii_lowercase())));
        if self.sign_host {
            signed.push(("host", host.to_string()));
        }
        if matches!(self.method, "POST" | "PUT" | "PATCH") {
            signed.push(("content-length", self.body.len().to_string()));
            signed.push(("content-type", "application/json".to_string()));
            signed.push(("x-content-sha256", STANDARD.encode(digest(&SHA256, self.body))));
        }
        signed
    }

    /// The text that the signature is over.
    pub fn signing_string(&self) -> String {
        let lines: Vec<String> = self.signed().iter().map(|(name, value)| format!("{name}: {value}")).collect();
        lines.join("\n")
    }

    /// Every header to send: what is signed, `host`, and `authorization`. `key_id` names the key.
    pub fn sign(&self, key: &Key, key_id: &str) -> Result<Vec<(&'static str, String)>, KeyError> {
        let signature = key.sign(self.signing_string().as_bytes())?;
        let mut headers = self.signed();
        let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
        let authorization = format!(
            "Signature version=\"1\",keyId=\"{key_id}\",algorithm=\"rsa-sha256\",headers=\"{}\",signature=\"{signature}\"",
            names.join(" ")
        );
        headers.retain(|(name, _)| *name != TARGET);
        if !self.sign_host {
            headers.push(("host", split(self.url).0.to_string()));
        }
        headers.push(("authorization", authorization));
        Ok(headers)
    }
}

/// Host with port, and path with query, of an `http` or `https` URL.
pub fn split(url: &str) -> (&str, &str) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    match rest.find('/').and_then(|at| rest.split_at_checked(at)) {
        Some((host, path)) => (host, path),
        None => (rest, "/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vector_of_the_sdk_is_met_byte_by_byte() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/it/fixtures/oci-signing.json")).unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 10);
        for case in cases {
            let (name, input, expected) = (&case["name"], &case["input"], &case["expected"]);
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_string();
            let key = Key::from_pem(&text(&vectors[text(&input["private_key"])]), None).unwrap();
            let (method, url, date) = (text(&input["method"]), text(&input["url"]), text(&input["date"]));
            let body = input["body"].as_str().unwrap_or_default();
            let names: Vec<String> = expected["signed_headers_in_order"].as_array().unwrap().iter().map(text).collect();
            let request = Request {
                method: &method,
                url: &url,
                body: body.as_bytes(),
                date: &date,
                sign_host: names.iter().any(|name| name == "host"),
            };
            assert_eq!(request.signing_string(), text(&expected["signing_string"]), "{name}");
            let signed = request.signed();
            assert_eq!(signed.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names, "{name}");
            for (header, value) in expected["header_values"].as_object().unwrap() {
                assert!(signed.iter().any(|(n, v)| n == header && *v == text(value)), "{name} {header}");
            }
            let headers = request.sign(&key, &text(&input["key_id"])).unwrap();
            let (_, sent) = headers.iter().find(|(name, _)| *name == "authorization").unwrap();
            let parts = |text: &str| {
                let mut parts: Vec<String> = text
                    .strip_prefix("Signature ")
                    .unwrap()
                    .split("\",")
                    .map(|p| p.trim_end_matches('"').into())
                    .collect();
                parts.sort();
                parts
            };
            assert_eq!(parts(sent), parts(&text(&expected["authorization"])), "{name}");
        }
    }

    #[test]
    fn host_and_path_are_taken_as_they_will_be_sent() {
        for (url, host, path) in [
            ("https://h/a?b=c%2F", "h", "/a?b=c%2F"),
            ("http://127.0.0.1:80/x", "127.0.0.1:80", "/x"),
            ("http://[::1]:8/x/y", "[::1]:8", "/x/y"),
            ("https://h", "h", "/"),
        ] {
            assert_eq!(split(url), (host, path), "{url}");
        }
    }
}
