//! A TLS peer on loopback: shows the certificates it was given, answers one request, and counts its handshakes.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::listener::{Ended, Listener};

/// The file of a certificate or key of the tests.
pub fn pem(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/peer/certs").join(name)
}

/// A running peer. Ends when dropped.
pub struct TlsPeer {
    listener: Listener,
    handshakes: Arc<Mutex<Vec<HandshakeKind>>>,
}

impl TlsPeer {
    /// Shows these certificates, its own first, with the key of the first.
    pub fn start(chain: &[&str], key: &str) -> TlsPeer {
        TlsPeer::serve(chain, key, None)
    }

    /// The same, and wants a certificate that this authority signed.
    pub fn wants_client(chain: &[&str], key: &str, authority: &str) -> TlsPeer {
        TlsPeer::serve(chain, key, Some(authority))
    }

    fn serve(chain: &[&str], key: &str, authority: Option<&str>) -> TlsPeer {
        let chain = chain.iter().map(|name| CertificateDer::from_pem_file(pem(name)).unwrap()).collect();
        let key = PrivateKeyDer::from_pem_file(pem(key)).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
        let builder = match authority {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_file(pem(name)).unwrap()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let config = Arc::new(builder.with_single_cert(chain, key).unwrap());
        let handshakes = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&handshakes);
        let listener = Listener::start(move || {
            let (config, seen) = (Arc::clone(&config), Arc::clone(&seen));
            move |stream: TcpStream, _: &Ended| {
                let _ = answer(stream, config, &seen);
            }
        });
        TlsPeer { listener, handshakes }
    }

    pub fn port(&self) -> u16 {
        self.listener.address().port()
    }

    /// `localhost:1234`.
    pub fn place(&self) -> String {
        format!("localhost:{}", self.port())
    }

    /// The handshakes that came to their end.
    pub fn handshakes(&self) -> Vec<HandshakeKind> {
        self.handshakes.lock().unwrap().clone()
    }
}

fn answer(mut stream: TcpStream, config: Arc<ServerConfig>, seen: &Mutex<Vec<HandshakeKind>>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut session = ServerConnection::new(config).unwrap();
    let outcome = session.complete_io(&mut stream);
    if outcome.is_err() {
        // What went wrong is sent before the connection ends.
        let _ = session.write_tls(&mut stream);
        return Ok(());
    }
    seen.lock().unwrap().push(session.handshake_kind().unwrap());
    let mut tls = StreamOwned::new(session, stream);
    let mut head = Vec::new();
    let mut piece = [0; 512];
    while !head.ends_with(b"\r\n\r\n") {
        match tls.read(&mut piece)? {
            0 => return Ok(()),
            n => head.extend_from_slice(piece.get(..n).unwrap_or_default()),
        }
    }
    tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")?;
    tls.conn.send_close_notify();
    tls.flush()
}
