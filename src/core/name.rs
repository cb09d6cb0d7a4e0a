//! Names from outside as parts of a key: bounded, tame, and still different from one another.
//!
//! A name that had to be changed (cut, or a character replaced) ends in a fingerprint of the whole,
//! which is the same in every run and on every machine, so that a remembered signal is found again.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Characters of the fingerprint with its hyphen.
const MARK: usize = 9;

/// `text` with at most `limit` characters (at least 9 are needed), each of which `keep` accepts or is an
/// underscore. Two different texts stay different; one that fits stays as it is.
pub fn bounded(text: &str, limit: usize, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.chars().all(&keep) && text.chars().count() <= limit {
        return Cow::Borrowed(text);
    }
    let tame = |c: char| if keep(c) { c } else { '_' };
    let mut name: String = text.chars().take(limit.saturating_sub(MARK)).map(tame).collect();
    name.push('-');
    let whole = fingerprint(text);
    // Both halves count: the low bits of a short text mix poorly.
    let _ = write!(name, "{:08x}", (whole ^ (whole >> 32)) & 0xffff_ffff);
    Cow::Owned(name)
}

/// FNV-1a, 64 bits: enough to keep names apart, no defence against somebody who wants a collision.
pub fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A text as a part of a URL's path or query: everything but letters, digits, `-._~` and `/` percent-encoded.
pub fn in_url(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(c: char) -> bool {
        c.is_ascii_lowercase() || c == '_' || c == '-'
    }

    #[test]
    fn a_name_that_fits_stays_as_it_is() {
        let at_limit = "x".repeat(64);
        for name in ["a", "run_a", &at_limit] {
            assert!(matches!(bounded(name, 64, plain), Cow::Borrowed(same) if same == name), "{name}");
        }
        assert_eq!(bounded("", 64, plain), "");
    }

    #[test]
    fn names_that_differ_only_in_what_was_changed_stay_different() {
        let long = "x".repeat(64);
        let names = [
            format!("{long}a"),
            format!("{long}b"),
            long,
            "a b".into(),
            "a/b".into(),
            "a_b".into(),
            "a\u{0}b".into(),
            "\u{fc}".repeat(200),
            "\u{fc}".repeat(201),
        ];
        let bounded: std::collections::BTreeSet<String> =
            names.iter().map(|name| bounded(name, 64, plain).into_owned()).collect();
        assert_eq!(bounded.len(), names.len(), "{bounded:?}");
        assert!(
            bounded
                .iter()
                .all(|name| name.chars().count() <= 64 && name.chars().all(|c| plain(c) || c.is_ascii_digit()))
        );
    }

    #[test]
    fn a_key_in_a_url_is_plain_ascii_without_anything_that_has_a_meaning_there() {
        assert_eq!(in_url("container/shop-web.1"), "container/shop-web.1");
        assert_eq!(in_url("host/disk:/srv data?#&%ž<\""), "host/disk%3A/srv%20data%3F%23%26%25%C5%BE%3C%22");
    }

    #[test]
    fn the_fingerprint_is_the_same_in_every_run() {
        // The published vectors of FNV-1a.
        assert_eq!((fingerprint(""), fingerprint("foobar")), (0xcbf2_9ce4_8422_2325, 0x8594_4171_f739_67e8));
        assert_eq!(bounded("a b", 64, plain), "a_b-e2bca18b");
    }
}
