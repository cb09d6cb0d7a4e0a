//! Which series of a metrics page a rule speaks of: `http_requests_total{code="500",method!="GET"}`.
//!
//! Owns the spelling of selectors and of quoted texts, which metrics pages share. A label that a
//! series does not have counts as empty, as in Prometheus. Patterns (`=~`) are refused by name rather
//! than half understood: they would need a regular expression engine.

use std::borrow::Cow;

/// One label of a series: name and value.
pub type Label<'a> = (Cow<'a, str>, Cow<'a, str>);

/// A metric's name and what its labels must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// The metric's name.
    pub name: String,
    matchers: Vec<Matcher>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Matcher {
    label: String,
    value: String,
    equal: bool,
}

impl Selector {
    /// Reads a selector; the error says what would be right.
    pub fn parse(text: &str) -> Result<Selector, String> {
        let text = text.trim();
        let end = text.find('{').unwrap_or(text.len());
        let (name, rest) = text.split_at_checked(end).unwrap_or((text, ""));
        let mut name = Some(name.trim().to_string()).filter(|name| !name.is_empty());
        if let Some(name) = name.as_deref().filter(|name| !is_metric_name(name)) {
            return Err(format!("\"{name}\" is not the name of a metric"));
        }
        let mut matchers = Vec::new();
        if let Some(inside) = rest.strip_prefix('{') {
            let after = matchers_of(inside, &mut name, &mut matchers)?;
            if !after.trim().is_empty() {
                return Err(format!("nothing may follow the closing brace, but \"{}\" does", after.trim()));
            }
        }
        match name {
            Some(name) => Ok(Selector { name, matchers }),
            None => Err("names no metric; write for example http_requests_total{code=\"500\"}".to_string()),
        }
    }

    /// True when a series of this metric with these labels is meant.
    pub fn matches(&self, labels: &[Label<'_>]) -> bool {
        self.matchers.iter().all(|matcher| {
            let value = labels.iter().find(|(name, _)| *name == matcher.label).map_or("", |(_, value)| value.as_ref());
            (value == matcher.value) == matcher.equal
        })
    }
}

fn matchers_of<'a>(inside: &'a str, name: &mut Option<String>, matchers: &mut Vec<Matcher>) -> Result<&'a str, String> {
    let unfinished = || "the closing brace is missing".to_string();
    let mut rest = inside.trim_start();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Ok(after);
        }
        let (label, after, was_quoted) = label_name(rest).ok_or_else(unfinished)?;
        rest = after.trim_start();
        let equal = if let Some(after) = rest.strip_prefix("!=") {
            rest = after;
            false
        } else if rest.starts_with("=~") || rest.starts_with("!~") {
            return Err("patterns (=~ and !~) are not supported; use = and !=, or one rule for each value".to_string());
        } else if let Some(after) = rest.strip_prefix('=') {
            rest = after;
            true
        } else if was_quoted && name.is_none() {
            *name = Some(label.into_owned());
            rest = comma(rest).ok_or_else(unfinished)?;
            continue;
        } else {
            return Err(format!("after the label {label} one of = and != must follow"));
        };
        let value = rest.trim_start();
        let (value, after) = quoted(value).ok_or_else(|| format!("the value of label {label} must stand in quotes"))?;
        matchers.push(Matcher { label: label.into_owned(), value: value.into_owned(), equal });
        rest = comma(after.trim_start()).ok_or_else(unfinished)?;
    }
}

/// Passes a comma, or stays before a closing brace.
pub fn comma(rest: &str) -> Option<&str> {
    match rest.strip_prefix(',') {
        Some(after) => Some(after.trim_start_matches([' ', '\t'])),
        None => rest.starts_with('}').then_some(rest),
    }
}

/// A label's name, bare or quoted: the name, what follows, and whether it was quoted.
pub fn label_name(rest: &str) -> Option<(Cow<'_, str>, &str, bool)> {
    if let Some((text, after)) = quoted(rest) {
        return Some((text, after, true));
    }
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))?;
    let (name, after) = rest.split_at_checked(end)?;
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    starts_well.then_some((Cow::Borrowed(name), after, false))
}

/// A text in double or single quotes with the escapes `\\`, `\"` and `\n`, and what follows it.
pub fn quoted(rest: &str) -> Option<(Cow<'_, str>, &str)> {
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let inside = rest.get(1..)?;
    let plain = inside.find(['\\', quote])?;
    if inside.get(plain..)?.starts_with(quote) {
        return Some((Cow::Borrowed(inside.get(..plain)?), inside.get(plain + 1..)?));
    }
    let mut text = String::new();
    let mut chars = inside.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next()?.1 {
                'n' => text.push('\n'),
                escaped @ ('\\' | '"' | '\'') => text.push(escaped),
                // Prometheus keeps a backslash that escapes nothing.
                other => text.extend(['\\', other]),
            },
            c if c == quote => return Some((Cow::Owned(text), inside.get(at + 1..)?)),
            c => text.push(c),
        }
    }
    None
}

/// True for the classic names of metrics; others must be quoted.
pub fn is_metric_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | ':'))
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<Label<'a>> {
        pairs.iter().map(|(n, v)| (Cow::Borrowed(*n), Cow::Borrowed(*v))).collect()
    }

    #[test]
    fn matchers_say_equal_and_not_equal_exactly() {
        let post500 = labels(&[("code", "500"), ("method", "POST")]);
        let table = [
            ("up", true),
            ("up{}", true),
            ("up{code=\"500\"}", true),
            ("up{code='500'}", true),
            ("up{code=\"50\"}", false),
            ("up{code!=\"200\", method=\"POST\",}", true),
            ("up{code!=\"500\"}", false),
            ("up{missing=\"\"}", true),
            ("up{missing!=\"\"}", false),
            (" up { code = \"500\" , method != \"GET\" } ", true),
            ("{\"up\", \"code\"=\"500\"}", true),
        ];
        for (text, meant) in table {
            let selector = Selector::parse(text).unwrap();
            assert_eq!(selector.name, "up", "{text}");
            assert_eq!(selector.matches(&post500), meant, "{text}");
        }
        let odd = Selector::parse(r#"{"my.metric",path="a\\b\"c\n}"}"#).unwrap();
        assert_eq!(odd.name, "my.metric");
        assert!(odd.matches(&labels(&[("path", "a\\b\"c\n}")])));
    }

    #[test]
    fn a_selector_that_is_none_says_why() {
        for (text, why) in [
            ("", "names no metric"),
            ("{}", "names no metric"),
            ("{code=\"500\"}", "names no metric"),
            ("2xx", "not the name"),
            ("up{code=~\"5..\"}", "patterns"),
            ("up{code!~\"5..\"}", "patterns"),
            ("up{code=500}", "in quotes"),
            ("up{code=\"500\"", "closing brace"),
            ("up{code=\"500}", "in quotes"),
            ("up{code", "closing brace"),
            ("up{code}", "must follow"),
            ("up{} 5", "nothing may follow"),
            ("a b", "not the name"),
        ] {
            let error = Selector::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
