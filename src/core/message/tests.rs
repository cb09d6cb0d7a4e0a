//! Messages, read as a person would.

use std::sync::Arc;
use std::time::Duration;

use super::super::about::{About, Details};
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
        reason: if kind == EdgeKind::Alert { "failed 3 checks in a row".to_string() } else { String::new() },
        ..Edge::default()
    }
}

fn at(minute: i64) -> Wall {
    Wall(NEW_YEAR + 600_000 + minute * 60_000)
}

fn compose_at(edges: Vec<Edge>, now: Wall) -> Message {
    compose(&stories(edges), &Place { instance: "web-1", zone: &Zone::default(), now })
}

fn told(edges: Vec<Edge>, minute: i64) -> String {
    split(&compose_at(edges, at(minute)), &Bare, 4096).join("\n=====\n")
}

#[test]
fn an_alert_says_how_bad_where_what_the_fact_since_when_and_what_to_do() {
    let alert = Edge {
        about: Arc::new(About { name: "redis".into(), group: "project shop".into(), ..About::default() }),
        details: Details::new("keeps crashing", "docker logs --tail 50 k3f9").with("last line: \"fork: no memory\""),
        ..edge(EdgeKind::Alert, "k3f9", 0)
    };
    let what = "*web-1* · *redis* keeps crashing\nexit code 137\nlast line: \"fork: no memory\"";
    let since = "since 00:10:00 UTC (failed 3 checks in a row) · `container/k3f9` · project shop · #k3f9";
    let done = "Watchdog only reports this and has changed nothing\n";
    for (severity, icon, done) in
        [(Severity::Critical, "🔴", done), (Severity::Warning, "🟠", done), (Severity::Info, "🔵", "")]
    {
        assert_eq!(
            told(vec![Edge { severity, ..alert.clone() }], 0),
            format!("{icon} {what}\n{severity} {since}\n{done}→ docker logs --tail 50 k3f9")
        );
    }
    let node = Edge { key: SignalKey::new("node/n1"), ..alert };
    assert!(!told(vec![node], 0).contains("only reports"), "what is done about a node is told by its repair");
}

#[test]
fn without_words_of_its_own_every_kind_of_news_still_reads_as_a_sentence() {
    let first = |kind| told(vec![edge(kind, "k3f9", 10)], 10).lines().next().unwrap().to_string();
    assert_eq!(first(EdgeKind::Alert), "🔴 *web-1* · *container k3f9* is failing");
    assert_eq!(first(EdgeKind::Realert), "🔁🔴 *web-1* · *container k3f9* is still failing");
    assert_eq!(first(EdgeKind::Recovery), "🟢 *web-1* · *container k3f9* is OK again");
    assert_eq!(first(EdgeKind::Unknown), "⚪ *web-1* · *container k3f9* cannot be checked");
    assert_eq!(first(EdgeKind::Seen), "🟢 *web-1* · *container k3f9* can be checked again");
}

#[test]
fn a_reminder_says_how_long_it_lasts_what_changed_and_the_third_asks_whether_to_silence_it() {
    let reminder = |n, was: &str| Edge { reminder: n, was: was.to_string(), ..edge(EdgeKind::Realert, "k3f9", 72) };
    let text = told(vec![reminder(1, "exit code 137")], 72);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[1..3], ["exit code 137", "reminder 1, unchanged since the last message"]);
    assert_eq!(lines[3], "critical since 00:10:00 UTC, for 1 h 12 min · `container/k3f9` · #k3f9");
    assert!(told(vec![reminder(2, "exit code 1")], 72).contains("reminder 2, before: exit code 1\n"));
    assert!(!text.contains("silence"));
    assert!(told(vec![reminder(3, "")], 72).ends_with("watchdog silence 'container/k3f9' --for 8h"));
}

#[test]
fn a_recovery_says_how_long_it_was_and_what_it_was() {
    let recovery = Edge { was: "exit code 137".to_string(), ..edge(EdgeKind::Recovery, "k3f9", 38) };
    assert_eq!(
        told(vec![recovery], 38),
        "🟢 *web-1* · *container k3f9* is OK again\nlasted 38 min; it was: exit code 137\n\
         running\n00:10:00 UTC – 00:48:00 UTC · `container/k3f9` · #k3f9"
    );
    let seen = told(vec![edge(EdgeKind::Seen, "k3f9", 10)], 10);
    assert!(seen.contains("unknown for 10 min\n") && seen.contains("\n00:10:00 UTC – 00:20:00 UTC · "), "{seen}");
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
        "🟢 *web-1* · *container k3f9* is OK again\n\
         lasted 1 h 38 min; it was: exit code 137\nrunning\n\
         2026-01-01 00:10:00 UTC – 01:48:00 UTC, sent 22 h 22 min late · `container/k3f9` · #k3f9"
    );
    let message = compose_at(edges, Wall(NEW_YEAR));
    assert!(message.sound == Sound::Loud && message.reply_to.is_none());
    assert_eq!(message.incidents, [Incident("k3f9".to_string())]);
}

#[test]
fn an_alert_with_its_realert_is_an_alert_with_the_latest_fact() {
    let mut worse = edge(EdgeKind::Realert, "k3f9", 60);
    worse.fact = "crash loop".to_string();
    let text = told(vec![edge(EdgeKind::Alert, "k3f9", 0), worse], 60);
    assert!(text.starts_with("🔴") && text.contains("\ncrash loop\n") && text.contains("for 1 h"), "{text}");
}

#[test]
fn a_few_subjects_stand_by_name_in_the_headline_the_most_severe_first() {
    let warning = Edge { severity: Severity::Warning, ..edge(EdgeKind::Alert, "aaaa", 0) };
    let few = told(vec![warning, edge(EdgeKind::Alert, "bbbb", 0)], 5);
    assert!(
        few.starts_with("🔴 *web-1* · 2 alerts: container bbbb, container aaaa\n\n🟠 *container aaaa* is"),
        "{few}"
    );
    let over: Vec<Edge> = ["a", "b", "c", "d"].map(|name| edge(EdgeKind::Recovery, name, 5)).to_vec();
    let over = told(over, 5);
    assert!(over.starts_with("🟢 *web-1* · 4 OK again: container a, container b, container c and 1 more\n"), "{over}");
}

#[test]
fn a_storm_is_a_digest_that_names_all_the_most_severe_first() {
    let edges = (0..11).map(|n| Edge {
        severity: if n == 7 { Severity::Critical } else { Severity::Warning },
        ..edge(EdgeKind::Alert, &format!("n{n}"), 0)
    });
    let storm = told(edges.collect(), 0);
    assert!(storm.starts_with("🔴 *web-1* · 11 alerts: "), "{storm}");
    assert_eq!(storm.lines().nth(1), Some("🔴 `container/n7` #n7"));
    assert_eq!(storm.lines().count(), 12);
}

#[test]
fn news_of_one_cause_stand_under_its_name_a_line_each() {
    let about = Arc::new(About { cause: "nginx (127.0.0.1:8443)".into(), ..About::default() });
    let of = |kind| move |name: &&str| Edge { about: Arc::clone(&about), ..edge(kind, name, 0) };
    let down: Vec<Edge> = ["api", "web"].iter().map(of.clone()(EdgeKind::Alert)).collect();
    assert_eq!(
        told(down, 0),
        "🔴 *web-1* · *nginx (127.0.0.1:8443)*: 2 containers fail\n\
         🔴 *container api* · exit code 137 · `container/api` · since 00:10:00 UTC · #api\n\
         🔴 *container web* · exit code 137 · `container/web` · since 00:10:00 UTC · #web"
    );
    let up: Vec<Edge> = ["api", "web"].iter().map(of(EdgeKind::Recovery)).collect();
    assert!(told(up, 0).starts_with("🟢 *web-1* · *nginx (127.0.0.1:8443)*: 2 containers are OK again\n"));
}

#[test]
fn infos_are_silent_recoveries_may_be_and_all_else_is_heard() {
    let sound = |edges| compose_at(edges, Wall(0)).sound;
    let info = Edge { severity: Severity::Info, ..edge(EdgeKind::Alert, "a", 0) };
    assert_eq!(sound(vec![info.clone()]), Sound::Silent);
    assert_eq!(sound(vec![edge(EdgeKind::Recovery, "b", 0)]), Sound::Recovery);
    assert_eq!(sound(vec![info, edge(EdgeKind::Alert, "b", 0)]), Sound::Loud);
    assert_eq!(sound(vec![edge(EdgeKind::Alert, "a", 0), edge(EdgeKind::Recovery, "a", 0)]), Sound::Loud);
}

#[test]
fn later_edges_answer_the_first_message() {
    let later = compose_at(vec![edge(EdgeKind::Recovery, "a", 1)], Wall(0));
    assert_eq!(later.reply_to, Some(Incident("a".to_string())));
    let mixed = vec![edge(EdgeKind::Realert, "a", 1), edge(EdgeKind::Alert, "b", 1)];
    assert_eq!(compose_at(mixed, Wall(0)).reply_to, None);
}

#[test]
fn a_fact_cannot_forge_a_line_or_turn_the_reading_direction() {
    let mut alert = edge(EdgeKind::Alert, "k3f9", 0);
    alert.fact = "\u{1b}[2Jx\n🟢 *all* is well\r\n\u{2028}\u{202e}#9999 \u{0}end\u{200b}".to_string();
    let text = told(vec![alert], 0);
    assert_eq!(text.lines().nth(1).unwrap(), "[2Jx 🟢 *all* is well #9999 end");
    assert_eq!(text.lines().count(), 4);
    for forged in
        ["🟢 all is well", "→ rm -rf /", "since yesterday", "critical since ever", "🔧 repaired", "#k3f9 is over"]
    {
        let alert = Edge { fact: format!("\u{200b} {forged}"), ..edge(EdgeKind::Alert, "k3f9", 0) };
        assert_eq!(told(vec![alert], 0).lines().nth(1).unwrap(), format!("› {forged}"));
    }
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
        sound: Sound::Loud,
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
    assert!(text.starts_with("🔧") && text.contains("\nrepairing: stop and start it\nrepaired\n"), "{text}");
    let text = told(vec![edge(EdgeKind::Alert, "k3f9", 10), repair("not touched: paused", 11)], 11);
    assert!(text.starts_with("🔴") && text.contains("\n🔧 not touched: paused\n"), "{text}");
    let text = told(vec![repair("repaired", 11), edge(EdgeKind::Recovery, "k3f9", 12)], 12);
    assert!(text.starts_with("🟢") && text.contains("\n🔧 repaired\n"), "{text}");
}

#[test]
fn a_link_leads_to_the_one_signal_or_to_all_and_to_none_that_is_gone() {
    let last = |edges: Vec<Edge>| {
        let told = stories(edges);
        let place = Place { instance: "web-1", zone: &Zone::default(), now: at(0) };
        let message = linked(compose(&told, &place), &told, "https://status.example.org/wd/");
        split(&message, &Bare, 4096).join("\n").lines().last().unwrap_or_default().to_string()
    };
    let alert = Edge { key: SignalKey::new("probe/a b#ž"), ..edge(EdgeKind::Alert, "a", 0) };
    assert_eq!(last(vec![alert.clone()]), "https://status.example.org/wd/signal/probe/a%20b%23%C5%BE");
    assert_eq!(last(vec![alert, edge(EdgeKind::Alert, "b", 0)]), "https://status.example.org/wd/");
    assert!(last(vec![edge(EdgeKind::Removed, "a", 1)]).contains("#a"));
    assert_eq!(last(Vec::new()), "");
}
