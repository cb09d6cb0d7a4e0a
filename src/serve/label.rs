//! Values of metric labels: escaped, bounded, and still different from one another.
//!
//! Scrapers drop a whole page for one label that is too long or one series that comes twice. A
//! value over the limit, or with control characters in it, is cut and gets a short fingerprint of
//! the whole, so that two long names with the same beginning stay two.

use std::fmt::Write as _;

use crate::core::name::fingerprint;

/// The longest value written, in bytes, without escapes.
pub const LIMIT: usize = 200;

/// Appends the value, escaped for between the quotes of a label.
pub fn write(out: &mut String, value: &str) {
    if value.len() <= LIMIT && !value.chars().any(char::is_control) {
        escape(out, value);
        return;
    }
    // 17 bytes for the fingerprint.
    let end = (0..=LIMIT - 17).rev().find(|end| value.is_char_boundary(*end)).unwrap_or(0);
    let cut: String =
        value.get(..end).unwrap_or_default().chars().map(|c| if c.is_control() { '_' } else { c }).collect();
    escape(out, &cut);
    out.push('~');
    // Writing into a String cannot fail.
    let _ = write!(out, "{:016x}", fingerprint(value));
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(value: &str) -> String {
        let mut out = String::new();
        write(&mut out, value);
        out
    }

    #[test]
    fn quotes_and_backslashes_are_escaped() {
        assert_eq!(label("a\"b\\c"), "a\\\"b\\\\c");
        assert_eq!(label("žluť/disk:/"), "žluť/disk:/");
    }

    #[test]
    fn long_values_are_cut_and_stay_apart() {
        let (one, two) = (format!("{}1", "ž".repeat(300)), format!("{}2", "ž".repeat(300)));
        assert!(label(&one).len() <= LIMIT);
        assert_ne!(label(&one), label(&two));
        assert_eq!(label(&"a".repeat(LIMIT)), "a".repeat(LIMIT));
    }

    #[test]
    fn control_characters_never_reach_the_page_and_stay_apart() {
        assert!(label("a\nb").starts_with("a_b~"));
        assert_ne!(label("a\nb"), label("a\rb"));
        assert_ne!(label("a\nb"), label("a_b"));
    }
}
