//! Traces against a scripted collector: that spans arrive as they were recorded by either protocol, plain and by TLS,
//! and that no collector, however bad, holds whoever records.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use hyper::Version;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Sent;
use watchdog::client::proxy::Proxies;
use watchdog::core::time::Wall;
use watchdog::trace::{Counts, Kind, Span, SpanId, TraceError, TraceId, Traces, Value};

use crate::daemon::{SOON, wait};
use crate::peer::otlp::{Answer, Collector, Received, Speech, authority};

const BOTH: [Speech; 2] = [Speech::Http, Speech::Grpc];

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect()
}

/// Traces to this collector; `more` wins over what leads there.
fn traces_to(collector: &Collector, more: &[(&str, &str)]) -> Traces {
    let mut environment = pairs(more);
    environment.extend(collector.variables());
    Traces::start(&environment, Proxies::direct()).unwrap().expect("an endpoint is set")
}

fn repair() -> TraceId {
    TraceId::of(&["test", "node/n1", "7"])
}

/// The span of one step; the repair itself is step zero.
fn span(step: u64) -> Span {
    let trace = repair();
    let parent = (step > 0).then(|| SpanId::of(trace, 0));
    Span {
        trace,
        id: SpanId::of(trace, step),
        parent,
        name: Cow::Borrowed(if step == 0 { "repair" } else { "request" }),
        kind: if step == 0 { Kind::Internal } else { Kind::Client },
        start: Wall(1_767_225_600_000),
        end: Wall(1_767_225_601_250),
        attributes: Vec::new(),
        error: None,
    }
}

fn until(traces: &Traces, what: &str, done: impl Fn(Counts) -> bool) -> Counts {
    wait(what, || Some(traces.counts()).filter(|counts| done(*counts)))
}

fn counts(exported: u64, dropped: u64, failed: u64) -> Counts {
    Counts { exported, dropped, failed }
}

#[test]
fn a_repair_arrives_whole_by_either_protocol_plain_and_by_tls() {
    for (speech, tls) in BOTH.into_iter().flat_map(|speech| [(speech, false), (speech, true)]) {
        let collector = Collector::start(speech, tls, []);
        let more = [
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=canary%3D81"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=two%20words"),
            ("OTEL_SERVICE_NAME", "dog"),
        ];
        let traces = traces_to(&collector, &more);
        traces.record(span(0));
        let step = Span {
            attributes: vec![
                (Cow::Borrowed("http.request.method"), Value::from("PUT")),
                (Cow::Borrowed("http.response.status_code"), Value::Integer(503)),
                (Cow::Borrowed("share"), Value::Decimal(0.5)),
                (Cow::Borrowed("dry"), Value::Truth(true)),
            ],
            error: Some("HTTP 503".to_string()),
            ..span(1)
        };
        traces.record(step);
        assert_eq!(traces.stop(SOON), counts(2, 0, 0), "{speech:?} tls {tls}");

        let received = collector.received();
        let spans: Vec<_> = received.iter().flat_map(Received::spans).collect();
        let [root, step] = spans.as_slice() else { panic!("{spans:?}") };
        assert_eq!(root.trace_id, repair().0);
        assert_eq!(
            (root.span_id.as_slice(), root.parent_span_id.as_slice()),
            (&SpanId::of(repair(), 0).0[..], &[][..])
        );
        assert_eq!((root.name.as_str(), root.kind, root.status.clone()), ("repair", 1, None));
        assert_eq!(root.start_time_unix_nano, 1_767_225_600_000_000_000);
        assert_eq!(root.end_time_unix_nano, 1_767_225_601_250_000_000);
        assert_eq!((&step.trace_id, &step.parent_span_id), (&root.trace_id, &root.span_id));
        assert_eq!((step.span_id.as_slice(), step.kind), (&SpanId::of(repair(), 1).0[..], 3));
        let status = step.status.clone().unwrap();
        assert_eq!((status.code, status.message.as_str()), (2, "HTTP 503"));
        let sent: Vec<_> = step
            .attributes
            .iter()
            .map(|pair| (pair.key.as_str(), pair.value.clone().unwrap().value.unwrap()))
            .collect();
        let expected = [
            ("http.request.method", Sent::StringValue("PUT".into())),
            ("http.response.status_code", Sent::IntValue(503)),
            ("share", Sent::DoubleValue(0.5)),
            ("dry", Sent::BoolValue(true)),
        ];
        assert_eq!(sent, expected);

        let first = &received[0];
        let resource = first.message.resource_spans[0].resource.clone().unwrap();
        let text = |key: &str| {
            let pair = resource.attributes.iter().find(|pair| pair.key == key).unwrap();
            pair.value.clone().unwrap().value.unwrap()
        };
        assert_eq!(text("service.name"), Sent::StringValue("dog".into()));
        assert_eq!(text("deployment.environment.name"), Sent::StringValue("two words".into()));
        assert_eq!(first.headers["api-key"], "canary=81");
        assert!(first.headers["user-agent"].to_str().unwrap().starts_with("watchdog/"));
        let (path, kind, version) = match speech {
            Speech::Http => ("/v1/traces", "application/x-protobuf", Version::HTTP_11),
            Speech::Grpc => {
                ("/opentelemetry.proto.collector.trace.v1.TraceService/Export", "application/grpc", Version::HTTP_2)
            }
        };
        assert_eq!((first.path.as_str(), first.version), (path, version));
        assert_eq!(first.headers["content-type"], kind);
        if speech == Speech::Grpc {
            assert_eq!(
                (&first.headers["te"], &first.headers["grpc-timeout"]),
                (&"trailers".parse().unwrap(), &"10000m".parse().unwrap())
            );
        }
    }
}

#[test]
fn a_certificate_of_an_unknown_authority_is_not_accepted() {
    for speech in BOTH {
        let collector = Collector::start(speech, true, []);
        let environment: Vec<_> =
            collector.variables().into_iter().filter(|(name, _)| !name.ends_with("CERTIFICATE")).collect();
        let traces = Traces::start(&environment, Proxies::direct()).unwrap().unwrap();
        traces.record(span(0));
        wait("the attempt", || (collector.connections() > 0).then_some(()));
        assert_eq!(traces.stop(SOON), counts(0, 0, 1));
        assert!(collector.received().is_empty());
    }
}

#[test]
fn only_the_general_endpoint_gets_a_path_appended() {
    let collector = Collector::start(Speech::Http, false, []);
    let url = collector.url();
    let with_path = format!("{url}/otlp/");
    for (name, value, path) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &url, "/v1/traces"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &with_path, "/otlp/v1/traces"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &url, "/"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &with_path, "/otlp/"),
    ] {
        let traces = traces_to(&collector, &[(name, value)]);
        traces.record(span(0));
        assert_eq!(traces.stop(SOON).exported, 1);
        assert_eq!(collector.received().last().unwrap().path, path, "{name}={value}");
    }
}

#[test]
fn spans_that_the_collector_rejects_count_as_failed_and_are_not_sent_again() {
    for speech in BOTH {
        let collector = Collector::start(speech, false, [Answer::Partial(2, "too old"), Answer::Partial(0, "a hint")]);
        let traces =
            traces_to(&collector, &[("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "3"), ("OTEL_BSP_SCHEDULE_DELAY", "60000")]);
        (0..3).for_each(|step| traces.record(span(step)));
        assert_eq!(until(&traces, "the first batch", |c| c.exported + c.failed == 3), counts(1, 0, 2));
        (3..6).for_each(|step| traces.record(span(step)));
        assert_eq!(traces.stop(SOON), counts(4, 0, 2), "a hint rejects nothing");
        assert_eq!(collector.received().len(), 2);
    }
}

#[test]
fn a_collector_that_asks_to_wait_is_given_that_time() {
    let table = [
        (Speech::Http, Answer::Status(429, Some("2"))),
        (Speech::Grpc, Answer::Grpc(8, Some(2))),
        (Speech::Grpc, Answer::Grpc(14, Some(2))),
    ];
    for (speech, answer) in table {
        let collector = Collector::start(speech, false, [answer]);
        let traces = traces_to(&collector, &[]);
        traces.record(span(0));
        assert_eq!(until(&traces, "the second attempt", |c| c.exported == 1), counts(1, 0, 0));
        let received = collector.received();
        let [first, second] = received.as_slice() else { panic!("{} attempts", received.len()) };
        assert!(second.at - first.at >= Duration::from_secs(2), "{:?}", second.at - first.at);
        assert_eq!(first.message, second.message);
    }
}

#[test]
fn a_collector_that_asks_to_wait_is_not_pressed_at_the_end() {
    let collector = Collector::start(Speech::Http, false, [Answer::Status(503, Some("600"))]);
    let traces = traces_to(&collector, &[]);
    traces.record(span(0));
    wait("the attempt", || (collector.received().len() == 1).then_some(()));
    traces.record(span(1));
    let begun = Instant::now();
    let end = traces.stop(SOON);
    assert!(begun.elapsed() < SOON, "nothing to wait for: {:?}", begun.elapsed());
    assert_eq!((end.exported, end.dropped + end.failed), (0, 2));
    assert_eq!(collector.received().len(), 1);
}

#[test]
fn what_may_pass_is_tried_again_and_what_will_not_is_not() {
    let table = [
        (Speech::Http, Answer::Status(503, None), true),
        (Speech::Http, Answer::Status(502, None), true),
        (Speech::Http, Answer::Close, true),
        (Speech::Http, Answer::Status(400, None), false),
        (Speech::Http, Answer::Status(500, None), false),
        (Speech::Http, Answer::Status(302, None), false),
        (Speech::Grpc, Answer::Grpc(14, None), true),
        (Speech::Grpc, Answer::Status(503, None), true),
        (Speech::Grpc, Answer::Close, true),
        (Speech::Grpc, Answer::Grpc(8, None), false),
        (Speech::Grpc, Answer::Grpc(16, None), false),
        (Speech::Grpc, Answer::Status(404, None), false),
    ];
    for (speech, answer, again) in table {
        let collector = Collector::start(speech, false, [answer.clone()]);
        let traces = traces_to(&collector, &[]);
        traces.record(span(0));
        let expected = if again { counts(1, 0, 0) } else { counts(0, 0, 1) };
        assert_eq!(until(&traces, "the end of it", |c| c.exported + c.failed == 1), expected, "{speech:?} {answer:?}");
        assert_eq!(collector.received().len(), 1 + usize::from(again), "{speech:?} {answer:?}");
    }
}

#[test]
fn a_batch_that_never_passes_is_given_up_after_five_attempts() {
    let collector = Collector::start(Speech::Http, false, (0..9).map(|_| Answer::Status(503, None)));
    let traces = traces_to(&collector, &[]);
    traces.record(span(0));
    assert_eq!(until(&traces, "the end of it", |c| c.failed > 0), counts(0, 0, 1));
    assert_eq!(collector.received().len(), 5);
}

#[test]
fn a_collector_that_hangs_holds_nobody_and_the_queue_keeps_its_bound() {
    for speech in BOTH {
        let collector = Collector::start(speech, false, [Answer::Hang, Answer::Hang]);
        let bounds = [
            ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10"),
            ("OTEL_BSP_SCHEDULE_DELAY", "600000"),
        ];
        let traces = traces_to(&collector, &bounds);
        (0..10).for_each(|step| traces.record(span(step)));
        wait("the first batch", || (collector.received().len() == 1).then_some(()));
        let spans: Vec<Span> = (10..10_010).map(span).collect();
        let begun = Instant::now();
        spans.into_iter().for_each(|span| traces.record(span));
        let took = begun.elapsed();
        println!("10,000 records while the collector hangs ({speech:?}): {took:?}");
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert_eq!(traces.counts(), counts(0, 9_900, 0), "a batch under way, a hundred queued, the rest dropped");
        let begun = Instant::now();
        let end = traces.stop(Duration::from_millis(300));
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(3), "{took:?}");
        assert_eq!(end, counts(0, 10_000, 0), "what was queued is dropped");
        traces.record(span(0));
        assert_eq!(traces.counts().dropped, 10_001, "after the end nothing is taken");
    }
}

#[test]
fn a_call_ends_with_its_timeout_and_is_tried_again() {
    for speech in BOTH {
        let collector = Collector::start(speech, false, [Answer::Hang]);
        let traces = traces_to(&collector, &[("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "1000")]);
        traces.record(span(0));
        assert_eq!(until(&traces, "the second attempt", |c| c.exported == 1), counts(1, 0, 0), "{speech:?}");
        assert_eq!(collector.connections(), 2);
    }
}

#[test]
fn the_end_does_not_wait_for_the_delay_and_many_batches_go_out() {
    for speech in BOTH {
        let collector = Collector::start(speech, false, []);
        let bounds = [("OTEL_BSP_SCHEDULE_DELAY", "600000"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "400")];
        let traces = traces_to(&collector, &bounds);
        (0..1_000).for_each(|step| traces.record(span(step)));
        assert_eq!(traces.stop(SOON), counts(1_000, 0, 0));
        let sizes: Vec<usize> = collector.received().iter().map(|r| r.spans().len()).collect();
        assert!(sizes.iter().all(|size| *size <= 400) && sizes.iter().sum::<usize>() == 1_000, "{sizes:?}");
    }
}

#[test]
fn nobody_listening_costs_the_spans_and_nothing_else() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for protocol in ["http/protobuf", "grpc"] {
        let endpoint = format!("http://{gone}");
        let environment = pairs(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_BSP_SCHEDULE_DELAY", "1"),
        ]);
        let traces = Traces::start(&environment, Proxies::direct()).unwrap().unwrap();
        traces.record(span(0));
        let end = traces.stop(Duration::from_secs(2));
        assert_eq!((end.exported, end.dropped + end.failed), (0, 1));
    }
}

#[test]
fn grpc_to_a_port_that_speaks_something_else_fails_in_time() {
    let collector = Collector::start(Speech::Http, false, []);
    let traces = traces_to(&collector, &[("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")]);
    traces.record(span(0));
    wait("the attempt", || (collector.connections() > 0).then_some(()));
    assert_eq!(traces.stop(SOON), counts(0, 0, 1));
}

#[test]
fn without_an_endpoint_there_is_nothing_and_with_one_nothing_before_the_first_span() {
    let collector = Collector::start(Speech::Http, false, []);
    let off = [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "")];
    for one in off {
        let mut environment = pairs(&[one]);
        environment.extend(collector.variables());
        assert!(Traces::start(&environment, Proxies::direct()).unwrap().is_none(), "{one:?}");
    }
    assert!(Traces::start(&[], Proxies::direct()).unwrap().is_none());
    let traces = traces_to(&collector, &[]);
    assert_eq!(traces.stop(SOON), counts(0, 0, 0));
    assert_eq!(collector.connections(), 0);
}

#[test]
fn a_file_of_authorities_that_cannot_be_read_is_told_with_its_variable() {
    for protocol in ["http/protobuf", "grpc"] {
        let environment = pairs(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:1"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem"),
        ]);
        let Err(error) = Traces::start(&environment, Proxies::direct()) else { panic!("it started") };
        assert!(matches!(error, TraceError::Variable { .. }));
        let text = error.to_string();
        assert!(text.starts_with("OTEL_EXPORTER_OTLP_CERTIFICATE: cannot read /nowhere/ca.pem"), "{text}");
    }
    assert!(std::path::Path::new(&authority()).is_file());
}
