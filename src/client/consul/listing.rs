//! Keys as Consul lists them: parsed in place, values decoded when asked for.
//!
//! A [`Listing`] of a few keys holds the answer's bytes; [`Listing::entries`] is one pass over them that
//! copies nothing but what JSON had to escape. One of many is walked as it comes and holds no more of it
//! at a time than a chunk: several megabytes in one piece, each time that something changes, would stay behind
//! as holes in the heap. One whose index has not moved is not parsed and holds nothing at all.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{ConsulError, Operation};
use crate::client::http::{Coming, Response};

/// Bytes of a listing on its way that are read at once.
const CHUNK: usize = 64 * 1024;

/// What a prefix held at one moment.
#[derive(Clone, PartialEq, Eq)]
pub struct Listing {
    /// For the next blocking read. Lower than the one before: Consul's data was replaced (F12).
    pub index: u64,
    /// False when the answering server knows of no leader.
    pub known_leader: bool,
    /// Since the answering server heard from the leader; zero on the leader.
    pub last_contact: Duration,
    /// True when ACLs have left keys out. Only 1.11 and later say so.
    pub filtered: bool,
    /// `None`: the index is the one that was asked with, so nothing changed. Empty once its keys were handed over.
    body: Option<Vec<u8>>,
    subject: String,
}

/// One key of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Entry<'a> {
    #[serde(borrow)]
    key: Text<'a>,
    #[serde(borrow, default)]
    value: Option<Text<'a>>,
    #[serde(borrow, default)]
    session: Option<Text<'a>>,
    /// Changes with each write.
    pub modify_index: u64,
    /// When the key came to be.
    pub create_index: u64,
    /// How often the lock was taken.
    pub lock_index: u64,
}

/// One key with its value decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Its value; empty for none.
    pub value: Vec<u8>,
    /// The session that holds its lock.
    pub session: Option<String>,
    /// Changes with each write.
    pub modify_index: u64,
    /// When the key came to be.
    pub create_index: u64,
    /// How often the lock was taken.
    pub lock_index: u64,
}

/// A JSON text, borrowed where nothing in it was escaped. A type of its own, because serde borrows
/// nothing inside an `Option` otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl std::fmt::Debug for Listing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.body.as_ref().map(Vec::len);
        f.debug_struct("Listing").field("index", &self.index).field("bytes", &bytes).finish_non_exhaustive()
    }
}

impl Listing {
    /// Reads an answer with status 200 or 404 to a reading of `subject`, asked with `asked` as index.
    pub(super) fn read(answer: Response, asked: Option<u64>, subject: &str) -> Result<Listing, ConsulError> {
        let header = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
        let Some(index) = header("x-consul-index").and_then(|text| text.parse().ok()) else {
            return Err(unreadable(subject, answer.status, "it has no X-Consul-Index"));
        };
        let known_leader = header("x-consul-knownleader") == Some("true");
        let millis = header("x-consul-lastcontact").and_then(|text| text.parse().ok()).unwrap_or(0);
        let filtered = header("x-consul-results-filtered-by-acls") == Some("true");
        let body = match answer.status {
            // Also with an index that did not move: keys that were taken from our sight move none.
            404 => Some(b"[]".to_vec()),
            _ if asked == Some(index) => None,
            _ => Some(answer.body),
        };
        let last_contact = Duration::from_millis(millis);
        Ok(Listing { index, known_leader, last_contact, filtered, body, subject: subject.to_string() })
    }

    /// Reads an answer to its end and hands over its keys one by one.
    pub(super) fn walk(
        mut coming: Coming,
        asked: Option<u64>,
        subject: &str,
        take: &mut dyn FnMut(&Entry<'_>) -> Result<(), ConsulError>,
    ) -> Result<Listing, ConsulError> {
        let has_keys = coming.answer.status == 200;
        let listing = Listing::read(std::mem::take(&mut coming.answer), asked, subject)?;
        let mut array = Array { subject, awaits: Awaits::Begin };
        let mut text = Vec::with_capacity(CHUNK);
        loop {
            let some = coming.read(&mut text, CHUNK).map_err(|error| {
                let operation = Operation::ReadPrefix;
                ConsulError::Http { operation, subject: subject.to_string(), error }
            })?;
            if listing.is_unchanged() || !has_keys {
                // Read all the same, to keep the connection.
                text.clear();
            } else {
                let used = array.walk(&text, take)?;
                text.drain(..used);
            }
            match some {
                0 if text.is_empty() && (array.awaits == Awaits::Nothing || listing.is_unchanged() || !has_keys) => {
                    return Ok(listing);
                }
                0 => return Err(array.unreadable()),
                _ => {}
            }
        }
    }

    /// True when the index did not move: the entries are those of the listing before.
    pub fn is_unchanged(&self) -> bool {
        self.body.is_none()
    }

    /// The keys, sorted by Consul; none when [`is_unchanged`](Self::is_unchanged). Parses at each call.
    ///
    /// Errors: a body that is not Consul's JSON.
    pub fn entries(&self) -> Result<Vec<Entry<'_>>, ConsulError> {
        let Some(body) = self.body.as_ref().filter(|body| !body.is_empty()) else { return Ok(Vec::new()) };
        serde_json::from_slice(body).map_err(|_| unreadable(&self.subject, 200, "its body cannot be read"))
    }

    /// The one key that was read; `None` when it does not exist.
    pub(super) fn into_pair(self, key: &str) -> Result<Option<Pair>, ConsulError> {
        let entries = self.entries()?;
        entries.iter().find(|entry| entry.key() == key).map(Entry::to_pair).transpose()
    }
}

impl Entry<'_> {
    /// The whole key, with the prefix.
    pub fn key(&self) -> &str {
        &self.key.0
    }

    /// The session that holds its lock.
    pub fn session(&self) -> Option<&str> {
        self.session.as_ref().map(|session| session.0.as_ref())
    }

    /// The value, decoded now; empty for none. Errors: what is not base64.
    pub fn value(&self) -> Result<Vec<u8>, ConsulError> {
        let Some(raw) = &self.value else { return Ok(Vec::new()) };
        STANDARD.decode(raw.0.as_bytes()).map_err(|_| unreadable(self.key(), 200, "its value is not base64"))
    }

    /// A copy on its own, with the value decoded.
    pub fn to_pair(&self) -> Result<Pair, ConsulError> {
        Ok(Pair {
            value: self.value()?,
            session: self.session().map(str::to_string),
            modify_index: self.modify_index,
            create_index: self.create_index,
            lock_index: self.lock_index,
        })
    }
}

/// The array of a listing, on its way.
struct Array<'a> {
    subject: &'a str,
    awaits: Awaits,
}

/// What comes next in an array.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaits {
    Begin,
    EntryOrEnd,
    Entry,
    CommaOrEnd,
    Nothing,
}

impl Array<'_> {
    /// Hands over every entry that is whole in `text`, and says how many bytes are done with.
    fn walk(
        &mut self,
        text: &[u8],
        take: &mut dyn FnMut(&Entry<'_>) -> Result<(), ConsulError>,
    ) -> Result<usize, ConsulError> {
        let mut rest = text;
        while let [byte, after @ ..] = rest {
            let (awaits, left) = match (self.awaits, byte) {
                (awaits, b' ' | b'\t' | b'\r' | b'\n') => (awaits, after),
                (Awaits::Begin, b'[') => (Awaits::EntryOrEnd, after),
                (Awaits::CommaOrEnd, b',') => (Awaits::Entry, after),
                (Awaits::EntryOrEnd | Awaits::CommaOrEnd, b']') => (Awaits::Nothing, after),
                (Awaits::EntryOrEnd | Awaits::Entry, _) => {
                    let mut entries = serde_json::Deserializer::from_slice(rest).into_iter::<Entry<'_>>();
                    match entries.next() {
                        Some(Ok(entry)) => take(&entry)?,
                        Some(Err(error)) if error.is_eof() => break,
                        _ => return Err(self.unreadable()),
                    }
                    (Awaits::CommaOrEnd, rest.get(entries.byte_offset()..).unwrap_or_default())
                }
                _ => return Err(self.unreadable()),
            };
            (self.awaits, rest) = (awaits, left);
        }
        Ok(text.len() - rest.len())
    }

    fn unreadable(&self) -> ConsulError {
        unreadable(self.subject, 200, "its body cannot be read")
    }
}

fn unreadable(subject: &str, status: u16, why: &'static str) -> ConsulError {
    ConsulError::Unreadable { operation: Operation::Read, subject: subject.to_string(), status, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, index: &str, body: &str) -> Response {
        let mut answer = Response { status, body: body.as_bytes().to_vec(), ..Response::default() };
        if !index.is_empty() {
            answer.headers.insert("x-consul-index", index.parse().unwrap());
        }
        answer.headers.insert("x-consul-knownleader", "true".parse().unwrap());
        answer.headers.insert("x-consul-lastcontact", "12".parse().unwrap());
        answer
    }

    const TWO: &str = r#"[{"LockIndex":1,"Key":"w/a","Flags":0,"Value":"aGVsbG8=","Session":"s-1","CreateIndex":3,"ModifyIndex":7},
        {"LockIndex":0,"Key":"w/\u003cb","Flags":18446744073709551615,"Value":null,"CreateIndex":4,"ModifyIndex":4}]"#;

    #[test]
    fn entries_are_read_in_place_and_values_when_asked_for() {
        let listing = Listing::read(answer(200, "7", TWO), Some(3), "w").unwrap();
        assert_eq!((listing.index, listing.known_leader, listing.last_contact.as_millis()), (7, true, 12));
        let entries = listing.entries().unwrap();
        assert!(
            matches!(entries[0].key.0, Cow::Borrowed(_)) && matches!(entries[0].session, Some(Text(Cow::Borrowed(_))))
        );
        assert!(matches!(entries[0].value, Some(Text(Cow::Borrowed(_)))));
        assert_eq!((entries[0].value().unwrap(), entries[0].session()), (b"hello".to_vec(), Some("s-1")));
        assert_eq!((entries[1].key(), entries[1].value().unwrap(), entries[1].session()), ("w/<b", Vec::new(), None));
    }

    #[test]
    fn an_index_that_did_not_move_is_not_parsed_and_a_missing_prefix_is_empty() {
        assert!(Listing::read(answer(200, "7", "not json"), Some(7), "w").unwrap().is_unchanged());
        let empty = Listing::read(answer(404, "9", ""), Some(7), "w").unwrap();
        assert!(!empty.is_unchanged() && empty.entries().unwrap().is_empty() && empty.index == 9);
    }

    /// The keys that come, when the text comes in pieces of this size.
    fn walked(text: &str, size: usize) -> Result<Vec<(String, Vec<u8>)>, ConsulError> {
        let mut array = Array { subject: "w", awaits: Awaits::Begin };
        let (mut seen, mut held) = (Vec::new(), Vec::new());
        for piece in text.as_bytes().chunks(size) {
            held.extend_from_slice(piece);
            let used = array.walk(&held, &mut |entry| {
                seen.push((entry.key().to_string(), entry.value()?));
                Ok(())
            })?;
            held.drain(..used);
        }
        if held.is_empty() && array.awaits == Awaits::Nothing { Ok(seen) } else { Err(array.unreadable()) }
    }

    #[test]
    fn keys_are_handed_over_whole_in_whatever_pieces_they_come() {
        let expected = vec![("w/a".to_string(), b"hello".to_vec()), ("w/<b".to_string(), Vec::new())];
        for size in 1..=TWO.len() {
            assert_eq!(walked(TWO, size).unwrap(), expected, "{size}");
            assert_eq!(walked(" [ ] \n", size).unwrap(), [], "{size}");
            let cut = TWO.get(..TWO.len() - 1).unwrap();
            for bad in [cut, "", "[", "{}", "[{}]", "[1]", "[,]", "[]]", "null"] {
                assert!(walked(bad, size).is_err(), "{bad} {size}");
            }
            for bad in [TWO.replace("},", "}"), TWO.replace("},", "},,"), format!("{TWO}x")] {
                assert!(walked(&bad, size).is_err(), "{bad} {size}");
            }
        }
    }

    #[test]
    fn what_is_not_consul_s_own_is_no_listing() {
        for status in [200, 404] {
            let error = Listing::read(answer(status, "", "[]"), None, "w").unwrap_err();
            assert!(error.to_string().contains("X-Consul-Index"), "{error}");
        }
        let cut = TWO.get(..90).unwrap();
        assert!(Listing::read(answer(200, "7", cut), None, "w").unwrap().entries().is_err());
        let bad = TWO.replace("aGVsbG8=", "aGVsb");
        let listing = Listing::read(answer(200, "7", &bad), None, "w").unwrap();
        assert!(listing.entries().unwrap()[0].value().is_err());
    }
}
