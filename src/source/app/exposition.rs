//! Reads a metrics page: Prometheus text 0.0.4 and 1.0.0, and OpenMetrics 1.0.
//!
//! One pass over the lines; only values of series that some rule asks for are kept, so a page of a
//! million series costs no more memory than its bytes. A line that cannot be read spoils the whole
//! page, as in Prometheus: a half-understood page may hide the very series that matters. Values stay
//! what they are, also not-a-number; judging is for others.

use super::selector::{Label, Selector, comma, is_metric_name, label_name, quoted};

/// Samples on one page.
pub const SAMPLES: usize = 1_000_000;
/// Bytes of one line.
pub const LINE: usize = 64 * 1024;
/// Series kept for one rule.
pub const MATCHES: usize = 10_000;

/// The label by which a summary tells its quantiles apart.
const QUANTILE: &str = "quantile";

/// The series of one page that a selector means.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// Their values in the order of the page, at most [`MATCHES`].
    pub values: Vec<f64>,
    /// There were more than [`MATCHES`].
    pub more: bool,
    /// The page says that this metric is a counter.
    pub counter: bool,
    /// Some of them is not a number, and is not a quantile of a summary.
    pub odd: bool,
}

/// Reads a page; one [`Series`] per selector. With `openmetrics` the page must end in `# EOF`.
/// An error is a reason in words that names a line but not its content.
pub fn read(page: &str, openmetrics: bool, selectors: &[Selector]) -> Result<Vec<Series>, String> {
    let mut found = vec![Series::default(); selectors.len()];
    let mut labels: Vec<Label<'_>> = Vec::new();
    let (mut samples, mut ended) = (0_usize, false);
    for (index, line) in page.split('\n').enumerate() {
        let number = index.saturating_add(1);
        if line.len() > LINE {
            return Err(format!("line {number} of the answer is longer than {} KiB", LINE / 1024));
        }
        let line = line.strip_suffix('\r').unwrap_or(line).trim_matches([' ', '\t']);
        if line.is_empty() {
            continue;
        }
        if ended {
            return Err(format!("something follows the end of the answer in line {number}"));
        }
        if let Some(comment) = line.strip_prefix('#') {
            ended = openmetrics && comment == " EOF";
            note_type(comment, selectors, &mut found);
            continue;
        }
        samples = samples.saturating_add(1);
        if samples > SAMPLES {
            return Err(format!("the answer has more than {SAMPLES} series"));
        }
        labels.clear();
        let Some((name, value)) = sample(line, &mut labels) else {
            return Err(format!("line {number} of the answer is neither a sample nor a comment"));
        };
        for (selector, series) in selectors.iter().zip(&mut found) {
            if *selector.name == *name && selector.matches(&labels) {
                if series.values.len() < MATCHES {
                    series.values.push(value);
                    series.odd |= value.is_nan() && !labels.iter().any(|(name, _)| name == QUANTILE);
                } else {
                    series.more = true;
                }
            }
        }
    }
    if openmetrics && !ended {
        return Err("the answer is cut: it does not end in # EOF".to_string());
    }
    if samples == 0 && !openmetrics {
        return Err("the answer holds no metric".to_string());
    }
    Ok(found)
}

/// Remembers `# TYPE name counter` for the selectors that mean this metric. `OpenMetrics` leaves the
/// `_total` of a counter's samples out of this line.
fn note_type(comment: &str, selectors: &[Selector], found: &mut [Series]) {
    let Some(rest) = comment.trim_start().strip_prefix("TYPE").filter(|rest| rest.starts_with([' ', '\t'])) else {
        return;
    };
    let rest = rest.trim_start();
    let (name, kind) = match quoted(rest) {
        Some((name, kind)) => (name, kind),
        None => match rest.split_once([' ', '\t']) {
            Some((name, kind)) => (name.into(), kind),
            None => return,
        },
    };
    if kind.trim() != "counter" {
        return;
    }
    for (selector, series) in selectors.iter().zip(found) {
        let bare = selector.name.strip_suffix("_total").unwrap_or(&selector.name);
        series.counter |= *selector.name == *name || *bare == *name;
    }
}

/// Takes one sample apart: its name and value; its labels into `labels`.
fn sample<'a>(line: &'a str, labels: &mut Vec<Label<'a>>) -> Option<(std::borrow::Cow<'a, str>, f64)> {
    let end = line.find(['{', ' ', '\t'])?;
    let (name, rest) = line.split_at_checked(end)?;
    let mut name = (!name.is_empty()).then_some(std::borrow::Cow::Borrowed(name));
    if name.as_deref().is_some_and(|name| !is_metric_name(name)) {
        return None;
    }
    let mut rest = rest.trim_start_matches([' ', '\t']);
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside.trim_start_matches([' ', '\t']);
        while !rest.starts_with('}') {
            let (label, after, was_quoted) = label_name(rest)?;
            let after = after.trim_start_matches([' ', '\t']);
            if let Some(value) = after.strip_prefix('=') {
                let value = value.trim_start_matches([' ', '\t']);
                let (value, after) = quoted(value).filter(|_| value.starts_with('"'))?;
                labels.push((label, value));
                rest = comma(after.trim_start_matches([' ', '\t']))?;
            } else if was_quoted && name.is_none() {
                name = Some(label);
                rest = comma(after)?;
            } else {
                return None;
            }
        }
        rest = rest.get(1..)?.trim_start_matches([' ', '\t']);
    }
    // What follows a lone # is an exemplar, which nobody asks for.
    let numbers = rest.split(" # ").next()?;
    let mut numbers = numbers.split([' ', '\t']).filter(|part| !part.is_empty());
    let value = number(numbers.next()?)?;
    if let Some(timestamp) = numbers.next() {
        timestamp.parse::<f64>().ok().filter(|t| t.is_finite())?;
    }
    if numbers.next().is_some() { None } else { Some((name?, value)) }
}

/// A value as Go's `ParseFloat` reads it. One too large for a float is infinite, which is where it stands against
/// every limit.
fn number(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    Some(match unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X")) {
        Some(hex) => {
            let size = hexadecimal(hex)?;
            if text.starts_with('-') { -size } else { size }
        }
        None => text.parse::<f64>().ok()?,
    })
}

/// `1.8p3` as in C; the exponent must be there.
fn hexadecimal(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = 0.0_f64;
    for digit in whole.chars() {
        value = value * 16.0 + f64::from(digit.to_digit(16)?);
    }
    let mut weight = 1.0 / 16.0;
    for digit in fraction.chars() {
        value += weight * f64::from(digit.to_digit(16)?);
        weight /= 16.0;
    }
    // In two halves: 2^-1074 is a number, and so is the value, where 2^1074 is not.
    let half = exponent.clamp(-2_200, 2_200) / 2;
    let rest = exponent.clamp(-2_200, 2_200) - half;
    Some(value * 2.0_f64.powi(half) * 2.0_f64.powi(rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(page: &str, selector: &str) -> Result<Series, String> {
        let selectors = [Selector::parse(selector).unwrap()];
        read(page, false, &selectors).map(|mut found| found.remove(0))
    }

    fn value(line: &str, selector: &str) -> f64 {
        let found = one(line, selector).unwrap();
        assert_eq!(found.values.len(), 1, "{line}");
        found.values[0]
    }

    #[test]
    fn samples_are_read_in_every_spelling() {
        let table: &[(&str, &str, f64)] = &[
            ("a 1", "a", 1.0),
            ("a\t1.5e-3\n", "a", 0.0015),
            ("a{} 2\r\n", "a", 2.0),
            ("a{x=\"1\",} 3", "a{x=\"1\"}", 3.0),
            ("a { x = \"1\" , y = \"2\" } 4", "a{y=\"2\"}", 4.0),
            ("a{x=\"}, # \\\"{\\\\\\n\"} 5 1700000000000", "a{x=\"}, # \\\"{\\\\\\n\"}", 5.0),
            ("a 6 -1700000000000", "a", 6.0),
            ("a +Inf", "a", f64::INFINITY),
            ("a -inf", "a", f64::NEG_INFINITY),
            ("a 0x1.8p3", "a", 12.0),
            ("a -0X.8P1", "a", -1.0),
            ("a 0x1p-1074", "a", 5e-324),
            ("a_bucket{le=\"1\"} 17 # {trace_id=\"abc }\"} 0.67 1700000000.123", "a_bucket", 17.0),
            ("{\"my.metric\",\"a.b\"=\"c\"} 8", "{\"my.metric\", \"a.b\"=\"c\"}", 8.0),
            ("a:b:c 9", "a:b:c", 9.0),
            ("a{x=\"ü\"} 10", "a{x='ü'}", 10.0),
            ("# HELP a text\n# TYPE a gauge\n# any comment\n\na 11\n", "a", 11.0),
        ];
        for (page, selector, expected) in table {
            assert_eq!(value(page, selector), *expected, "{page}");
        }
        for page in ["a NaN", "a nan", "a -NaN", "a +nan"] {
            assert!(value(page, "a").is_nan(), "{page}");
        }
        for (page, expected) in
            [("a 1e999", f64::INFINITY), ("a -1e999", f64::NEG_INFINITY), ("a 0x1p2000", f64::INFINITY)]
        {
            assert_eq!(value(page, "a"), expected, "too large for a float is beyond every limit: {page}");
        }
    }

    #[test]
    fn one_bad_line_spoils_the_page() {
        for line in [
            "a",
            "a{",
            "a{x} 1",
            "a{x=} 1",
            "a{x=1} 1",
            "a{x=\"1} 1",
            "a{x=\"1\" 1",
            "a{x=\"1\"}",
            "a one",
            "a 1 two",
            "a 1 2 3",
            "2a 1",
            "a-b 1",
            "<html>",
            "a{'x'=\"1\"} 1x",
            "{x=\"1\"} 1",
            "{} 1",
            "a 0x",
            "a 0x1",
            "a 0xp1",
            "a 1_000",
            "{\"status\": \"ok\"}",
            "a{x='1'} 1",
            "a{1x=\"1\"} 1",
            "a 1 NaN",
        ] {
            let page = format!("good 1\n{line}\n");
            let why = one(&page, "good").unwrap_err();
            assert!(why.starts_with("line 2"), "{line}: {why}");
        }
    }

    #[test]
    fn openmetrics_must_end_and_end_only_once() {
        let selectors = [Selector::parse("jobs_total").unwrap()];
        let page = "# TYPE jobs counter\njobs_total 5 1700000000.5\njobs_created 1\n# EOF\n";
        let found = read(page, true, &selectors).unwrap();
        assert_eq!((found[0].values[0], found[0].counter), (5.0, true));
        assert!(read("jobs_total 5\n", true, &selectors).unwrap_err().contains("cut"));
        assert!(read("# EOF\njobs_total 5\n", true, &selectors).unwrap_err().contains("follows"));
        assert!(read("# EOF", true, &selectors).unwrap()[0].values.is_empty());
        assert!(read("# EOF\n", false, &selectors).unwrap_err().contains("no metric"));
    }

    #[test]
    fn a_type_counts_for_the_metric_it_names() {
        for (page, counter) in [
            ("# TYPE a_total counter\na_total 1", true),
            ("# TYPE a counter\na_total 1", true),
            ("#TYPE \"a_total\" counter\na_total 1", true),
            ("# TYPE a_total gauge\na_total 1", false),
            ("# TYPE b counter\na_total 1", false),
            ("# TYPE a_total counter\n# TYPE a_total gauge\na_total 1", true),
            ("a_total 1", false),
        ] {
            assert_eq!(one(page, "a_total").unwrap().counter, counter, "{page}");
        }
    }

    #[test]
    fn a_quantile_without_a_value_is_told_from_any_other() {
        for (page, odd) in [
            ("a{quantile=\"0.99\"} NaN", false),
            ("a{quantile=\"0.99\"} NaN\na{quantile=\"0.5\"} 1", false),
            ("a{le=\"1\"} NaN", true),
            ("a NaN", true),
            ("a{quantile=\"0.99\"} NaN\na NaN", true),
            ("a{quantile=\"0.99\"} 1", false),
        ] {
            assert_eq!(one(page, "a").unwrap().odd, odd, "{page}");
        }
    }

    #[test]
    fn every_limit_is_a_reason() {
        let long = format!("a{{x=\"{}\"}} 1\n", "y".repeat(LINE));
        assert!(one(&long, "a").unwrap_err().contains("longer than 64 KiB"));
        let at_limit = format!("a{{x=\"{}\"}} 1\n", "y".repeat(LINE - 9));
        assert_eq!(one(&at_limit, "a").unwrap().values, [1.0]);
        let too_many = "b 1\n".repeat(SAMPLES + 1);
        assert!(one(&too_many, "a").unwrap_err().contains("more than 1000000"));
        let crowd = one(&"a 1\n".repeat(MATCHES + 1), "a").unwrap();
        assert_eq!((crowd.values.len(), crowd.more), (MATCHES, true));
    }

    const TOKENS: &[&str] = &[
        "a",
        "b",
        "{",
        "}",
        "=",
        "\"",
        "\"x\"",
        ",",
        "\\",
        "\\n",
        "#",
        " # ",
        "# TYPE a ",
        "# EOF",
        " ",
        "\t",
        "\r",
        "\n",
        "0",
        "1.5",
        "e9",
        "0x",
        "p3",
        "NaN",
        "+Inf",
        "-",
        "'",
        "!=",
        "=~",
        "ü",
        "\u{0}",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80), open in any::<bool>()) {
            let selectors = [Selector::parse("a{b!=\"c\"}").unwrap()];
            let _ = read(&String::from_utf8_lossy(&bytes), open, &selectors);
        }

        #[test]
        fn almost_metrics_are_read_or_refused(picks in prop::collection::vec(0..TOKENS.len(), 0..25), open in any::<bool>()) {
            let page: String = picks.into_iter().map(|pick| TOKENS[pick]).collect();
            let selectors = [Selector::parse("a").unwrap()];
            let _ = read(&page, open, &selectors);
            let _ = Selector::parse(&page);
        }

        #[test]
        fn a_label_that_is_escaped_reads_back(picks in prop::collection::vec(0..TOKENS.len(), 0..15), number in any::<f64>()) {
            let label: String = picks.into_iter().map(|pick| TOKENS[pick]).collect();
            let escaped = label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let line = format!("a{{x=\"{escaped}\"}} {number}\n");
            let selector = format!("a{{x=\"{escaped}\"}}");
            let read = value(&line, &selector);
            prop_assert!(read == number || (read.is_nan() && number.is_nan()));
        }
    }
}
