//! Who may sign a peer's certificate: the bundled authorities, or those of a PEM file.
//!
//! Owns the reading of that file (at most 1 MiB, at least one certificate) for everything that speaks
//! TLS. Errors name the file; nothing is ever trusted in spite of an error.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// The certificates in a PEM file of at most 1 MiB; at least one.
pub fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let size = std::fs::metadata(path).map_err(|e| format!("cannot read {shown}: {e}"))?.len();
    if size > 1024 * 1024 {
        return Err(format!("{shown} is larger than 1 MiB"));
    }
    let text = std::fs::read(path).map_err(|e| format!("cannot read {shown}: {e}"))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(format!("{shown} holds no certificate in PEM form")),
    }
}

/// The authorities in the PEM file `ca`, or the bundled ones.
pub fn roots(ca: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            for certificate in authorities(path)? {
                roots.add(certificate).map_err(|e| format!("{} holds a bad certificate: {e}", path.display()))?;
            }
        }
    }
    Ok(roots)
}
