//! A strict reader of the HTML that Telegram takes: less forgiving than the real one.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

/// Tags without attributes that Telegram knows.
const TAGS: [&str; 12] = ["a", "b", "strong", "i", "em", "u", "ins", "s", "strike", "del", "code", "pre"];

/// The visible text of `html`, or what is wrong with it in Telegram's words.
pub fn parse(html: &str) -> Result<String, String> {
    let mut text = String::new();
    let mut open: Vec<&str> = Vec::new();
    let mut rest = html;
    while let Some(c) = rest.chars().next() {
        let at = html.len() - rest.len();
        match c {
            '<' => {
                let end = rest.find('>').ok_or_else(|| format!("Unclosed start tag at byte offset {at}"))?;
                let tag = &rest[1..end];
                if let Some(name) = tag.strip_prefix('/') {
                    if open.pop() != Some(name) {
                        return Err(format!("Unmatched end tag at byte offset {at}, found \"</{name}>\""));
                    }
                } else if TAGS.contains(&tag) {
                    open.push(tag);
                } else {
                    return Err(format!("Unsupported start tag \"{tag}\" at byte offset {at}"));
                }
                rest = &rest[end + 1..];
            }
            '>' => return Err(format!("Unescaped \">\" at byte offset {at}")),
            '&' => {
                let end = rest.find(';').ok_or_else(|| format!("Unescaped \"&\" at byte offset {at}"))?;
                text.push(match &rest[1..end] {
                    "lt" => '<',
                    "gt" => '>',
                    "amp" => '&',
                    "quot" => '"',
                    other => return Err(format!("Unknown entity \"{other}\" at byte offset {at}")),
                });
                rest = &rest[end + 1..];
            }
            other => {
                text.push(other);
                rest = &rest[other.len_utf8()..];
            }
        }
    }
    match open.last() {
        Some(tag) => Err(format!("Can't find end tag corresponding to start tag \"{tag}\"")),
        None => Ok(text),
    }
}

#[test]
fn the_strict_reader_refuses_every_mistake() {
    assert_eq!(parse("<b>a &amp; b</b> <code>&lt;c&gt;</code>").unwrap(), "a & b <c>");
    for bad in ["<b>", "</b>", "<b><code></b></code>", "<br>", "<b x=1></b>", "a < b", "a > b", "a & b", "&nbsp;", "<"]
    {
        assert!(parse(bad).is_err(), "{bad}");
    }
}
