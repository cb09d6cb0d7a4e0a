//! Spans as OTLP messages, in bytes. The messages are those of `opentelemetry-proto`.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as Message, SpanFlags, Status};
use prost::Message as _;

use super::span::{Kind, Span, Value};
use crate::core::time::Wall;

/// Sampled (W3C trace flags), and a parent that is ours.
const FLAGS: u32 = 1 | SpanFlags::ContextHasIsRemoteMask as u32;

/// An `ExportTraceServiceRequest` with these spans, of the service that `resource` describes.
pub(super) fn encode(resource: &[(String, String)], spans: Vec<Span>) -> Vec<u8> {
    let attributes = resource.iter().map(|(key, text)| pair(key.clone(), text.clone().into())).collect();
    let scope = InstrumentationScope {
        name: "watchdog".to_string(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        ..InstrumentationScope::default()
    };
    let spans = spans.into_iter().map(message).collect();
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_spans: vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }],
    }
    .encode_to_vec()
}

fn message(span: Span) -> Message {
    let kind = match span.kind {
        Kind::Internal => SpanKind::Internal,
        Kind::Client => SpanKind::Client,
    };
    Message {
        trace_id: span.trace.0.to_vec(),
        span_id: span.id.0.to_vec(),
        parent_span_id: span.parent.map(|parent| parent.0.to_vec()).unwrap_or_default(),
        flags: FLAGS,
        name: span.name.into_owned(),
        kind: kind as i32,
        start_time_unix_nano: nanos(span.start),
        // A clock that was set back must not make a span end before it began.
        end_time_unix_nano: nanos(span.end.max(span.start)),
        attributes: span.attributes.into_iter().map(|(key, value)| pair(key.into_owned(), value)).collect(),
        status: span.error.map(|message| Status { message, code: StatusCode::Error as i32 }),
        ..Message::default()
    }
}

fn pair(key: String, value: Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => any_value::Value::StringValue(text.into_owned()),
        Value::Integer(number) => any_value::Value::IntValue(number),
        Value::Decimal(number) => any_value::Value::DoubleValue(number),
        Value::Truth(truth) => any_value::Value::BoolValue(truth),
    };
    KeyValue { key, value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn nanos(wall: Wall) -> u64 {
    u64::try_from(wall.0).unwrap_or(0).saturating_mul(1_000_000)
}
