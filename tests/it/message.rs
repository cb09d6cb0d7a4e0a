//! Properties of messages: any text in, a valid message out, the parts joined are the whole.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::time::Duration;

use proptest::prelude::*;
use watchdog::core::edge::{Edge, EdgeKind, Incident};
use watchdog::core::message::{Line, Message, Piece, Place, Sound, Style, compose, split, stories, utf16};
use watchdog::core::signal::{Severity, SignalKey};
use watchdog::core::time::Wall;
use watchdog::core::zone::Zone;
use watchdog::notifier::telegram::{Html, TEXT_LIMIT};

use crate::peer::html;

fn cases() -> ProptestConfig {
    ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() }
}

/// Text as hostile as it comes: markup, line ends, control and direction characters, wide emoji.
fn text() -> impl Strategy<Value = String> {
    const PIECES: [&str; 24] = [
        "<",
        ">",
        "&",
        ";",
        "</code>",
        "<b>",
        "&lt;",
        "&amp;lt;",
        "#",
        "\n",
        "\r\n",
        "\u{0}",
        "\u{1b}[2J",
        "\u{85}",
        "\u{2028}",
        "\u{202e}",
        "\u{200b}",
        "🔴 ",
        "\n🟢 #n1",
        "🔁",
        "› ",
        "connection refused",
        "🦀🦀🦀",
        "e\u{301}",
    ];
    let piece = prop_oneof![
        5 => (0..PIECES.len()).prop_map(|index| PIECES[index].to_string()),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn edge() -> impl Strategy<Value = Edge> {
    let kind = prop_oneof![
        Just(EdgeKind::Alert),
        Just(EdgeKind::Realert),
        Just(EdgeKind::Recovery),
        Just(EdgeKind::Unknown),
        Just(EdgeKind::Seen)
    ];
    let severity = prop_oneof![Just(Severity::Critical), Just(Severity::Warning), Just(Severity::Info)];
    let times = (any::<i64>(), any::<i64>(), any::<u64>());
    (kind, text(), text(), severity, text(), times, 0..30_u32, text()).prop_map(
        |(kind, key, title, severity, fact, (since, at, lasted), incident, reason)| Edge {
            kind,
            key: SignalKey::new(&format!("{key}/{incident}")),
            title,
            severity,
            fact,
            since: Wall(since),
            at: Wall(at),
            lasted: Duration::from_millis(lasted),
            incident: Incident(format!("n{incident}")),
            reason,
            ..Edge::default()
        },
    )
}

/// Lines without markup: what the parts must give back.
fn whole(message: &Message) -> String {
    let flat = |line: &Line| line.iter().map(|piece| piece.text.as_str()).collect::<String>();
    message.lines.iter().map(flat).collect::<Vec<_>>().join("\n")
}

/// Each part within the limit, readable by the strict reader, and all of them together the whole:
/// only line ends at a cut may be missing.
fn holds(message: &Message, limit: usize) -> Result<(), TestCaseError> {
    let parts = split(message, &Html, limit);
    let whole = whole(message);
    let mut rest = whole.trim_start_matches('\n');
    for (index, part) in parts.iter().enumerate() {
        prop_assert!(utf16(part) <= limit, "{} units in {part:?}", utf16(part));
        let visible = html::parse(part).map_err(|e| TestCaseError::fail(format!("{e}: {part:?}")))?;
        let number = format!("\n({}/{})", index + 1, parts.len());
        let content = if parts.len() > 1 { visible.strip_suffix(&number).unwrap() } else { &visible };
        prop_assert!(!content.is_empty());
        rest = rest.strip_prefix(content).ok_or_else(|| TestCaseError::fail(format!("{content:?} of {rest:?}")))?;
        rest = rest.trim_start_matches('\n');
    }
    prop_assert_eq!(rest, "");
    Ok(())
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_edges_make_a_valid_message_that_names_them_all(
        edges in prop_oneof![9 => prop::collection::vec(edge(), 1..4), 1 => prop::collection::vec(edge(), 8..14)],
        instance in text(),
        now in any::<i64>(),
    ) {
        let stories = stories(edges.clone());
        let message = compose(&stories, &Place { instance: &instance, zone: &Zone::default(), now: Wall(now) });
        holds(&message, TEXT_LIMIT)?;
        let whole = whole(&message);
        for edge in &edges {
            let named = whole.lines().any(|line| !line.starts_with('›') && line.contains(&edge.incident.to_string()));
            prop_assert!(named, "{} in {whole}", edge.incident);
            prop_assert!(message.incidents.contains(&edge.incident));
        }
        prop_assert_eq!(message.incidents.len(), stories.len());
        prop_assert!(!whole.chars().any(|c| c != '\n' && c.is_control()), "{:?}", whole);
        // No story has more than a headline, two facts and the times, whatever the facts hold.
        prop_assert!(whole.lines().count() <= 1 + 5 * stories.len(), "{}", whole);
        // The first line of several stories is the operator's own instance name and counts.
        let body = whole.lines().skip(usize::from(stories.len() > 1));
        let heads = body.filter(|line| line.starts_with(['🔴', '🟠', '🔵', '🔁', '🟢', '⚪'])).count();
        prop_assert_eq!(heads, stories.len(), "{}", whole);
    }

    #[test]
    fn the_parts_joined_are_the_whole_at_any_limit(
        lines in prop::collection::vec(prop::collection::vec((0..3_usize, prop::collection::vec(0..8_usize, 0..60)), 0..4), 0..8),
        limit in 64..400_usize,
    ) {
        let styles = [Style::Plain, Style::Bold, Style::Code];
        let letters = ['<', '>', '&', 'a', ' ', '🦀', '\u{301}', 'é'];
        let line = |pieces: Vec<(usize, Vec<usize>)>| -> Line {
            let piece = |(style, text): (usize, Vec<usize>)| Piece {
                text: text.into_iter().map(|letter| letters[letter]).collect(),
                style: styles[style],
            };
            pieces.into_iter().map(piece).collect()
        };
        let lines = lines.into_iter().map(line).collect();
        holds(&Message { lines, incidents: Vec::new(), reply_to: None, sound: Sound::Loud }, limit)?;
    }
}

#[test]
fn a_storm_of_thousands_names_every_signal_in_parts_that_fit() {
    let edges: Vec<Edge> = (0..3_000)
        .map(|n| Edge {
            kind: EdgeKind::Alert,
            key: SignalKey::new(&format!("probe/<{n}>&")),
            title: String::new(),
            severity: Severity::Critical,
            fact: "connection refused".to_string(),
            since: Wall(0),
            at: Wall(0),
            lasted: Duration::ZERO,
            incident: Incident(format!("n{n}")),
            reason: String::new(),
            ..Edge::default()
        })
        .collect();
    let parts = split(
        &compose(&stories(edges), &Place { instance: "web-1", zone: &Zone::default(), now: Wall(0) }),
        &Html,
        TEXT_LIMIT,
    );
    assert!(parts.len() > 20 && parts.iter().all(|part| utf16(part) <= TEXT_LIMIT), "{} parts", parts.len());
    let text: String = parts.iter().map(|part| html::parse(part).unwrap()).collect();
    assert!((0..3_000).all(|n| text.contains(&format!("probe/<{n}>& #n{n}"))));
}
