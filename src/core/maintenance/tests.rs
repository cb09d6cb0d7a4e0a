//! Windows over calendars and clocks that are changed, as tables.

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Wall {
    Wall(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

fn zone(name: &str) -> Zone {
    Zone::new(TimeZone::get(name).unwrap())
}

fn minutes(text: &str) -> u16 {
    let (hour, minute) = text.split_once(':').unwrap();
    hour.parse::<u16>().unwrap() * 60 + minute.parse::<u16>().unwrap()
}

fn window(days: Days, hours: &str, zone: Zone) -> Window {
    let (from, to) = hours.split_once('-').unwrap();
    let hours = Hours::new(minutes(from), minutes(to)).unwrap();
    Window { patterns: vec!["*".to_string()], when: When::Again(days, hours), zone, reason: String::new() }
}

const DAILY: Days = Days::Week([true; 7]);

fn week(days: &[Weekday]) -> Days {
    let mut week = [false; 7];
    for day in days {
        week[usize::try_from(day.to_monday_zero_offset()).unwrap()] = true;
    }
    Days::Week(week)
}

#[allow(clippy::unnecessary_wraps, reason = "a window is open or not")]
fn span(from: &str, to: &str) -> Option<Span> {
    Some(Span { from: at(from), to: at(to) })
}

#[test]
fn a_weekly_window_is_open_on_its_days_from_its_beginning_to_just_before_its_end() {
    // 2026-01-03 is a Saturday.
    let window = window(week(&[Weekday::Saturday, Weekday::Sunday]), "02:00-04:00", Zone::default());
    let saturday = span("2026-01-03T02:00:00Z", "2026-01-03T04:00:00Z");
    let table = [
        ("2026-01-02T03:00:00Z", None, saturday),
        ("2026-01-03T01:59:59Z", None, saturday),
        ("2026-01-03T02:00:00Z", saturday, span("2026-01-04T02:00:00Z", "2026-01-04T04:00:00Z")),
        ("2026-01-03T03:59:59Z", saturday, span("2026-01-04T02:00:00Z", "2026-01-04T04:00:00Z")),
        ("2026-01-03T04:00:00Z", None, span("2026-01-04T02:00:00Z", "2026-01-04T04:00:00Z")),
        ("2026-01-04T05:00:00Z", None, span("2026-01-10T02:00:00Z", "2026-01-10T04:00:00Z")),
    ];
    for (now, open, next) in table {
        assert_eq!((window.open(at(now)), window.next(at(now))), (open, next), "{now}");
    }
}

#[test]
fn a_window_across_midnight_belongs_to_the_day_on_which_it_begins() {
    let window = window(week(&[Weekday::Friday]), "22:00-06:00", Zone::default());
    let friday = span("2026-01-02T22:00:00Z", "2026-01-03T06:00:00Z");
    for (now, open) in [
        ("2026-01-02T05:00:00Z", None),
        ("2026-01-02T23:00:00Z", friday),
        ("2026-01-03T05:59:59Z", friday),
        ("2026-01-03T06:00:00Z", None),
        ("2026-01-03T23:00:00Z", None),
    ] {
        assert_eq!(window.open(at(now)), open, "{now}");
    }
}

#[test]
fn whole_days_that_follow_one_another_are_one_window() {
    let window = window(week(&[Weekday::Saturday, Weekday::Sunday]), "00:00-24:00", Zone::default());
    assert_eq!(window.open(at("2026-01-03T12:00:00Z")), span("2026-01-03T00:00:00Z", "2026-01-05T00:00:00Z"));
    assert_eq!(window.open(at("2026-01-04T12:00:00Z")), span("2026-01-04T00:00:00Z", "2026-01-05T00:00:00Z"));
    assert_eq!(window.open(at("2026-01-05T00:00:00Z")), None);
    assert!(!window.is_endless());
    let always = self::window(DAILY, "00:00-24:00", Zone::default());
    assert!(always.is_endless() && always.open(at("2026-01-03T12:00:00Z")).is_some());
}

#[test]
fn days_of_the_month_know_its_end_and_leap_years() {
    let first_saturday = Days::Nth(1, Weekday::Saturday);
    let table = [
        (Days::Month(1), "2026-01-15T00:00:00Z", "2026-02-01"),
        (Days::Month(31), "2026-01-31T12:00:00Z", "2026-03-31"),
        (Days::Month(30), "2026-01-30T12:00:00Z", "2026-03-30"),
        (Days::Month(29), "2026-01-29T12:00:00Z", "2026-03-29"),
        (Days::Month(29), "2028-01-29T12:00:00Z", "2028-02-29"),
        (Days::Last, "2026-02-01T00:00:00Z", "2026-02-28"),
        (Days::Last, "2028-02-01T00:00:00Z", "2028-02-29"),
        (Days::Last, "2026-04-01T00:00:00Z", "2026-04-30"),
        (Days::Last, "2026-12-31T12:00:00Z", "2027-01-31"),
        (first_saturday, "2026-01-03T12:00:00Z", "2026-02-07"),
        (first_saturday, "2026-01-01T00:00:00Z", "2026-01-03"),
        (Days::Nth(4, Weekday::Sunday), "2026-02-01T12:00:00Z", "2026-02-22"),
        (Days::Nth(-1, Weekday::Sunday), "2026-03-01T00:00:00Z", "2026-03-29"),
        // The clock was never set, and the year 2100 is no leap year.
        (Days::Month(29), "2100-02-01T00:00:00Z", "2100-03-29"),
    ];
    for (days, now, date) in table {
        let window = window(days, "02:00-04:00", Zone::default());
        let expected = span(&format!("{date}T02:00:00Z"), &format!("{date}T04:00:00Z"));
        assert_eq!(window.next(at(now)), expected, "{days:?} after {now}");
        assert_eq!(window.open(at(&format!("{date}T03:00:00Z"))), expected, "{days:?} on {date}");
    }
}

#[test]
fn the_last_day_of_a_month_may_end_in_the_next() {
    let window = window(Days::Last, "23:00-01:00", Zone::default());
    let leap = span("2028-02-29T23:00:00Z", "2028-03-01T01:00:00Z");
    assert_eq!(window.open(at("2028-03-01T00:30:00Z")), leap);
    assert_eq!(window.open(at("2026-12-31T23:30:00Z")), span("2026-12-31T23:00:00Z", "2027-01-01T01:00:00Z"));
    assert_eq!(window.open(at("2028-02-28T23:30:00Z")), None);
}

/// Berlin's clocks go from 2 to 3 on 2026-03-29 at 01:00 UTC.
#[test]
fn an_hour_that_is_missing_begins_when_it_would_have_and_loses_nobody_a_window() {
    let table = [
        // Around it.
        ("01:00-04:00", "2026-03-29T00:00:00Z", "2026-03-29T02:00:00Z"),
        // Begins in it: when the clocks are changed.
        ("02:30-04:00", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"),
        ("02:30-03:30", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"),
        // Ends in it: as long as on other days.
        ("01:00-02:30", "2026-03-29T00:00:00Z", "2026-03-29T01:30:00Z"),
        ("01:00-02:00", "2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z"),
        // Lies in it: as long as on other days, after it.
        ("02:00-03:00", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"),
        ("02:15-02:45", "2026-03-29T01:00:00Z", "2026-03-29T01:45:00Z"),
        ("02:30-03:00", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"),
        // Beside it.
        ("03:00-04:00", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"),
        ("22:00-06:00", "2026-03-29T20:00:00Z", "2026-03-30T04:00:00Z"),
    ];
    for (hours, from, to) in table {
        let window = window(DAILY, hours, zone("Europe/Berlin"));
        let found =
            window.on(jiff::civil::date(2026, 3, 29), Hours::new(minutes(&hours[..5]), minutes(&hours[6..])).unwrap());
        assert_eq!(found, span(from, to), "{hours}");
        assert_eq!(window.open(at(from)), span(from, to), "{hours} is open at its beginning");
        assert_ne!(window.open(Wall(at(from).0 - 1)).map(|span| span.to), Some(at(to)), "{hours}: not before");
    }
    // The night before has an hour less.
    let night = window(DAILY, "22:00-06:00", zone("Europe/Berlin"));
    assert_eq!(night.open(at("2026-03-28T22:00:00Z")), span("2026-03-28T21:00:00Z", "2026-03-29T04:00:00Z"));
}

/// Berlin's clocks go from 3 to 2 on 2026-10-25 at 01:00 UTC: 02:00 to 03:00 is there twice.
#[test]
fn an_hour_that_is_double_is_covered_from_its_first_beginning_to_its_second_end() {
    let table = [
        ("02:00-03:00", "2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z"),
        ("02:15-02:45", "2026-10-25T00:15:00Z", "2026-10-25T01:45:00Z"),
        ("01:00-02:30", "2026-10-24T23:00:00Z", "2026-10-25T01:30:00Z"),
        ("02:30-04:00", "2026-10-25T00:30:00Z", "2026-10-25T03:00:00Z"),
        ("03:00-04:00", "2026-10-25T02:00:00Z", "2026-10-25T03:00:00Z"),
        ("01:00-02:00", "2026-10-24T23:00:00Z", "2026-10-25T01:00:00Z"),
    ];
    for (hours, from, to) in table {
        let window = window(week(&[Weekday::Sunday]), hours, zone("Europe/Berlin"));
        let (first, last) = (at(from), Wall(at(to).0 - 1));
        assert_eq!(window.open(first), span(from, to), "{hours}");
        assert_eq!(window.open(last), span(from, to), "{hours}");
        assert_eq!((window.open(Wall(first.0 - 1)), window.open(at(to))), (None, None), "{hours}");
    }
}

#[test]
fn midnight_itself_may_be_missing_or_double_and_a_whole_day_as_well() {
    // Cairo's clocks went from 0 to 1 on 2023-04-28, and from 24 back to 23 on 2023-10-26.
    let cairo = window(week(&[Weekday::Friday]), "00:00-01:30", zone("Africa/Cairo"));
    assert_eq!(cairo.open(at("2023-04-27T22:00:00Z")), span("2023-04-27T22:00:00Z", "2023-04-27T22:30:00Z"));
    let late = window(week(&[Weekday::Thursday]), "23:30-23:45", zone("Africa/Cairo"));
    assert_eq!(late.open(at("2023-10-26T21:00:00Z")), span("2023-10-26T20:30:00Z", "2023-10-26T21:45:00Z"));
    // Samoa left out 2011-12-30, a Friday, altogether.
    let apia = window(week(&[Weekday::Friday]), "08:00-09:00", zone("Pacific/Apia"));
    let missing = apia.next(at("2011-12-30T09:00:00Z")).unwrap();
    assert_eq!(missing.from, at("2011-12-30T10:00:00Z"), "when the day after began");
    assert!(missing.to > missing.from);
}

#[test]
fn a_window_is_meant_in_its_own_zone() {
    let new_york = window(week(&[Weekday::Sunday]), "22:00-23:00", zone("America/New_York"));
    // Sunday evening there is Monday in UTC.
    assert_eq!(new_york.open(at("2026-01-05T03:30:00Z")), span("2026-01-05T03:00:00Z", "2026-01-05T04:00:00Z"));
    assert_eq!(new_york.open(at("2026-01-04T22:30:00Z")), None);
}

#[test]
fn one_that_is_there_once_opens_again_only_for_a_clock_that_went_back() {
    let once = Span { from: at("2026-12-01T22:00:00Z"), to: at("2026-12-02T02:00:00Z") };
    let window = Window { when: When::Once(once), ..window(DAILY, "00:00-01:00", Zone::default()) };
    for (now, open, next) in [
        ("2026-12-01T21:59:59Z", None, Some(once)),
        ("2026-12-01T22:00:00Z", Some(once), None),
        ("2026-12-02T01:59:59Z", Some(once), None),
        ("2026-12-02T02:00:00Z", None, None),
        ("2027-12-01T22:00:00Z", None, None),
        // Set back by an hour.
        ("2026-12-02T01:00:00Z", Some(once), None),
    ] {
        assert_eq!((window.open(at(now)), window.next(at(now))), (open, next), "{now}");
    }
}

#[test]
fn times_that_are_none_make_no_window_and_globs_name_signals() {
    assert_eq!(Hours::new(DAY, 60), None);
    assert_eq!(Hours::new(60, DAY + 61), None);
    assert_eq!(Hours::new(0, DAY).map(Hours::length), Some(Duration::from_hours(24)));
    assert_eq!(Hours::new(120, 120).map(Hours::length), Some(Duration::from_hours(24)));
    let window = Window {
        patterns: vec!["container/shop-*".to_string(), "probe/db".to_string()],
        ..window(DAILY, "00:00-01:00", Zone::default())
    };
    for (key, named) in
        [("container/shop-web-1", true), ("probe/db", true), ("probe/db2", false), ("host/memory", false)]
    {
        assert_eq!(window.names(&SignalKey::new(key)), named, "{key}");
    }
}

fn any_days() -> impl Strategy<Value = Days> {
    prop_oneof![
        any::<[bool; 7]>().prop_map(Days::Week),
        (1i8..=31).prop_map(Days::Month),
        Just(Days::Last),
        (prop_oneof![Just(-1i8), 1i8..=4], 0i8..7)
            .prop_map(|(nth, day)| Days::Nth(nth, Weekday::from_monday_zero_offset(day).unwrap())),
    ]
}

proptest! {
    #[test]
    fn what_is_open_holds_now_and_ends_and_what_is_next_is_later(
        days in any_days(),
        (from, to) in (0u16..DAY, 0u16..=DAY),
        name in prop_oneof![Just("Europe/Berlin"), Just("America/New_York"), Just("Australia/Lord_Howe"), Just("UTC")],
        now in 1_577_836_800_000_i64..2_208_988_800_000,
    ) {
        let Some(hours) = Hours::new(from, to) else { return Ok(()) };
        let window = Window { when: When::Again(days, hours), ..window(DAILY, "00:00-01:00", zone(name)) };
        let now = Wall(now);
        if let Some(open) = window.open(now) {
            prop_assert!(open.holds(now));
            prop_assert!(window.open(Wall(open.to.0 - 1)).is_some());
            prop_assert!(open.to.since(open.from) <= Duration::from_hours(26) * (JOINED as u32 + 1));
        }
        if let Some(next) = window.next(now) {
            prop_assert!(next.from > now && next.to > next.from);
            prop_assert!(window.open(next.from).is_some());
        }
    }

    #[test]
    fn no_clock_value_is_too_much(now in any::<i64>(), days in any_days()) {
        let window = Window { when: When::Again(days, Hours::new(60, 30).unwrap()), ..window(DAILY, "00:00-01:00", zone("Europe/Berlin")) };
        let _ = (window.open(Wall(now)), window.next(Wall(now)));
    }
}
