//! A strict reader of exposition pages: refuses what a scraper might.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::collections::{BTreeMap, BTreeSet};

/// One sample: name, labels, value.
pub type Sample = (String, BTreeMap<String, String>, f64);

/// Reads a page of text 0.0.4, or of OpenMetrics 1.0 when `open`. An error names the line.
pub fn parse(page: &str, open: bool) -> Result<Vec<Sample>, String> {
    let body = match (open, page.strip_suffix("# EOF\n")) {
        (true, Some(body)) => body,
        (true, None) => return Err("no # EOF at the end".into()),
        (false, _) => page,
    };
    if !body.ends_with('\n') || body.contains('\r') {
        return Err("line ends".into());
    }
    let (mut samples, mut families, mut series) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let mut family: Option<(String, String)> = None;
    let mut help: Option<String> = None;
    for line in body.lines() {
        let fail = |what: &str| Err(format!("{what}: {line}"));
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map(|(name, _)| name.to_string());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let Some((name, kind)) = rest.split_once(' ') else { return fail("TYPE") };
            if help.as_deref() != Some(name) || !families.insert(name.to_string()) {
                return fail("HELP and TYPE of one family do not stand together, or come twice");
            }
            if !(["counter", "gauge"].contains(&kind) || open && kind == "info") {
                return fail("type");
            }
            family = Some((name.to_string(), kind.to_string()));
        } else if line.is_empty() || line.starts_with('#') {
            return fail("stray line");
        } else {
            let (name, labels, value) = sample(line)?;
            let Some((of, kind)) = &family else { return fail("no family") };
            let expected = match (open, kind.as_str()) {
                (true, "counter") => format!("{of}_total"),
                (true, "info") => format!("{of}_info"),
                _ => of.clone(),
            };
            if name != expected || (kind == "counter" && !(name.ends_with("_total") && value >= 0.0)) {
                return fail("a sample outside of its family");
            }
            if !series.insert((name.clone(), labels.clone())) {
                return fail("a series that comes twice");
            }
            samples.push((name, labels, value));
        }
    }
    Ok(samples)
}

fn sample(line: &str) -> Result<Sample, String> {
    let fail = |what: &str| format!("{what}: {line}");
    let end = line.find(['{', ' ']).ok_or_else(|| fail("no value"))?;
    let (name, mut rest) = line.split_at(end);
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
        return Err(fail("name"));
    }
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").ok_or_else(|| fail("label"))?;
            if label.is_empty() || !label.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                return Err(fail("label name"));
            }
            let (value, after) = quoted(after).ok_or_else(|| fail("label value"))?;
            if value.len() > 200 || value.chars().any(char::is_control) {
                return Err(fail("a label out of bounds"));
            }
            if labels.insert(label.to_string(), value).is_some() {
                return Err(fail("a label that comes twice"));
            }
            match after.as_bytes().first() {
                Some(b',') => rest = &after[1..],
                Some(b'}') => {
                    rest = &after[1..];
                    break;
                }
                _ => return Err(fail("after a label")),
            }
        }
    }
    let value = rest.strip_prefix(' ').filter(|v| !v.contains(' ')).ok_or_else(|| fail("spaces"))?;
    Ok((name.to_string(), labels, value.parse().map_err(|_| fail("value"))?))
}

fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                '\\' => '\\',
                '"' => '"',
                _ => return None,
            }),
            c => value.push(c),
        }
    }
    None
}

#[test]
fn the_reader_itself_is_strict() {
    const HEAD: &str = "# HELP a_total x\n# TYPE a_total counter\n";
    assert_eq!(parse(&format!("{HEAD}a_total{{b=\"c\\\"\\\\\"}} 1\n"), false).unwrap().len(), 1);
    for wrong in [
        "a_total 1".to_string(),
        "a_total 1\n".to_string(),
        format!("{HEAD}a_total 1\na_total 1\n"),
        format!("{HEAD}b_total 1\n"),
        format!("{HEAD}a_total -1\n"),
        format!("{HEAD}a_total{{b=\"c}} 1\n"),
        format!("{HEAD}a_total{{b=\"c\",}} 1\n"),
        format!("{HEAD}a_total  1\n"),
        format!("{HEAD}\na_total 1\n"),
        format!("{HEAD}{HEAD}a_total 1\n"),
    ] {
        assert!(parse(&wrong, false).is_err(), "{wrong}");
    }
    assert!(parse(&format!("{HEAD}a_total 1\n"), true).is_err());
}
