//! Authorities from a PEM file: who may sign a peer's certificate in place of the bundled ones.
//!
//! Reads the file once, bounded; an empty or unreadable one is an error, because no authority at all
//! must never come to mean any authority.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::config::file;

/// The certificates in a PEM file of at most 1 MiB; at least one.
pub fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let text = file::bytes(path, 1024 * 1024).map_err(|what| match what.strip_prefix("cannot be read: ") {
        Some(why) => format!("cannot read {shown}: {why}"),
        None => format!("{shown} {what}"),
    })?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(format!("{shown} holds no certificate in PEM form")),
    }
}
