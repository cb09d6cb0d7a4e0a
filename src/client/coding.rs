//! Content codings: what is asked for, what is decoded when it comes anyway, and what is named.
//!
//! Every request asks for `identity`. A server that sends gzip in spite of that (`gzip_static always`) is understood:
//! what comes out is limited like any body, and so is what goes in, so that neither a bomb nor an endless row of
//! empty parts costs more than an answer may (F42). Any other coding is an error with its name.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use ureq::http::HeaderMap;
use ureq::http::header::CONTENT_ENCODING;

/// The body of an answer as the peer meant it.
pub(super) enum Coded<R: Read> {
    /// As it came.
    Plain(R),
    /// Decoded on the way.
    Gzip(Box<MultiGzDecoder<Capped<R>>>),
    /// In a coding that is not known here, by its name.
    Unknown(String),
}

impl<R: Read> Coded<R> {
    /// `body` as `headers` say that it is coded. At most `limit` bytes are read of it where it is compressed.
    pub(super) fn new(body: R, headers: &HeaderMap, limit: usize) -> Coded<R> {
        let all = headers.get_all(CONTENT_ENCODING);
        let mut codings = all.iter().flat_map(|value| value.to_str().unwrap_or("?").split(','));
        let mut codings: Vec<String> = codings.by_ref().map(|coding| coding.trim().to_ascii_lowercase()).collect();
        codings.retain(|coding| !matches!(coding.as_str(), "" | "identity"));
        match codings.as_slice() {
            [] => Coded::Plain(body),
            [gzip] if matches!(gzip.as_str(), "gzip" | "x-gzip") => {
                Coded::Gzip(Box::new(MultiGzDecoder::new(Capped { inner: body, left: limit, read: false })))
            }
            other => Coded::Unknown(crate::core::message::clean(&other.join(", "), 40)),
        }
    }

    /// Reads on, at most `most` bytes.
    pub(super) fn read(&mut self, into: &mut Vec<u8>, most: usize) -> io::Result<usize> {
        match self {
            Coded::Plain(body) => body.take(most as u64).read_to_end(into),
            Coded::Gzip(body) => match (&mut **body).take(most as u64).read_to_end(into) {
                // A body of no bytes at all holds no header of gzip either: the answer to HEAD, or a 204.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !body.get_ref().read => Ok(0),
                outcome => outcome,
            },
            Coded::Unknown(_) => Ok(0),
        }
    }
}

/// A reader that fails beyond a number of bytes.
pub(super) struct Capped<R> {
    inner: R,
    left: usize,
    read: bool,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read |= count > 0;
        self.left = self.left.checked_sub(count).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(count)
    }
}
