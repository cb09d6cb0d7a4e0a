//! The standard `OTEL_*` variables as a plan: where to send, how, as whom, how much at once.
//!
//! The variable for traces wins over the general one. Empty counts as not set. An unknown choice is
//! warned of and ignored, as the specification wants; any other wrong value is an error that names the
//! variable. The values of headers are secret and in no error; endpoints are shown nowhere either.

use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use super::TraceError;

/// Headers and attributes of the resource at most.
const PAIRS: usize = 64;
/// Headers that are the protocol's own.
const TAKEN: [&str; 9] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "grpc-timeout",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http,
    Grpc,
}

/// All that the variables say.
pub(super) struct Plan {
    pub(super) protocol: Protocol,
    /// HTTP: the whole address. gRPC: scheme, host and port.
    pub(super) url: String,
    /// The variable that `url` is from.
    pub(super) url_from: String,
    /// Marked as sensitive.
    pub(super) headers: HeaderMap,
    /// Limit of one call.
    pub(super) timeout: Duration,
    /// The file of the authorities, and the variable that names it.
    pub(super) ca: Option<(String, PathBuf)>,
    /// What the service is.
    pub(super) resource: Vec<(String, String)>,
    /// Spans queued at most.
    pub(super) queue: usize,
    /// How long the first span of a batch waits for others.
    pub(super) delay: Duration,
    /// Spans in a batch at most.
    pub(super) batch: usize,
}

impl Plan {
    /// `None`: nobody asked for traces, or somebody switched them off.
    pub(super) fn read(environment: &[(String, String)]) -> Result<Option<Plan>, TraceError> {
        let all = Variables(environment);
        if all.is_off() {
            return Ok(None);
        }
        let Some((url_from, endpoint)) = all.either("ENDPOINT") else { return Ok(None) };
        let protocol = all.protocol();
        let url = all.url(&url_from, endpoint, protocol).map_err(|why| wrong(&url_from, why))?;
        all.warn_of_what_is_not_done();
        let headers = match all.either("HEADERS") {
            Some((name, text)) => headers(text).map_err(|why| wrong(&name, why))?,
            None => HeaderMap::new(),
        };
        let timeout = match all.either("TIMEOUT") {
            Some((name, text)) => number(&name, text, 1, 600_000)?,
            None => 10_000,
        };
        let queue = all.number("OTEL_BSP_MAX_QUEUE_SIZE", 2_048, 1, 65_536)?;
        let batch = all.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", queue.min(512), 1, queue)?;
        let delay = all.number("OTEL_BSP_SCHEDULE_DELAY", 5_000, 1, 600_000)?;
        Ok(Some(Plan {
            protocol,
            url,
            url_from,
            headers,
            timeout: Duration::from_millis(timeout),
            ca: all.either("CERTIFICATE").map(|(name, path)| (name, PathBuf::from(path))),
            resource: all.resource()?,
            queue: queue as usize,
            delay: Duration::from_millis(delay),
            batch: batch as usize,
        }))
    }
}

struct Variables<'a>(&'a [(String, String)]);

impl<'a> Variables<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        let (_, value) = self.0.iter().find(|(found, _)| found == name)?;
        Some(value.trim()).filter(|value| !value.is_empty())
    }

    /// The variable for traces, else the one for everything, with its name.
    fn either(&self, end: &str) -> Option<(String, &'a str)> {
        [format!("OTEL_EXPORTER_OTLP_TRACES_{end}"), format!("OTEL_EXPORTER_OTLP_{end}")]
            .into_iter()
            .find_map(|name| self.get(&name).map(|value| (name, value)))
    }

    fn number(&self, name: &str, default: u64, least: u64, most: u64) -> Result<u64, TraceError> {
        self.get(name).map_or(Ok(default), |text| number(name, text, least, most))
    }

    fn truth(&self, name: &str) -> bool {
        match self.get(name) {
            Some(text) if text.eq_ignore_ascii_case("true") => true,
            Some(text) if !text.eq_ignore_ascii_case("false") => {
                tracing::warn!("{name} is neither true nor false and counts as false");
                false
            }
            _ => false,
        }
    }

    fn is_off(&self) -> bool {
        if self.truth("OTEL_SDK_DISABLED") {
            return true;
        }
        let chosen = self.get("OTEL_TRACES_EXPORTER").unwrap_or("otlp");
        match chosen.to_ascii_lowercase().as_str() {
            "none" => true,
            list if list.split(',').any(|one| one.trim() == "otlp") => false,
            _ => {
                tracing::warn!("OTEL_TRACES_EXPORTER names no exporter that is known here (otlp, none); otlp is used");
                false
            }
        }
    }

    fn protocol(&self) -> Protocol {
        match self.either("PROTOCOL") {
            None => Protocol::Http,
            Some((_, text)) if text.eq_ignore_ascii_case("http/protobuf") => Protocol::Http,
            Some((_, text)) if text.eq_ignore_ascii_case("grpc") => Protocol::Grpc,
            Some((name, _)) => {
                tracing::warn!("{name} is neither http/protobuf nor grpc; http/protobuf is used");
                Protocol::Http
            }
        }
    }

    fn warn_of_what_is_not_done(&self) {
        if let Some((name, _)) = self.either("COMPRESSION").filter(|(_, text)| !text.eq_ignore_ascii_case("none")) {
            tracing::warn!("{name}: only none is known here; traces are sent without compression");
        }
        if let Some((name, _)) = self.either("CLIENT_CERTIFICATE").or_else(|| self.either("CLIENT_KEY")) {
            tracing::warn!("{name}: client certificates are not known here; traces are sent without one");
        }
        let sampler = self.get("OTEL_TRACES_SAMPLER").unwrap_or("parentbased_always_on");
        if !["always_on", "parentbased_always_on"].contains(&sampler) {
            tracing::warn!("OTEL_TRACES_SAMPLER: repairs are few; each of them is traced");
        }
    }

    /// The address to send to. No error shows it: it may hold a token.
    fn url(&self, name: &str, endpoint: &str, protocol: Protocol) -> Result<String, String> {
        let mut text = endpoint.to_string();
        if protocol == Protocol::Grpc && !text.contains("://") {
            let plain = self.either("INSECURE").is_some_and(|(name, _)| self.truth(&name));
            text = format!("{}://{text}", if plain { "http" } else { "https" });
        }
        let port = if protocol == Protocol::Grpc { 4317 } else { 4318 };
        let uri: Uri = text.parse().map_err(|_| format!("not a URL; write for example http://localhost:{port}"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
            return Err(format!("not a URL with http:// or https://; write for example http://localhost:{port}"));
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err("holds a user name or a password; send them by OTEL_EXPORTER_OTLP_HEADERS".to_string());
        }
        let is_whole = protocol == Protocol::Grpc || name.contains("_TRACES_");
        if is_whole {
            return Ok(text);
        }
        if uri.query().is_some() {
            return Err(
                "holds a query, after which nothing can be appended; set OTEL_EXPORTER_OTLP_TRACES_ENDPOINT to \
                        the whole address"
                    .to_string(),
            );
        }
        Ok(format!("{}/v1/traces", text.trim_end_matches('/')))
    }

    /// Who we are: the variables' words first, ours for what they leave out.
    fn resource(&self) -> Result<Vec<(String, String)>, TraceError> {
        let name = "OTEL_RESOURCE_ATTRIBUTES";
        let mut found = match self.get(name) {
            Some(text) => pairs(text).map_err(|why| wrong(name, why))?,
            None => Vec::new(),
        };
        if let Some(service) = self.get("OTEL_SERVICE_NAME") {
            found.retain(|(key, _)| key != "service.name");
            found.insert(0, ("service.name".to_string(), service.to_string()));
        }
        let ours = [
            ("service.name", "watchdog"),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("telemetry.sdk.language", "rust"),
            ("telemetry.sdk.name", "watchdog"),
            ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
        ];
        for (key, value) in ours {
            if found.iter().all(|(theirs, _)| theirs != key) {
                found.push((key.to_string(), value.to_string()));
            }
        }
        Ok(found)
    }
}

fn wrong(name: &str, why: impl Into<String>) -> TraceError {
    TraceError::Variable { name: name.to_string(), why: why.into() }
}

fn number(name: &str, text: &str, least: u64, most: u64) -> Result<u64, TraceError> {
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(wrong(name, format!("not a whole number from {least} to {most}"))),
    }
}

/// `k1=v1,k2=v2`, each percent-encoded. No error shows a value.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let decode = |text: &str| percent_decode_str(text.trim()).decode_utf8().map(std::borrow::Cow::into_owned);
    let mut found: Vec<(String, String)> = Vec::new();
    for (at, entry) in text.split(',').enumerate().filter(|(_, entry)| !entry.trim().is_empty()) {
        let number = at + 1;
        let (key, value) = entry.split_once('=').ok_or(format!("entry {number} is not name=value"))?;
        match (decode(key), decode(value)) {
            (Ok(key), Ok(value)) if !key.is_empty() => {
                found.retain(|(before, _)| *before != key);
                found.push((key, value));
            }
            (Ok(_), Ok(_)) => return Err(format!("entry {number} has no name")),
            _ => return Err(format!("entry {number} is not percent-encoded UTF-8")),
        }
        if found.len() > PAIRS {
            return Err(format!("more than {PAIRS} entries"));
        }
    }
    Ok(found)
}

fn headers(text: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (at, (name, value)) in pairs(text)?.into_iter().enumerate() {
        let number = at + 1;
        let name: HeaderName =
            name.parse().map_err(|_| format!("header {number} has a name that HTTP does not allow"))?;
        if TAKEN.contains(&name.as_str()) {
            return Err(format!("header {number} is {name}, which is not for you to set"));
        }
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| format!("header {number} ({name}) has a value that HTTP does not allow"))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GENERAL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const OURS: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";

    fn read(pairs: &[(&str, &str)]) -> Result<Option<Plan>, TraceError> {
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect();
        Plan::read(&pairs)
    }

    fn plan(pairs: &[(&str, &str)]) -> Plan {
        let mut all = vec![(GENERAL, "http://c:4318")];
        all.extend_from_slice(pairs);
        read(&all).unwrap().unwrap()
    }

    fn complaint(pairs: &[(&str, &str)]) -> String {
        let mut all = vec![(GENERAL, "http://c:4318")];
        all.splice(..usize::from(pairs.iter().any(|(k, _)| *k == GENERAL)), []);
        all.extend_from_slice(pairs);
        read(&all).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn there_is_no_plan_unless_an_endpoint_is_set_and_nobody_said_no() {
        assert!(read(&[]).unwrap().is_none());
        assert!(read(&[(GENERAL, ""), (OURS, "  ")]).unwrap().is_none(), "empty is not set");
        assert!(read(&[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://c:4318")]).unwrap().is_none());
        for (name, value, off) in [
            ("OTEL_SDK_DISABLED", "TRUE", true),
            ("OTEL_SDK_DISABLED", "yes", false),
            ("OTEL_TRACES_EXPORTER", "none", true),
            ("OTEL_TRACES_EXPORTER", "otlp,console", false),
            ("OTEL_TRACES_EXPORTER", "zipkin", false),
        ] {
            assert_eq!(read(&[(GENERAL, "http://c:4318"), (name, value)]).unwrap().is_none(), off, "{name}={value}");
        }
        // Nothing is judged that is not used.
        assert!(read(&[("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")]).unwrap().is_none());
    }

    #[test]
    fn only_the_general_endpoint_gets_a_path() {
        for (given, used) in [
            ("http://c:4318", "http://c:4318/v1/traces"),
            ("http://c:4318/", "http://c:4318/v1/traces"),
            ("https://c/otlp/", "https://c/otlp/v1/traces"),
            ("https://c", "https://c/v1/traces"),
        ] {
            assert_eq!(read(&[(GENERAL, given)]).unwrap().unwrap().url, used);
            let whole = read(&[(GENERAL, "http://other"), (OURS, given)]).unwrap().unwrap();
            assert_eq!((whole.url.as_str(), whole.url_from.as_str()), (given, OURS));
        }
    }

    #[test]
    fn grpc_without_a_scheme_is_tls_unless_it_is_said_to_be_insecure() {
        let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        let url = |pairs: &[(&str, &str)]| read(pairs).unwrap().unwrap().url;
        assert_eq!(url(&[(GENERAL, "c:4317"), grpc]), "https://c:4317");
        assert_eq!(url(&[(GENERAL, "c:4317"), grpc, ("OTEL_EXPORTER_OTLP_INSECURE", "true")]), "http://c:4317");
        assert_eq!(url(&[(GENERAL, "http://c:4317"), grpc]), "http://c:4317");
    }

    #[test]
    fn the_variable_for_traces_wins_and_unknown_choices_are_ignored() {
        let all = plan(&[
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "5000"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "250"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=general"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "api-key=a%3Db%2Cc, X-Two = 2"),
        ]);
        assert_eq!((all.protocol, all.timeout), (Protocol::Http, Duration::from_millis(250)));
        assert_eq!(all.headers.len(), 2, "one list takes the place of the other");
        assert_eq!((all.headers["api-key"].to_str().unwrap(), all.headers["x-two"].to_str().unwrap()), ("a=b,c", "2"));
        assert!(!format!("{:?}", all.headers).contains("a=b"), "headers are sensitive");
        assert_eq!(plan(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")]).protocol, Protocol::Http);
        let bounds = plan(&[("OTEL_BSP_MAX_QUEUE_SIZE", "100"), ("OTEL_BSP_SCHEDULE_DELAY", "20")]);
        assert_eq!((bounds.queue, bounds.batch, bounds.delay), (100, 100, Duration::from_millis(20)));
        let default = plan(&[]);
        assert_eq!((default.queue, default.batch, default.delay), (2_048, 512, Duration::from_secs(5)));
    }

    #[test]
    fn the_service_has_a_name_whoever_gives_it() {
        let name = |pairs: &[(&str, &str)]| {
            let all = plan(pairs).resource;
            let found: Vec<_> = all.iter().filter(|(key, _)| key == "service.name").collect();
            assert_eq!(found.len(), 1);
            found[0].1.clone()
        };
        let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=two%20words,deployment.environment.name=prod");
        assert_eq!(name(&[]), "watchdog");
        assert_eq!(name(&[attributes]), "two words");
        assert_eq!(name(&[attributes, ("OTEL_SERVICE_NAME", "one")]), "one");
        let all = plan(&[attributes]).resource;
        assert!(all.contains(&("deployment.environment.name".to_string(), "prod".to_string())));
    }

    #[test]
    fn a_wrong_value_is_an_error_that_names_the_variable_and_shows_no_secret() {
        let headers = "OTEL_EXPORTER_OTLP_HEADERS";
        for (name, value, words) in [
            (GENERAL, "localhost:4318", "http://localhost:4318"),
            (GENERAL, "canary", "http://localhost:4318"),
            (GENERAL, "http://u:canary@c", "OTEL_EXPORTER_OTLP_HEADERS"),
            (GENERAL, "http://c/?token=canary", OURS),
            (headers, "canary", "entry 1 is not name=value"),
            (headers, "a=1,b c=canary", "header 2 has a name"),
            (headers, "a=canary%0A", "header 1 (a)"),
            (headers, "a=%FFcanary", "entry 1 is not percent-encoded"),
            (headers, "Host=canary", "host"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "from 1 to 600000"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0", "from 1 to 600000"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "1000000", "from 1 to 65536"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4096", "from 1 to 2048"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a", "entry 1"),
        ] {
            let error = complaint(&[(name, value)]);
            assert!(error.starts_with(&format!("{name}: ")) && error.contains(words), "{name}={value}: {error}");
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
