//! From a value that was read to a [`Reading`] and its fact.
//!
//! Owns the words of the facts, the choice among several series, and the shape of an id in a key.
//! What cannot be told (not there, not a number) is unknown and never good. Knows the test only to
//! choose the worst of several series: judging is the core's.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::envelope::Found;
use super::exposition::{MATCHES, Series};
use super::settings::Nan;
use crate::core::name;
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

/// What the series of a metric mean to a test: the worst of them, or their sum. `nan` is what the rule says of
/// those that are not a number.
pub fn metric(series: &Series, what: &str, test: Test, nan: Option<Nan>) -> (Reading, Cow<'static, str>) {
    let values = &series.values;
    let unknown = |why: String| (Reading::Unknown, Cow::Owned(why));
    let nan = nan.unwrap_or(if series.odd { Nan::Unknown } else { Nan::Ignore });
    match (values.as_slice(), test) {
        ([], Test::Absent) => return (Reading::Absent, Cow::Owned(format!("{what} is not reported"))),
        ([], _) => return unknown(format!("{what} is not reported")),
        (_, Test::Absent) => return (Reading::Up, Cow::Owned(format!("{what} is reported"))),
        _ if series.more => return unknown(format!("more than {MATCHES} series match {what}")),
        _ => {}
    }
    let any_unclear = values.iter().any(|v| v.is_nan());
    let clear = || values.iter().copied().filter(|v| !v.is_nan());
    let is_threshold = matches!(test, Test::Above { .. } | Test::Below { .. });
    match (nan, test) {
        (Nan::Fire, Test::Above { .. }) if any_unclear => return not_a_number(f64::INFINITY, what),
        (Nan::Fire, Test::Below { .. }) if any_unclear => return not_a_number(f64::NEG_INFINITY, what),
        // A sum without some of its series would seem to rise when they come back.
        (Nan::Ignore, _) if any_unclear && (!is_threshold || clear().next().is_none()) => {
            return (Reading::Idle, Cow::Owned(format!("{what} is NaN: nothing was measured")));
        }
        _ => {}
    }
    let unclear = any_unclear && nan == Nan::Unknown;
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
    let count = if is_threshold { clear().count() } else { values.len() };
    let how = if count > 1 { format!(" ({how} of {count} series)") } else { String::new() };
    (Reading::Value(value), Cow::Owned(format!("{what} is {}{how}", number(value))))
}

fn not_a_number(value: f64, what: &str) -> (Reading, Cow<'static, str>) {
    (Reading::Value(value), Cow::Owned(format!("{what} is not a number (NaN)")))
}

fn number(value: f64) -> String {
    if value.abs() < 1e15 || value.is_infinite() { value.to_string() } else { format!("{value:e}") }
}

/// The id of an object: a text that is not empty, or a whole number.
pub fn id_of(found: &Found) -> Option<String> {
    match found {
        Found::Text(text) if !text.is_empty() => Some(text.clone()),
        Found::Whole(n) => Some(n.to_string()),
        _ => None,
    }
}

/// What these different ids are called in keys, in their order: at most 64 characters, odd ones as underscores. One
/// that is cut, or would be called like another, ends in a fingerprint, so that no two are taken for one.
pub fn names_of<'a>(ids: impl Iterator<Item = &'a String> + Clone) -> Vec<String> {
    let tame = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '@');
    let apart = |id: &str| name::bounded(id, ID, tame).into_owned();
    let plain = |id: &str| -> String {
        if id.chars().count() > ID { apart(id) } else { id.chars().map(|c| if tame(c) { c } else { '_' }).collect() }
    };
    let mut called: BTreeMap<String, usize> = BTreeMap::new();
    ids.clone().for_each(|id| *called.entry(plain(id)).or_default() += 1);
    ids.map(|id| {
        let name = plain(id);
        let is_shared = name != *id && called.get(&name).is_some_and(|count| *count > 1);
        if is_shared { apart(id) } else { name }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[f64], odd: bool) -> Series {
        Series { values: values.to_vec(), more: false, counter: false, odd }
    }

    #[test]
    fn what_is_not_a_number_means_what_the_rule_says() {
        let above = Test::Above { limit: 5.0, clear: 5.0 };
        let below = Test::Below { limit: 1.0, clear: 1.0 };
        let rises = Test::Increases { counter: true };
        let of = |values: &[f64], test, nan| metric(&series(values, false), "m", test, nan).0;
        let nan = f64::NAN;
        for test in [above, below, rises, Test::Stalls] {
            assert_eq!(of(&[nan], test, None), Reading::Idle, "a quantile by itself");
            assert_eq!(of(&[nan], test, Some(Nan::Ignore)), Reading::Idle);
            assert_eq!(of(&[nan], test, Some(Nan::Unknown)), Reading::Unknown);
            assert_eq!(metric(&series(&[nan], true), "m", test, None).0, Reading::Unknown, "any other metric");
        }
        assert_eq!(of(&[nan, 4.0], above, None), Reading::Value(4.0), "the rest is judged");
        assert_eq!(of(&[nan, 9.0], above, None), Reading::Value(9.0));
        assert_eq!(of(&[nan, 9.0], rises, None), Reading::Idle, "a sum without some of its series is not a sum");
        assert_eq!(of(&[nan, 4.0], above, Some(Nan::Fire)), Reading::Value(f64::INFINITY));
        assert_eq!(of(&[nan, 4.0], below, Some(Nan::Fire)), Reading::Value(f64::NEG_INFINITY));
        assert_eq!(of(&[nan], Test::Absent, None), Reading::Up, "it is reported");
        let (_, fact) = metric(&series(&[nan, 4.0, 3.0], false), "m", above, None);
        assert_eq!(fact, "m is 4 (the highest of 2 series)");
        assert_eq!(of(&[f64::INFINITY, f64::NEG_INFINITY], rises, None), Reading::Unknown);
    }

    #[test]
    fn several_series_are_judged_by_the_worst_and_counted_by_their_sum() {
        let above = Test::Above { limit: 5.0, clear: 5.0 };
        let below = Test::Below { limit: 1.0, clear: 1.0 };
        let rises = Test::Increases { counter: false };
        let of = |values: &[f64], test: Test| metric(&series(values, true), "m", test, None).0;
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
    fn ids_become_tame_parts_of_keys_and_stay_apart() {
        let names = |ids: &[&str]| names_of(ids.iter().map(ToString::to_string).collect::<Vec<_>>().iter());
        assert_eq!(names(&["run 7/ü\n<b>", "run-7:ü@a.b"]), ["run_7_ü__b_", "run-7:ü@a.b"]);
        let long = "x".repeat(64);
        let cut = names(&[&long, &format!("{long}a"), &format!("{long}b")]);
        assert_eq!(cut[0], long, "what fits stays as it is");
        assert!(cut[1] != cut[2] && cut.iter().all(|name| name.len() == 64), "{cut:?}");
        assert_eq!(cut[1], names(&[&format!("{long}a")])[0], "whoever else is there");
        let odd = names(&["run 7", "run/7", "run_7"]);
        assert_eq!(odd[2], "run_7");
        assert!(odd[0].starts_with("run_7-") && odd[1].starts_with("run_7-") && odd[0] != odd[1], "{odd:?}");
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
