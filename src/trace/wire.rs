//! One attempt to hand a batch to the collector, by HTTP or gRPC, and what its answer means.
//!
//! Knows which answers are worth another attempt (the OTLP specification's tables) and makes none
//! itself. What a collector says is cleaned, cut short, and rid of our own headers before it is shown.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;

use super::TraceError;
use super::variables::{Plan, Protocol};
use crate::client::grpc::{self, Grpc, GrpcError, code};
use crate::client::http::{Http, HttpError, Options, Response};
use crate::client::proxy::Proxies;
use crate::client::resolve::ResolveError;
use crate::client::trust::Trust;
use crate::config::value::MASK;

/// Bytes of an answer read at most.
const ANSWER: usize = 256 * 1024;
/// The one method that is called.
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// How an attempt ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Taken, but for so many spans, and what the collector says about it.
    Accepted { rejected: u64, words: String },
    /// Not now: another attempt may do, after this long if the collector said so.
    Later { why: String, after: Option<Duration> },
    /// Never.
    Refused { why: String },
}

pub(super) struct Wire {
    way: Way,
    /// What must not show up in the words of a collector.
    secrets: Vec<String>,
}

enum Way {
    Http { http: Http, url: String, headers: HeaderMap },
    Grpc(Grpc),
}

impl Wire {
    pub(super) fn new(plan: &Plan, proxies: Arc<Proxies>) -> Result<Wire, TraceError> {
        let wrong_file = |why| {
            let name = plan.ca.as_ref().map(|(name, _)| name.clone()).unwrap_or_default();
            TraceError::Variable { name, why }
        };
        let ca = plan.ca.as_ref().map(|(_, path)| path.as_path());
        let trust = Trust::by(ca, "OTEL_EXPORTER_OTLP_CERTIFICATE").map_err(wrong_file)?;
        let way = match plan.protocol {
            Protocol::Http => {
                let http = Http::new(Options {
                    timeout: plan.timeout,
                    body_limit: ANSWER,
                    trust,
                    proxies,
                    ..Options::default()
                });
                let mut headers = plan.headers.clone();
                let kind = HeaderValue::from_static("application/x-protobuf");
                headers.insert(ACCEPT, kind.clone());
                headers.insert(CONTENT_TYPE, kind);
                Way::Http { http, url: plan.url.clone(), headers }
            }
            Protocol::Grpc => {
                let grpc = Grpc::new(&plan.url, &trust, plan.headers.clone(), plan.timeout)
                    .map_err(|e| TraceError::Variable { name: plan.url_from.clone(), why: e.to_string() })?;
                Way::Grpc(grpc)
            }
        };
        let words = plan.headers.values().filter_map(|value| value.to_str().ok()).flat_map(str::split_whitespace);
        let secrets = words.filter(|word| word.len() > 3).map(str::to_string).collect();
        Ok(Wire { way, secrets })
    }

    /// One attempt with this `ExportTraceServiceRequest`.
    pub(super) fn send(&self, body: &[u8]) -> Outcome {
        let outcome = match &self.way {
            Way::Http { http, url, headers } => by_http(http.post(url, headers, body)),
            Way::Grpc(grpc) => by_grpc(grpc.call(EXPORT, body)),
        };
        match outcome {
            Outcome::Accepted { rejected, words } => Outcome::Accepted { rejected, words: self.clean(&words) },
            Outcome::Later { why, after } => Outcome::Later { why: self.clean(&why), after },
            Outcome::Refused { why } => Outcome::Refused { why: self.clean(&why) },
        }
    }

    /// At most 200 characters in one line, without our secrets.
    fn clean(&self, words: &str) -> String {
        let mut words = words.to_string();
        for secret in &self.secrets {
            words = words.replace(secret, MASK);
        }
        let plain: Vec<&str> =
            words.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
        plain.join(" ").chars().take(200).collect()
    }
}

/// `google.rpc.Status`, which is the body of a refusal.
#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
}

fn by_http(answer: Result<Response, HttpError>) -> Outcome {
    let answer = match answer {
        Ok(answer) => answer,
        Err(HttpError::Resolve(error)) => return unresolved(&error),
        Err(e @ (HttpError::BadUrl | HttpError::TooLarge(_) | HttpError::Header(_) | HttpError::Coded(_))) => {
            return Outcome::Refused { why: e.to_string() };
        }
        Err(e) => return Outcome::Later { why: e.to_string(), after: None },
    };
    match answer.status {
        200..=299 => accepted(&answer.body),
        status @ (429 | 502 | 503 | 504) => {
            Outcome::Later { why: said(status, &answer), after: answer.retry_after.map(Duration::from_secs) }
        }
        404 => Outcome::Refused {
            why:
                "HTTP 404; is the path right? Nothing is appended to OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, /v1/traces to \
                  OTEL_EXPORTER_OTLP_ENDPOINT"
                    .to_string(),
        },
        status => Outcome::Refused { why: said(status, &answer) },
    }
}

fn said(status: u16, answer: &Response) -> String {
    let is_status = answer.content_type.starts_with("application/x-protobuf");
    match Status::decode(answer.body.as_slice()) {
        Ok(Status { message }) if is_status && !message.is_empty() => format!("HTTP {status}: {message}"),
        _ => format!("HTTP {status}"),
    }
}

fn by_grpc(answer: Result<grpc::Answer, GrpcError>) -> Outcome {
    let answer = match answer {
        Ok(answer) => answer,
        Err(GrpcError::Resolve(error)) => return unresolved(&error),
        Err(e @ GrpcError::BadUrl) => return Outcome::Refused { why: e.to_string() },
        Err(e) => return Outcome::Later { why: e.to_string(), after: None },
    };
    let why = || format!("gRPC status {}: {}", answer.status, answer.words);
    match answer.status {
        code::OK => accepted(&answer.message),
        code::CANCELLED
        | code::DEADLINE_EXCEEDED
        | code::ABORTED
        | code::OUT_OF_RANGE
        | code::UNAVAILABLE
        | code::DATA_LOSS => Outcome::Later { why: why(), after: answer.retry_after },
        code::RESOURCE_EXHAUSTED if answer.retry_after.is_some() => {
            Outcome::Later { why: why(), after: answer.retry_after }
        }
        _ => Outcome::Refused { why: why() },
    }
}

/// A body that nobody understands is taken as no objection: the status said that all is well.
fn accepted(body: &[u8]) -> Outcome {
    let partial = ExportTraceServiceResponse::decode(body).ok().and_then(|answer| answer.partial_success);
    match partial {
        Some(partial) => Outcome::Accepted {
            rejected: u64::try_from(partial.rejected_spans).unwrap_or(0),
            words: partial.error_message,
        },
        None => Outcome::Accepted { rejected: 0, words: String::new() },
    }
}

fn unresolved(error: &ResolveError) -> Outcome {
    match error {
        // The general words name a setting that traces have not.
        ResolveError::Refused(address) => Outcome::Refused {
            why: format!("{address} is a link-local or metadata address; traces are never sent to one"),
        },
        other => Outcome::Later { why: other.to_string(), after: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(status: u16, retry_after: Option<u64>) -> Outcome {
        by_http(Ok(Response { status, retry_after, ..Response::default() }))
    }

    fn grpc(status: u32, retry_after: Option<Duration>) -> Outcome {
        by_grpc(Ok(grpc::Answer { status, words: String::new(), retry_after, message: Vec::new() }))
    }

    #[test]
    fn only_what_the_specification_names_is_tried_again() {
        for status in [429, 502, 503, 504] {
            let later = http(status, Some(7));
            assert!(matches!(later, Outcome::Later { after: Some(d), .. } if d.as_secs() == 7), "{status}");
        }
        for status in [301, 400, 401, 403, 404, 408, 413, 500, 501] {
            assert!(matches!(http(status, Some(7)), Outcome::Refused { .. }), "{status}");
        }
        for status in [200, 202] {
            assert!(matches!(http(status, None), Outcome::Accepted { rejected: 0, .. }), "{status}");
        }
        for status in [1, 4, 10, 11, 14, 15] {
            assert!(matches!(grpc(status, None), Outcome::Later { .. }), "{status}");
        }
        for status in [2, 3, 5, 6, 7, 8, 9, 12, 13, 16, 99] {
            assert!(matches!(grpc(status, None), Outcome::Refused { .. }), "{status}");
        }
        let wait = Some(Duration::from_secs(3));
        assert!(matches!(grpc(8, wait), Outcome::Later { after, .. } if after == wait));
    }

    #[test]
    fn a_collector_that_repeats_our_headers_does_not_get_them_shown() {
        let wire = Wire {
            way: Way::Http { http: Http::new(Options::default()), url: String::new(), headers: HeaderMap::new() },
            secrets: vec!["canary-55".to_string()],
        };
        let shown = wire.clean("no\n such\x1b token: Bearer canary-55");
        assert_eq!(shown, format!("no such token: Bearer {MASK}"));
        assert_eq!(wire.clean(&"x".repeat(999)).len(), 200);
    }
}
