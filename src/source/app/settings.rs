//! The settings of the application source, and what they come to.
//!
//! Owns the section `app` with its `[[app.rule]]` tables and turns them into a [`Target`]: an
//! address that can be asked and headers that can be sent. Reports every problem by the key it stands
//! in. Never reads the network, never puts a secret or the whole URL into words.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ureq::http::{HeaderName, HeaderValue, Uri};

use crate::client::trust::{Keys, Terms, Trust, Wrong};
use crate::config::schema::{Kind, Setting};
use crate::config::value::{Secret, Span};
use crate::config::{Config, ConfigError, Problem, form, headers};
use crate::core::signal::Severity;

/// The section's name.
pub const PATH: &str = "app";

crate::settings! {
    /// The observed application: fetched every tick, as a JSON envelope or as Prometheus text.
    pub struct Settings {
        /// http or https URL of the application's metrics. Not set: the application is not observed.
        metrics_url: Option<String> = None,
        /// Fetches in a row that must fail before app/down fires, at least 1.
        down_after: u32 = 3,
        /// What the answer is: auto finds it by Content-Type and content; json and prometheus insist.
        format: Format = Format::Auto,
        /// Fetches in a row in which the envelope's generated_at has not moved before its values count
        /// as stale (unknown), at least 1. Raise it when the application writes less often than the tick.
        stale_after: u32 = 3,
        /// Limit of one fetch, from the lookup of the name to the last byte. Default: the top-level timeout.
        timeout: Option<Span> = None,
        /// Headers sent with every fetch, for example { X-Tenant = "a" }. A secret belongs in a file, which is named by
        /// the header's name with _file behind it: { X-Api-Key_file = "/run/secrets/key" }.
        headers: BTreeMap<String, String> = BTreeMap::new(),
        /// The Authorization header, for example "Bearer abc".
        authorization: Option<Secret> = None,
        /// File that holds authorization.
        authorization_file: Option<PathBuf> = None,
        /// https: PEM file with the only authorities that may sign the application's certificate, or with that
        /// certificate itself. Default: the bundled authorities.
        ca_file: Option<PathBuf> = None,
        /// https: SHA-256 fingerprint of the one certificate that is accepted, in hex. Then nothing else about the
        /// certificate counts.
        tls_fingerprint: Option<String> = None,
        /// HTTP proxy to fetch through: http://host:port, or none. Default: HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
        proxy: Option<Secret> = None,
        /// File that holds proxy.
        proxy_file: Option<PathBuf> = None,
        /// May fetch from link-local and cloud metadata addresses.
        allow_link_local: bool = false,
        /// What the application's values must not do; one table per signal app/<name>.
        rule: Vec<RuleSettings> = Vec::new(),
    }
}

crate::settings! {
    /// One rule on what the application reports: the signal app/<name>, with `each` app/<name>/<id>.
    pub struct RuleSettings {
        /// The signal's name: letters, digits, dot, hyphen and underscore, at most 64.
        name: String = String::new(),
        /// What is judged: a JSON pointer (/queue/counts/failed), or a metric with label matchers
        /// (http_requests_total{code="500"}; = and !=). Of several matching series the highest is held
        /// against >, the lowest against <, and their sum against increases and stalls.
        value: String = String::new(),
        /// JSON pointer to a list of objects; value and id are then relative to each of them. At most 1000.
        each: Option<String> = None,
        /// The field that names one object of each: a text or a whole number.
        id: Option<String> = None,
        /// When it is a problem: "> 5", ">= 5", "< 1", "<= 1", "increases" (each rise is told), "stalls"
        /// (does not move for the time in `for`), "absent".
        when: String = String::new(),
        /// How long it must have been so; required with "stalls". Default: no time.
        r#for: Option<Span> = None,
        /// How much it matters: critical, warning or info.
        severity: Severity = Severity::Critical,
        /// What whoever is woken by it should know, in one line: it stands in each message about it.
        note: String = String::new(),
        /// Where the instructions for it are: an http or https URL, which stands in each message about it.
        runbook: String = String::new(),
        /// Least time between two reminders of it; 0 = never again. Default: the cooldown of its severity.
        cooldown: Option<Span> = None,
        /// Hysteresis: once it fires on a threshold, it is good again only at this value.
        clear: Option<f64> = None,
        /// Failed checks in a row before the alert, at least 1. The default is 1: use `for` to wait longer.
        fail_after: u32 = 1,
        /// Passed checks in a row before the recovery, at least 1.
        recover_after: u32 = 2,
        /// What a metric that is not a number (NaN) means: ignore (nothing was measured, so nothing changes),
        /// unknown, or fire (it is trouble; with thresholds only). Default: ignore for the quantiles of a
        /// summary, which are NaN while nobody asks for anything; unknown for everything else.
        nan: Option<Nan> = None,
    }
}

/// What a metric that is not a number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Nan {
    /// Nothing was measured: how it stands stays.
    Ignore,
    /// It cannot be told.
    Unknown,
    /// It is as bad as a number can be.
    Fire,
}

impl Setting for Nan {
    const KIND: Kind = Kind::Choice(&["ignore", "unknown", "fire"]);
}

/// Whom the application must be, by its certificate.
pub fn trust(config: &Config, settings: &Settings) -> Result<Arc<Trust>, ConfigError> {
    const KEYS: Keys = Keys { ca: "app.ca_file", pin: "app.tls_fingerprint" };
    let ca = settings.ca_file.as_deref().filter(|path| !path.as_os_str().is_empty());
    let fingerprint = settings.tls_fingerprint.as_deref().filter(|text| !text.trim().is_empty());
    if ca.is_none() && fingerprint.is_none() {
        return Ok(Trust::with_keys(KEYS));
    }
    let made = Trust::new(&Terms { ca, fingerprint, identity: None, keys: KEYS });
    made.map(Arc::new).map_err(|wrong| {
        let key = if matches!(wrong, Wrong::Ca(_)) { KEYS.ca } else { KEYS.pin };
        config.error(key, wrong.what())
    })
}

/// What the application's answer is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Found by Content-Type and content.
    #[default]
    Auto,
    /// A JSON envelope.
    Json,
    /// Prometheus text or OpenMetrics.
    Prometheus,
}

impl Setting for Format {
    const KIND: Kind = Kind::Choice(&["auto", "json", "prometheus"]);
}

/// Where the application is asked, and how. Holds secrets; has no `Debug`.
pub struct Target {
    /// The URL as written.
    pub url: String,
    /// Host and port, for people.
    pub shown: String,
    /// The host alone.
    pub host: String,
    /// The port that is asked.
    pub port: u16,
    /// Every header of the request.
    pub headers: Vec<(String, String)>,
    /// Limit of one fetch.
    pub timeout: Duration,
}

/// Collects problems, each with its key and place.
pub struct Problems<'a> {
    config: &'a Config,
    found: Vec<Problem>,
}

impl<'a> Problems<'a> {
    /// None so far.
    pub fn new(config: &'a Config) -> Self {
        Problems { config, found: Vec::new() }
    }

    /// Notes that the value of `app.<field>` is wrong.
    pub fn refuse(&mut self, field: &str, what: impl Into<String>) {
        self.found.extend(self.config.error(&format!("{PATH}.{field}"), what).problems);
    }

    /// `value`, unless something is wrong.
    pub fn unless_any<T>(self, value: T) -> Result<T, ConfigError> {
        if self.found.is_empty() { Ok(value) } else { Err(ConfigError { problems: self.found }) }
    }
}

/// Checks everything but the rules. `accept` is sent as `Accept` unless `headers` has its own.
pub fn target(
    settings: &Settings,
    url: &str,
    accept: &str,
    default_timeout: Duration,
    problems: &mut Problems<'_>,
) -> Target {
    if settings.down_after == 0 {
        problems.refuse("down_after", "must be at least 1");
    }
    if settings.stale_after == 0 {
        problems.refuse("stale_after", "must be at least 1");
    }
    let timeout = settings.timeout.map_or(default_timeout, |span| span.0);
    if timeout < Duration::from_millis(10) || timeout > Duration::from_mins(5) {
        problems.refuse("timeout", "must be between 10ms and 5m");
    }
    let shown = address(url).unwrap_or_else(|what| {
        problems.refuse("metrics_url", what);
        String::new()
    });
    let read = headers::read(&settings.headers).unwrap_or_else(|wrong| {
        wrong.into_iter().for_each(|one| problems.refuse(&format!("headers.{}", one.key), one.what));
        Vec::new()
    });
    let mut sent: Vec<(String, String)> = Vec::new();
    for (name, value) in read {
        if HeaderName::from_bytes(name.as_bytes()).is_err() || HeaderValue::from_str(value.expose()).is_err() {
            problems.refuse(&format!("headers.{name}"), "is not a header that HTTP can carry");
        }
        sent.push((name, value.expose().to_string()));
    }
    let names: Vec<String> = sent.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    let given = |wanted: &str| names.iter().any(|name| name == wanted);
    match problems.config.secret(
        "app.authorization",
        settings.authorization.as_ref(),
        settings.authorization_file.as_deref(),
    ) {
        Err(error) => problems.found.extend(error.problems),
        Ok(Some(_)) if given("authorization") => {
            problems.refuse("authorization", "stands in `app.headers` as well; keep one");
        }
        Ok(Some(secret)) if HeaderValue::from_str(secret.expose()).is_err() => {
            problems.refuse("authorization", "holds a character that HTTP cannot carry");
        }
        Ok(Some(secret)) => sent.push(("Authorization".to_string(), secret.expose().to_string())),
        Ok(None) => {}
    }
    if !given("accept") {
        sent.push(("Accept".to_string(), accept.to_string()));
    }
    let uri: Option<Uri> = url.parse().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default().to_string();
    let usual = if uri.as_ref().and_then(Uri::scheme_str) == Some("https") { 443 } else { 80 };
    let port = uri.as_ref().and_then(Uri::port_u16).unwrap_or(usual);
    Target { url: url.to_string(), shown, host, port, headers: sent, timeout }
}

/// Host and port of a URL that can be asked.
pub fn address(url: &str) -> Result<String, String> {
    form::url(url).map_err(|what| {
        let more = if url.contains('@') { "; send them by app.authorization (\"Basic …\")" } else { "" };
        format!("{what}{more}")
    })?;
    let uri: Uri = url.parse().map_err(|_| "is not an http or https URL".to_string())?;
    Ok(uri.authority().map(|authority| authority.as_str().to_string()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_that_can_be_asked_passes() {
        assert_eq!(address("http://app:8080/metrics").unwrap(), "app:8080");
        assert_eq!(address("https://[::1]:9/m?x=secret").unwrap(), "[::1]:9");
        for url in
            ["", "app:8080", "/metrics", "ftp://app/x", "http://", "http:///x", "http://u:p@app/x", "http://a b/"]
        {
            assert!(address(url).is_err(), "{url}");
        }
    }
}
