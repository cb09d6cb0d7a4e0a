//! From a value that was read to a [`Reading`] and its fact.
//!
//! Owns the words of the facts, the choice among several series, and the shape of an id in a key.
//! What cannot be told (not there, not a number) is unknown and never good. Knows the test only to
//! choose the worst of several series: judging is the core's.

use std::borrow::Cow;

use super::envelope::Found;
use super::exposition::{MATCHES, Series};
use crate::core::rule::Test;
use crate::core::signal::Reading;

/// Characters of an id in a key.
const ID: usize = 64;

/// What a value of an envelope means to a test.
pub fn reading(found: &Found, what: &str, test: Test) -> (Reading, Cow<'static, str>) {
    let absent = test == Test::Absent;
    match (found, found.number()) {
        (_, Some(n)) => (Reading::Value(n), Cow::Owned(format!("{what} is {}", number(n)))),
        (Found::Missing | Found::Null, _) if absent => (Reading::Absent, Cow::Owned(format!("{what} is not reported"))),
        (Found::Missing | Found::Null, _) => (Reading::Unknown, Cow::Owned(format!("{what} is not reported"))),
        _ if absent => (Reading::Up, Cow::Owned(format!("{what} is reported"))),
        (Found::Text(_), _) => (Reading::Unknown, Cow::Owned(format!("{what} is a text, not a number"))),
        _ => (Reading::Unknown, Cow::Owned(format!("{what} is a list or an object, not a number"))),
    }
}

/// What the series of a metric mean to a test: the worst of them, or their sum.
pub fn metric(series: &Series, what: &str, test: Test) -> (Reading, Cow<'static, str>) {
    let values = &series.values;
    let unknown = |why: String| (Reading::Unknown, Cow::Owned(why));
    match (values.as_slice(), test) {
        ([], Test::Absent) => return (Reading::Absent, Cow::Owned(format!("{what} is not reported"))),
        ([], _) => return unknown(format!("{what} is not reported")),
        (_, Test::Absent) => return (Reading::Up, Cow::Owned(format!("{what} is reported"))),
        _ if series.more => return unknown(format!("more than {MATCHES} series match {what}")),
        _ => {}
    }
    let unclear = values.iter().any(|v| v.is_nan());
    let clear = || values.iter().copied().filter(|v| !v.is_nan());
    let (value, how) = match test {
        // A number that is bad is bad, whatever else cannot be told.
        Test::Above { limit, .. } => {
            let worst = clear().fold(f64::NEG_INFINITY, f64::max);
            (if unclear && worst <= limit { f64::NAN } else { worst }, "the highest")
        }
        Test::Below { limit, .. } => {
            let worst = clear().fold(f64::INFINITY, f64::min);
            (if unclear && worst >= limit { f64::NAN } else { worst }, "the lowest")
        }
        _ => {
            // Added in the order of their size, so that a page in another order has the same sum.
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            (sorted.into_iter().sum(), "the sum")
        }
    };
    if value.is_nan() {
        return unknown(format!("{what} is not a number"));
    }
    let how = if values.len() > 1 { format!(" ({how} of {} series)", values.len()) } else { String::new() };
    (Reading::Value(value), Cow::Owned(format!("{what} is {}{how}", number(value))))
}

fn number(value: f64) -> String {
    if value.abs() < 1e15 || value.is_infinite() { value.to_string() } else { format!("{value:e}") }
}

/// The id of an object as it stands in a key: at most 64 characters, odd ones as underscores.
pub fn id_of(found: &Found) -> Option<String> {
    let text = match found {
        Found::Text(text) if !text.is_empty() => text.clone(),
        Found::Whole(n) => n.to_string(),
        _ => return None,
    };
    let tame = |c: char| if c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '@') { c } else { '_' };
    Some(text.chars().take(ID).map(tame).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_series_are_judged_by_the_worst_and_counted_by_their_sum() {
        let above = Test::Above { limit: 5.0, clear: 5.0 };
        let below = Test::Below { limit: 1.0, clear: 1.0 };
        let rises = Test::Increases { counter: false };
        let of = |values: &[f64], test: Test| {
            metric(&Series { values: values.to_vec(), more: false, counter: false }, "m", test).0
        };
        assert_eq!(of(&[1.0, 9.0, 3.0], above), Reading::Value(9.0));
        assert_eq!(of(&[1.0, 9.0, 0.5], below), Reading::Value(0.5));
        assert_eq!(of(&[1.0, 9.0], rises), Reading::Value(10.0));
        assert_eq!(of(&[0.1, 0.7, 1e9], rises), of(&[1e9, 0.1, 0.7], rises));
        assert_eq!(of(&[f64::NAN], above), Reading::Unknown);
        assert_eq!(of(&[f64::NAN, 9.0], above), Reading::Value(9.0));
        assert_eq!(of(&[f64::NAN, 4.0], above), Reading::Unknown);
        assert_eq!(of(&[f64::NAN, 0.0], below), Reading::Value(0.0));
        assert_eq!(of(&[f64::NAN, 9.0], rises), Reading::Unknown);
        assert_eq!(of(&[f64::INFINITY, f64::NEG_INFINITY], rises), Reading::Unknown);
        assert_eq!(of(&[f64::INFINITY], above), Reading::Value(f64::INFINITY));
        assert_eq!(of(&[], above), Reading::Unknown);
        assert_eq!(of(&[], Test::Absent), Reading::Absent);
        assert_eq!(of(&[f64::NAN], Test::Absent), Reading::Up);
    }

    #[test]
    fn an_id_becomes_a_tame_part_of_a_key() {
        let text = |t: &str| id_of(&Found::Text(t.to_string()));
        assert_eq!(text("run 7/ü\n<b>").as_deref(), Some("run_7_ü__b_"));
        assert_eq!(text(&"x".repeat(200)).unwrap().len(), 64);
        assert_eq!(id_of(&Found::Whole(9_007_199_254_740_993)).as_deref(), Some("9007199254740993"));
        for none in [Found::Text(String::new()), Found::Null, Found::Real(1.5), Found::Flag(true), Found::Missing] {
            assert_eq!(id_of(&none), None);
        }
    }

    #[test]
    fn long_numbers_stay_readable() {
        assert_eq!(number(5.0), "5");
        assert_eq!(number(0.25), "0.25");
        assert_eq!(number(1e300), "1e300");
        assert_eq!(number(f64::INFINITY), "inf");
    }
}
