//! Messages, read as a person would.

use std::time::Duration;

use super::super::signal::SignalKey;
use super::*;

/// 2026-01-01T00:00:00Z.
const NEW_YEAR: i64 = 1_767_225_600_000;

struct Bare;

impl Markup for Bare {
    fn open(&self, style: Style) -> &'static str {
        match style {
            Style::Plain => "",
            Style::Bold => "*",
            Style::Code => "`",
        }
    }
    fn close(&self, style: Style) -> &'static str {
        self.open(style)
    }
    fn escape(&self, c: char, out: &mut String) {
        out.push(c);
    }
}

fn edge(kind: EdgeKind, incident: &str, minute: i64) -> Edge {
    let begin = NEW_YEAR + 600_000;
    Edge {
        kind,
        key: SignalKey::new(&format!("container/{incident}")),
        title: format!("container {incident}"),
        severity: Severity::Critical,
        fact: match kind {
            EdgeKind::Recovery => "running".to_string(),
            _ => "exit code 137".to_string(),
        },
        since: Wall(begin),
        at: Wall(begin + minute * 60_000),
        lasted: Duration::from_secs(u64::try_from(minute).unwrap() * 60),
        incident: Incident(incident.to_string()),
        reason: if kind == EdgeKind::Alert { "it was seen".to_string() } else { String::new() },
        ..Edge::default()
    }
}

fn told(edges: Vec<Edge>, minute: i64) -> String {
    let message = compose("web-1", &stories(edges), Wall(NEW_YEAR + 600_000 + minute * 60_000));
    split(&message, &Bare, 4096).join("\n=====\n")
}

#[test]
fn an_alert_says_who_what_why_and_since_when() {
    let mut alert = edge(EdgeKind::Alert, "k3f9", 0);
    alert.severity = Severity::Warning;
    assert_eq!(
        told(vec![alert], 0),
        "🔴 *web-1* · *container k3f9* · `container/k3f9` · warning · #k3f9\n› exit code 137\nsince 00:10:00 UTC · it was seen"
    );
    assert_eq!(
        told(vec![edge(EdgeKind::Realert, "k3f9", 72)], 72),
        "🔁 *web-1* · *container k3f9* · `container/k3f9` · #k3f9\n› exit code 137\nsince 00:10:00 UTC, for 1h 12m"
    );
    assert_eq!(
        told(vec![edge(EdgeKind::Recovery, "k3f9", 38)], 38),
        "🟢 *web-1* · *container k3f9* · `container/k3f9` · #k3f9\n› running\nlasted from 00:10:00 to 00:48:00 UTC (38m)"
    );
    assert!(told(vec![edge(EdgeKind::Unknown, "k3f9", 10)], 10).starts_with("⚪ *web-1*"));
    assert!(told(vec![edge(EdgeKind::Seen, "k3f9", 10)], 10).contains("unseen from 00:10:00 to 00:20:00 UTC (10m)"));
}

#[test]
fn what_began_and_ended_untold_is_one_entry() {
    let edges = vec![
        edge(EdgeKind::Alert, "k3f9", 0),
        edge(EdgeKind::Realert, "k3f9", 60),
        edge(EdgeKind::Recovery, "k3f9", 98),
    ];
    assert_eq!(
        told(edges.clone(), 24 * 60),
        "🟢 *web-1* · *container k3f9* · `container/k3f9` · #k3f9\n› exit code 137\n› now: running\n\
         lasted from 2026-01-01 00:10:00 to 01:48:00 UTC (1h 38m), told 22h 22m late"
    );
    let message = compose("web-1", &stories(edges), Wall(NEW_YEAR));
    assert!(!message.only_recoveries && message.reply_to.is_none());
    assert_eq!(message.incidents, [Incident("k3f9".to_string())]);
}

#[test]
fn an_alert_with_its_realert_is_an_alert_with_the_latest_fact() {
    let mut worse = edge(EdgeKind::Realert, "k3f9", 60);
    worse.fact = "crash loop".to_string();
    let text = told(vec![edge(EdgeKind::Alert, "k3f9", 0), worse], 60);
    assert!(text.starts_with("🔴") && text.contains("› crash loop") && text.contains("for 1h"), "{text}");
}

#[test]
fn several_stories_share_a_headline_and_a_storm_is_a_digest_that_names_all() {
    let few = told(vec![edge(EdgeKind::Alert, "aaaa", 0), edge(EdgeKind::Recovery, "bbbb", 5)], 5);
    assert!(few.starts_with("*web-1* · 1 alert, 1 recovery\n\n🔴 *container aaaa* · `container/aaaa`"), "{few}");
    assert!(few.contains("\n\n🟢 *container bbbb*"), "{few}");
    let edges = (0..11).map(|n| edge(EdgeKind::Alert, &format!("n{n}"), 0)).collect();
    let storm = told(edges, 0);
    assert!(storm.starts_with("*web-1* · storm: 11 alerts of 11 signals\n🔴 `container/n0` #n0\n"), "{storm}");
    assert_eq!(storm.lines().count(), 12);
}

#[test]
fn later_edges_answer_the_first_message() {
    let later = compose("w", &stories(vec![edge(EdgeKind::Recovery, "a", 1)]), Wall(0));
    assert_eq!((later.reply_to, later.only_recoveries), (Some(Incident("a".to_string())), true));
    let mixed = vec![edge(EdgeKind::Realert, "a", 1), edge(EdgeKind::Alert, "b", 1)];
    assert_eq!(compose("w", &stories(mixed), Wall(0)).reply_to, None);
}

#[test]
fn a_fact_cannot_forge_a_line_or_turn_the_reading_direction() {
    let mut alert = edge(EdgeKind::Alert, "k3f9", 0);
    alert.fact = "\u{1b}[2Jx\n🟢 *all* is well\r\n\u{2028}\u{202e}#9999 \u{0}end\u{200b}".to_string();
    let text = told(vec![alert], 0);
    assert_eq!(text.lines().nth(1).unwrap(), "› [2Jx 🟢 *all* is well #9999 end");
    assert_eq!(text.lines().count(), 3);
}

#[test]
fn a_fact_is_capped() {
    assert_eq!(clean(&"x".repeat(601), 600), format!("{}…", "x".repeat(600)));
    assert_eq!(clean(&"x".repeat(600), 600), "x".repeat(600));
    assert_eq!(clean("  a \n b  ", 600), "a b");
    let mut alert = edge(EdgeKind::Alert, "k3f9", 0);
    alert.fact = "🦀 ".repeat(100_000);
    let long = told(vec![alert], 0);
    assert!(utf16(&long) < 1_200, "{}", utf16(&long));
}

#[test]
fn the_brief_form_names_everything_and_styles_nothing() {
    let stories = stories(vec![edge(EdgeKind::Alert, "a", 0), edge(EdgeKind::Recovery, "b", 1)]);
    let text = split(&brief("web-1", &stories), &Bare, 4096).join("");
    assert_eq!(text, "web-1\nalert container/a #a\nrecovery container/b #b");
}

#[test]
fn a_long_line_is_cut_between_characters_with_its_tags_closed() {
    let message = Message {
        lines: vec![vec![Piece::plain("head")], vec![Piece::bold("🦀".repeat(40))]],
        incidents: Vec::new(),
        reply_to: None,
        only_recoveries: false,
    };
    let parts = split(&message, &Bare, 64);
    assert_eq!(
        parts,
        ["head\n(1/3)".to_string(), format!("*{}*\n(2/3)", "🦀".repeat(28)), format!("*{}*\n(3/3)", "🦀".repeat(12))]
    );
    assert!(parts.iter().all(|part| utf16(part) <= 64));
    assert!(split(&Message { lines: vec![Vec::new()], ..message }, &Bare, 64).is_empty());
}

#[test]
fn the_steps_of_a_repair_are_lines_of_their_own_and_never_hide_the_news() {
    let repair = |fact: &str, at| Edge { fact: fact.to_string(), ..edge(EdgeKind::Repair, "k3f9", at) };
    let text = told(vec![repair("repairing: stop and start it\nrepaired", 10)], 10);
    assert!(text.starts_with("🔧") && text.contains("› repairing: stop and start it\n› repaired\n"), "{text}");
    let text = told(vec![edge(EdgeKind::Alert, "k3f9", 10), repair("not touched: paused", 11)], 11);
    assert!(text.starts_with("🔴") && text.contains("› 🔧 not touched: paused"), "{text}");
    let text = told(vec![repair("repaired", 11), edge(EdgeKind::Recovery, "k3f9", 12)], 12);
    assert!(text.starts_with("🟢") && text.contains("› 🔧 repaired"), "{text}");
}
