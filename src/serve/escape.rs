//! Text from outside made harmless for a page: escaped, without control characters, of bounded length.
//!
//! Names of containers, bodies of answers and labels are written by others (T15). Characters that
//! move the cursor, hide, or turn the direction of the text around become `�`, so that what is
//! read is what is there. Nothing reaches the page but through here.

use std::fmt::Write as _;

/// Appends `text` for HTML content or a quoted attribute, at most `limit` characters of it.
pub fn html(out: &mut String, text: &str, limit: usize) {
    let mut rest = text.chars();
    for c in rest.by_ref().take(limit) {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(' '),
            c if is_hostile(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    if rest.next().is_some() {
        out.push('…');
    }
}

/// Control characters, and the invisible ones that reorder or hide text.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}')
}

/// Appends formatted text that is known to be harmless: numbers, our own words.
pub fn plain(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing into a String cannot fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn escaped(text: &str, limit: usize) -> String {
        let mut out = String::new();
        html(&mut out, text, limit);
        out
    }

    #[test]
    fn markup_controls_and_direction_marks_are_disarmed() {
        assert_eq!(escaped("<a href=\"x\" b='y'>&", 100), "&lt;a href=&quot;x&quot; b=&#39;y&#39;&gt;&amp;");
        assert_eq!(escaped("\u{1b}[31mred\r\nnext", 100), "\u{fffd}[31mred\u{fffd} next");
        assert_eq!(escaped("abc\u{202e}exe", 100), "abc\u{fffd}exe");
        assert_eq!(escaped("žluťoučký 🐕", 100), "žluťoučký 🐕");
    }

    #[test]
    fn length_is_bounded_in_characters() {
        assert_eq!(escaped("abcdef", 3), "abc…");
        assert_eq!(escaped("abc", 3), "abc");
        assert_eq!(escaped("<<<<", 2), "&lt;&lt;…");
    }

    proptest! {
        #[test]
        fn no_text_ever_opens_a_tag_or_leaves_an_attribute(text in any::<String>()) {
            let out = escaped(&text, 50);
            prop_assert!(!out.contains(['<', '>', '"', '\'']));
            prop_assert!(out.chars().all(|c| !c.is_control()));
            let without = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"].iter().fold(out, |o, e| o.replace(e, ""));
            prop_assert!(!without.contains('&'));
        }
    }
}
