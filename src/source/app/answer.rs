//! What kind of answer the application gave, and what could be read from it.
//!
//! Owns the choice between JSON and a metrics page (by `Content-Type`, then by content) and every
//! reason why an answer cannot be read: a web page from a proxy, bytes that are not text, nothing at
//! all. Never quotes the answer: it may hold secrets, and it is somebody else's text.

use super::envelope::{Picked, Plan};
use super::exposition::{self, Series};
use super::selector::Selector;
use super::settings::Format;
use crate::client::http::Response;

/// What was read.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A JSON envelope: what stood at the wanted places.
    Json(Picked),
    /// A metrics page: the series of each selector.
    Metrics(Vec<Series>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    Json,
    Text,
    OpenMetrics,
}

/// Reads an answer with a status of 200–299; the error is a reason in words.
pub fn read(response: &Response, format: Format, plan: &Plan, selectors: &[Selector]) -> Result<Content, String> {
    let text = std::str::from_utf8(&response.body)
        .map_err(|e| format!("the answer is not UTF-8 text (byte {})", e.valid_up_to()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let start = text.trim_start();
    if start.is_empty() {
        return Err("the answer is empty".to_string());
    }
    if start.starts_with('<') {
        return Err("the answer is a web page, maybe a login or an error page of a proxy".to_string());
    }
    match language(&response.content_type, start, format)? {
        Language::Json => plan.read(text).map(Content::Json),
        Language::Text => exposition::read(text, false, selectors).map(Content::Metrics),
        Language::OpenMetrics => exposition::read(text, true, selectors).map(Content::Metrics),
    }
}

fn language(content_type: &str, start: &str, format: Format) -> Result<Language, String> {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let metrics = if kind == "application/openmetrics-text" { Language::OpenMetrics } else { Language::Text };
    match format {
        Format::Json => Ok(Language::Json),
        Format::Prometheus => Ok(metrics),
        Format::Auto if metrics == Language::OpenMetrics => Ok(metrics),
        Format::Auto if kind == "application/json" || kind.ends_with("+json") => Ok(Language::Json),
        Format::Auto if kind.contains("protobuf") => {
            Err("the answer is in protobuf although text was asked for".to_string())
        }
        // Many servers call everything text/plain: what stands there decides.
        Format::Auto => Ok(if looks_like_json(start) { Language::Json } else { Language::Text }),
    }
}

/// Tells `{"a": 1}` from the sample `{"my.metric"} 1`.
fn looks_like_json(start: &str) -> bool {
    let Some(inside) = start.strip_prefix('{') else { return start.starts_with('[') };
    match super::selector::quoted(inside.trim_start()) {
        Some((_, after)) => after.trim_start().starts_with(':'),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(content_type: &str, body: &[u8], format: Format) -> Result<Content, String> {
        let content_type = content_type.to_string();
        let response = Response { status: 200, content_type, body: body.to_vec(), ..Response::default() };
        read(&response, format, &Plan::default(), &[])
    }

    #[test]
    fn the_language_is_found_by_type_and_by_content() {
        use Format::{Auto, Json, Prometheus};
        let page = b"# HELP a b\na 1\n".as_slice();
        let table: &[(&str, &[u8], Format, &str)] = &[
            ("application/json", b"{}", Auto, "json"),
            ("application/problem+json; charset=utf-8", b"[1]", Auto, "json"),
            ("", b"\xef\xbb\xbf {\"a\": 1}", Auto, "json"),
            ("text/plain", b"{\"a\": 1}", Auto, "json"),
            ("text/html", b"{}", Auto, "json"),
            ("text/plain; version=0.0.4; charset=utf-8", page, Auto, "metrics"),
            ("text/plain; version=1.0.0; escaping=allow-utf-8", b"{\"my.metric\"} 1\n", Auto, "metrics"),
            ("", page, Auto, "metrics"),
            ("application/openmetrics-text; version=1.0.0", b"a 1\n# EOF\n", Auto, "metrics"),
            ("application/openmetrics-text", b"a 1\n", Auto, "cut"),
            ("application/json", page, Prometheus, "metrics"),
            ("text/plain", b"{}", Json, "json"),
            ("text/plain", page, Json, "not valid JSON"),
            ("application/json", page, Auto, "not valid JSON"),
            ("text/plain", b"{}", Prometheus, "neither a sample"),
            ("text/html", b"<!DOCTYPE html><html>", Auto, "web page"),
            ("text/plain", b" <html>", Prometheus, "web page"),
            ("application/vnd.google.protobuf", b"\x0a\x01", Auto, "protobuf"),
            ("application/json", b"{\"a\": \"\xff\"}", Auto, "not UTF-8 text (byte 7)"),
            ("", b"\x1f\x8b\x08\x00", Auto, "not UTF-8"),
            ("", b"", Auto, "empty"),
            ("", b" \n", Auto, "empty"),
            ("text/plain", b"OK", Auto, "neither a sample"),
        ];
        for (content_type, body, format, expected) in table {
            let shown = match answer(content_type, body, *format) {
                Ok(Content::Json(_)) => "json".to_string(),
                Ok(Content::Metrics(_)) => "metrics".to_string(),
                Err(why) => why,
            };
            assert!(shown.contains(expected), "{content_type} {body:?}: {shown}");
        }
    }
}
