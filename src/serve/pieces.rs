//! A long text in pieces, on its way to a reader.
//!
//! The status of ten thousand nodes has several megabytes. In one piece it would be copied each time that
//! it outgrows its place, and would leave a hole of its size in the heap; in pieces, each is free again as soon as
//! it was handed to the system.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};

/// Bytes of a piece, about.
const PIECE: usize = 64 * 1024;

/// A text in pieces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pieces(Vec<Vec<u8>>);

impl Pieces {
    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }

    /// True for no text at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The body of an answer. Its bytes count in `unread` until they are handed to the system.
    pub(super) fn into_body(self, unread: &Arc<AtomicUsize>) -> Unread {
        let pieces = self.0.into_iter().map(|text| {
            unread.fetch_add(text.len(), Ordering::SeqCst);
            Bytes::from_owner(Piece { text, total: Arc::clone(unread) })
        });
        Unread(pieces.collect())
    }
}

impl From<String> for Pieces {
    fn from(text: String) -> Pieces {
        Pieces(vec![text.into_bytes()])
    }
}

impl fmt::Display for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0.concat()))
    }
}

impl io::Write for Pieces {
    fn write(&mut self, some: &[u8]) -> io::Result<usize> {
        match self.0.last_mut() {
            Some(last) if last.len() + some.len() <= PIECE => last.extend_from_slice(some),
            _ => {
                let mut next = Vec::with_capacity(PIECE.max(some.len()));
                next.extend_from_slice(some);
                self.0.push(next);
            }
        }
        Ok(some.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Pieces that were not taken yet.
pub(super) struct Unread(VecDeque<Bytes>);

impl Body for Unread {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|piece| piece.len() as u64).sum())
    }
}

/// A piece that counts until its last byte is handed to the system.
struct Piece {
    text: Vec<u8>,
    total: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.total.fetch_sub(self.text.len(), Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_is_written_comes_whole_and_in_order_and_counts_until_it_is_taken() {
        let mut pieces = Pieces::default();
        let mut expected: String = (0..40_000).map(|n| n.to_string() + " ").collect();
        for word in expected.split_inclusive(' ') {
            pieces.write_all(word.as_bytes()).unwrap();
        }
        pieces.write_all(&vec![b'x'; PIECE * 2]).unwrap();
        expected.push_str(&"x".repeat(PIECE * 2));
        assert_eq!((pieces.to_string() == expected, pieces.len()), (true, expected.len()));
        let total = Arc::new(AtomicUsize::new(0));
        let mut body = pieces.into_body(&total);
        assert_eq!(
            (total.load(Ordering::SeqCst), body.size_hint().exact()),
            (expected.len(), Some(expected.len() as u64))
        );
        let first = body.0.pop_front().unwrap();
        assert!(body.0.len() > 3 && first.len() <= PIECE);
        drop((first, body));
        assert_eq!(total.load(Ordering::SeqCst), 0);
    }
}
