//! The HTTP client over real sockets: content codings, limits of headers, kept connections, proxies.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod proxied;
mod trusted;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use watchdog::client::http::{HEADER_FIELDS, HEADER_LIMIT, Http, HttpError, Options};

use crate::daemon::{configure, run};
use crate::peer::http::{Manner, Peer};
use crate::peer::listener::{Ended, Listener, Request};

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn coded(coding: &str, body: &[u8]) -> Manner {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n", body.len());
    Manner::Say([head.as_bytes(), body].concat())
}

fn small() -> Http {
    Http::new(Options { body_limit: 64 * 1024, ..Options::default() })
}

#[test]
fn a_body_that_comes_compressed_is_decoded_or_its_coding_is_named() {
    let text = b"all is well\n";
    for coding in ["gzip", "GZIP", "x-gzip", "identity, gzip"] {
        let peer = Peer::start(coded(coding, &gzip(text)));
        let answer = small().get(&peer.url(), &[]).unwrap();
        assert_eq!(answer.body, text, "{coding}");
        assert_eq!(answer.header("content-encoding"), None, "what was decoded is coded no more");
        assert!(peer.heard()[0].contains("\r\naccept-encoding: identity\r\n"), "{:?}", peer.heard());
    }
    let peer = Peer::start(coded("identity", text));
    assert_eq!(small().get(&peer.url(), &[]).unwrap().body, text);
    for coding in ["br", "deflate", "zstd", "gzip, br"] {
        let peer = Peer::start(coded(coding, b"\x0b\x05\x80"));
        let error = small().get(&peer.url(), &[]).unwrap_err();
        assert_eq!(error, HttpError::Coded(coding.to_string()));
        assert!(error.to_string().contains(&format!("compressed with {coding}")), "{error}");
    }
    // An error's page is an error's page, however it is coded.
    let refusal =
        Manner::Say(b"HTTP/1.1 403 No\r\nContent-Encoding: br\r\nContent-Length: 3\r\n\r\n\x0b\x05\x80".to_vec());
    let peer = Peer::start(refusal);
    assert_eq!(small().get(&peer.url(), &[]).unwrap().status, 403);
    // A header that speaks of gzip and a body of nothing.
    let peer = Peer::start(coded("gzip", b""));
    assert_eq!(small().get(&peer.url(), &[]).unwrap().body, b"");
    let peer = Peer::start(coded("gzip", b"this is not gzip at all"));
    let error = small().get(&peer.url(), &[]).unwrap_err().to_string();
    assert_eq!(error, "the compressed body of the answer is damaged");
    let half = gzip(&[7; 5000]);
    let peer = Peer::start(coded("gzip", &half[..half.len() - 10]));
    assert!(small().get(&peer.url(), &[]).is_err());
}

#[test]
fn a_bomb_costs_no_more_than_an_answer_may() {
    // 64 MiB of zeros in 64 KiB.
    let bomb = gzip(&vec![0; 64 * 1024 * 1024]);
    let peer = Peer::start(coded("gzip", &bomb));
    let begun = Instant::now();
    assert_eq!(small().get(&peer.url(), &[]).unwrap_err(), HttpError::TooLarge(64 * 1024));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    // Parts that hold nothing, one after the other: what goes in is limited as well.
    let empty = gzip(b"").repeat(10_000);
    let peer = Peer::start(coded("gzip", &empty));
    assert_eq!(small().get(&peer.url(), &[]).unwrap_err(), HttpError::TooLarge(64 * 1024));
    // Exactly at the limit, and one byte more.
    let peer = Peer::start(coded("gzip", &gzip(&vec![7; 64 * 1024])));
    assert_eq!(small().get(&peer.url(), &[]).unwrap().body.len(), 64 * 1024);
    let peer = Peer::start(coded("gzip", &gzip(&vec![7; 64 * 1024 + 1])));
    assert_eq!(small().get(&peer.url(), &[]).unwrap_err(), HttpError::TooLarge(64 * 1024));
}

fn headed(fields: &str) -> Manner {
    Manner::Say(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok").into_bytes())
}

#[test]
fn a_header_up_to_the_limit_is_read_and_one_beyond_it_is_named() {
    let long = |bytes: usize| format!("X-Long: {}\r\n", "a".repeat(bytes));
    let frame = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nX-Long: \r\n".len();
    for fits in [8 * 1024, 8_200, 12_000, HEADER_LIMIT - frame] {
        let peer = Peer::start(headed(&long(fits)));
        assert_eq!(small().get(&peer.url(), &[]).unwrap().body, b"ok", "{fits}");
    }
    for beyond in [HEADER_LIMIT - frame + 1, HEADER_LIMIT, 64 * 1024] {
        let peer = Peer::start(headed(&long(beyond)));
        let error = small().get(&peer.url(), &[]).unwrap_err().to_string();
        assert_eq!(error, "the header of the answer is larger than 16 KiB", "{beyond}");
    }
    let many = |count: usize| (0..count).map(|n| format!("X-{n}: 1\r\n")).collect::<Vec<_>>().concat();
    let peer = Peer::start(headed(&many(HEADER_FIELDS - 1)));
    assert_eq!(small().get(&peer.url(), &[]).unwrap().body, b"ok");
    let peer = Peer::start(headed(&many(HEADER_FIELDS)));
    let error = small().get(&peer.url(), &[]).unwrap_err().to_string();
    assert_eq!(error, "the header of the answer has more than 128 fields");
}

/// Answers so many requests on each connection and then ends it: at once, or when the next request has come.
fn ends_after(count: usize, on_request: bool) -> (Listener, Arc<AtomicUsize>) {
    let answered = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&answered);
    let listener = Listener::start(move || {
        let answered = Arc::clone(&counted);
        move |mut stream: TcpStream, _: &Ended| {
            for _ in 0..count {
                if Request::read(&mut stream).is_none() {
                    return;
                }
                answered.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
            if on_request {
                let _ = stream.read(&mut [0; 16]);
            }
        }
    });
    (listener, answered)
}

#[test]
fn a_kept_connection_is_used_again_and_one_that_the_peer_closed_costs_no_verdict() {
    let kept = Http::new(Options { keep_alive: true, ..Options::default() });
    let (peer, answered) = ends_after(1000, false);
    for _ in 0..10 {
        assert_eq!(kept.get(&peer.url(), &[]).unwrap().body, b"ok");
    }
    assert_eq!((peer.connections(), answered.load(Ordering::SeqCst)), (1, 10));
    // Closed in our hands: the request went out and nothing came back. It is sent once more, on a new connection.
    let (peer, answered) = ends_after(2, true);
    for look in 0..6 {
        assert_eq!(kept.get(&peer.url(), &[]).unwrap().body, b"ok", "look {look}");
    }
    assert_eq!((peer.connections(), answered.load(Ordering::SeqCst)), (3, 6));
    // Not so a new connection: that the peer hangs up on it is what there is to see.
    let (peer, _) = ends_after(0, true);
    assert!(kept.get(&peer.url(), &[]).is_err());
    assert_eq!(peer.connections(), 1);
    // Nor a request that changes something: nobody knows whether it did.
    let (peer, _) = ends_after(1, true);
    assert!(kept.post_json(&peer.url(), "{}").is_ok());
    assert!(kept.post_json(&peer.url(), "{}").is_err());
    assert_eq!(peer.connections(), 1);
}

#[test]
fn without_keep_alive_each_request_has_a_connection_of_its_own() {
    let (peer, _) = ends_after(1000, false);
    for _ in 0..3 {
        assert!(small().get(&peer.url(), &[]).is_ok());
    }
    assert_eq!(peer.connections(), 3);
}

#[test]
fn an_application_that_compresses_its_metrics_is_read() {
    let peer = Peer::start(coded("gzip", &gzip(b"jobs_failed 7\n")));
    let dir = tempfile::tempdir().unwrap();
    let rule = "[[app.rule]]\nname = \"jobs\"\nvalue = \"jobs_failed\"\nwhen = \"> 5\"\n";
    let quiet = "host.enabled = false\ndocker.enabled = false\n";
    configure(dir.path(), &format!("{quiet}app.metrics_url = \"{}/metrics\"\n{rule}", peer.url()));
    let output = run(dir.path(), &["check"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("app/jobs") && said.contains('7') && !said.contains("UTF-8"), "{said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
}
