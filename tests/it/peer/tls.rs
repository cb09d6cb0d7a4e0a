//! A TLS peer on loopback: shows the certificates it was given, answers one request, and counts its handshakes.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
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
        TlsPeer::serve(chain, key, None, None)
    }

    /// The same before a peer that speaks plain HTTP: hands on one request per connection, and its answer.
    pub fn before(chain: &[&str], key: &str, behind: SocketAddr) -> TlsPeer {
        TlsPeer::serve(chain, key, None, Some(behind))
    }

    /// The same, and wants a certificate that this authority signed.
    pub fn wants_client(chain: &[&str], key: &str, authority: &str) -> TlsPeer {
        TlsPeer::serve(chain, key, Some(authority), None)
    }

    fn serve(chain: &[&str], key: &str, authority: Option<&str>, behind: Option<SocketAddr>) -> TlsPeer {
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
                let _ = answer(stream, config, &seen, behind);
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

fn answer(
    mut stream: TcpStream,
    config: Arc<ServerConfig>,
    seen: &Mutex<Vec<HandshakeKind>>,
    behind: Option<SocketAddr>,
) -> std::io::Result<()> {
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
        // One byte at a time: what follows is the body.
        match tls.read(piece.get_mut(..1).unwrap_or_default())? {
            0 => return Ok(()),
            n => head.extend_from_slice(piece.get(..n).unwrap_or_default()),
        }
    }
    if let Some(behind) = behind {
        let text = String::from_utf8_lossy(&head).to_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        tls.read_exact(&mut body)?;
        let mut plain = TcpStream::connect(behind)?;
        plain.set_read_timeout(Some(Duration::from_secs(20)))?;
        plain.write_all(&[head, body].concat())?;
        loop {
            match plain.read(&mut piece)? {
                0 => break,
                n => tls.write_all(piece.get(..n).unwrap_or_default())?,
            }
        }
        tls.conn.send_close_notify();
        return tls.flush();
    }
    tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")?;
    tls.conn.send_close_notify();
    tls.flush()
}
