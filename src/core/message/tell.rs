//! One incident as lines that a person reads half asleep, and the headline over several.
//!
//! The first line holds severity, place, subject and what happened; then come the fact, the evidence, since when
//! and the names; the last line says what to do (`adr/0012-messages-are-facts-in-lines.md`). A lock screen shows
//! the first line only. Whatever comes from outside was cleaned before it stands in a line, and cannot begin one
//! with a mark of ours.

use super::super::time::{Wall, people};
use super::text::clean;
use super::{Edge, EdgeKind, FACT_LIMIT, Incident, Line, NAME_LIMIT, Piece, Place, Severity, Story};

/// A message told this much later than its edge was decided says so.
const LATE_MS: u64 = 60_000;
/// Characters of one line of evidence at most.
const EVIDENCE_LIMIT: usize = 200;
/// Lines of evidence at most.
const EVIDENCE_LINES: usize = 3;
/// Lines of advice below several subjects of one cause at most.
const ADVICE_LINES: usize = 4;
/// Names in the headline over several subjects.
const NAMES: usize = 3;
/// Stands before a fact that begins like a line of ours.
const FACT_MARK: &str = "› ";
/// Stands for what is done about a trouble.
const REPAIR_MARK: &str = "🔧";
/// Stands before the next step.
const ADVICE_MARK: &str = "→ ";
/// The reminder that asks whether to silence the signal.
const ASK_AT: u32 = 3;

/// One story in full. With `instance` in its first line.
pub fn whole(story: &Story, instance: Option<&str>, place: &Place<'_>, lines: &mut Vec<Line>) {
    let repairs: Vec<&Edge> = story.edges.iter().filter(|edge| edge.kind == EdgeKind::Repair).collect();
    let news: Vec<&Edge> = story.edges.iter().filter(|edge| edge.kind != EdgeKind::Repair).collect();
    let alone = news.is_empty();
    let edges = if alone { &repairs } else { &news };
    let (Some(first), Some(last)) = (edges.first().copied(), edges.last().copied()) else { return };
    lines.push(first_line(story, last, instance));
    let steps = repairs.iter().flat_map(|repair| repair.fact.lines()).map(|step| clean(step, FACT_LIMIT));
    if alone {
        lines.extend(steps.map(|step| vec![Piece::plain(guarded(step))]));
        lines.push(names(last, times(last, place)));
        advice(last, lines);
        return;
    }
    let closed_at_once = last.kind.closes() && !first.kind.closes();
    if last.kind.closes() && (last.kind != EdgeKind::Removed || !last.lasted.is_zero()) {
        lines.push(vec![Piece::plain(lasted(last, if closed_at_once { worst(&news) } else { "" }))]);
    }
    facts(last, place, lines);
    lines.extend(steps.map(|step| vec![Piece::plain(format!("{REPAIR_MARK} {step}"))]));
    lines.push(names(last, if last.kind.closes() { ended(last, place) } else { times(last, place) }));
    if !last.kind.closes() {
        done(last, lines);
        advice(last, lines);
    }
}

/// One line of several: a subject with its fact, or its key alone in a storm.
pub fn digest(story: &Story, with_fact: bool, place: &Place<'_>) -> Option<Line> {
    let last = story.edges.last()?;
    let key = Piece::code(clean(last.key.as_str(), NAME_LIMIT));
    let times = if last.kind == EdgeKind::Removed && with_fact {
        String::new()
    } else if last.kind == EdgeKind::Removed {
        // The names of several stand in the fact alone.
        format!(" · {} ·", clean(&last.fact, FACT_LIMIT))
    } else if last.kind.closes() {
        format!(" · lasted {} ·", people(last.lasted))
    } else if with_fact {
        format!(" · since {} ·", place.zone.instant(last.since, place.now))
    } else {
        String::new()
    };
    let tail = format!("{times} {}", name(&last.incident));
    let mut line = vec![Piece::plain(format!("{} ", icon(story)))];
    if with_fact {
        line.push(Piece::bold(subject(last)));
        let fact = clean(&last.fact, EVIDENCE_LIMIT);
        line.push(Piece::plain(if fact.is_empty() { " · ".to_string() } else { format!(" · {fact} · ") }));
    }
    line.extend([key, Piece::plain(tail)]);
    Some(line)
}

/// The first line over several stories: the cause, or how many of what and the first names.
pub fn headline(stories: &[Story], cause: Option<&str>, place: &Place<'_>) -> Line {
    let icon = stories.iter().min_by_key(|story| rank(story)).map_or("⚪", icon);
    let mut line =
        vec![Piece::plain(format!("{icon} ")), Piece::bold(clean(place.instance, NAME_LIMIT)), Piece::plain(" · ")];
    if let Some(cause) = cause {
        line.push(Piece::bold(clean(cause, NAME_LIMIT)));
        line.push(Piece::plain(format!(": {}", checks(stories))));
        return line;
    }
    let mut sorted: Vec<&Story> = stories.iter().collect();
    sorted.sort_by_key(|story| rank(story));
    let names: Vec<String> = sorted.iter().filter_map(|story| story.edges.last()).map(subject).take(NAMES).collect();
    let more = stories.len().saturating_sub(names.len());
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    line.push(Piece::plain(format!("{}: {}{rest}", counts(stories), names.join(", "))));
    line
}

/// How a story stands at its end. A reminder that comes together with its alert is news: an alert.
pub fn standing(story: &Story) -> EdgeKind {
    let news = story.edges.iter().rfind(|edge| edge.kind != EdgeKind::Repair).or(story.edges.last());
    let last = news.map_or(EdgeKind::Unknown, |edge| edge.kind);
    let first = story.edges.first().map_or(last, |edge| edge.kind);
    if last == EdgeKind::Realert && first == EdgeKind::Alert { EdgeKind::Alert } else { last }
}

/// The severity of a story at its end.
pub fn severity(story: &Story) -> Severity {
    story.edges.last().map_or(Severity::Info, |edge| edge.severity)
}

/// An incident as it is shown.
pub fn name(incident: &Incident) -> String {
    clean(&incident.to_string(), NAME_LIMIT)
}

/// Those that need a person first, the most severe of them first.
fn rank(story: &Story) -> (u8, Severity) {
    let kind = match standing(story) {
        EdgeKind::Alert => 0,
        EdgeKind::Realert => 1,
        EdgeKind::Unknown => 2,
        EdgeKind::Repair => 3,
        _ => 4,
    };
    (kind, severity(story))
}

fn icon(story: &Story) -> &'static str {
    match (standing(story), severity(story)) {
        (EdgeKind::Alert, Severity::Critical) => "🔴",
        (EdgeKind::Alert, Severity::Warning) => "🟠",
        (EdgeKind::Alert, Severity::Info) => "🔵",
        (EdgeKind::Realert, Severity::Critical) => "🔁🔴",
        (EdgeKind::Realert, Severity::Warning) => "🔁🟠",
        (EdgeKind::Realert, Severity::Info) => "🔁🔵",
        (EdgeKind::Recovery | EdgeKind::Seen, _) => "🟢",
        (EdgeKind::Unknown | EdgeKind::Removed, _) => "⚪",
        (EdgeKind::Repair, _) => REPAIR_MARK,
    }
}

fn first_line(story: &Story, last: &Edge, instance: Option<&str>) -> Line {
    let mut line = vec![Piece::plain(format!("{} ", icon(story)))];
    if let Some(instance) = instance {
        line.push(Piece::bold(clean(instance, NAME_LIMIT)));
        line.push(Piece::plain(" · "));
    }
    line.push(Piece::bold(subject(last)));
    let happened = happened(last);
    if !happened.is_empty() {
        line.push(Piece::plain(format!(" {happened}")));
    }
    line
}

/// The name that a person would use.
fn subject(edge: &Edge) -> String {
    let own = [edge.about.name.as_ref(), edge.title.as_str(), edge.key.as_str()];
    own.into_iter().map(|text| clean(text, NAME_LIMIT)).find(|text| !text.is_empty()).unwrap_or_default()
}

/// What happened, in a few words that follow the subject.
fn happened(edge: &Edge) -> String {
    let own = clean(&edge.details.happened, NAME_LIMIT);
    // That it can be checked again is the news, whatever the check says.
    if !own.is_empty() && edge.kind != EdgeKind::Seen {
        return own;
    }
    match edge.kind {
        EdgeKind::Alert => "is failing",
        EdgeKind::Realert => "is still failing",
        EdgeKind::Recovery => "is OK again",
        EdgeKind::Unknown => "cannot be checked",
        EdgeKind::Seen => "can be checked again",
        EdgeKind::Removed => "is no longer watched",
        EdgeKind::Repair => "",
    }
    .to_string()
}

/// The fact, then the evidence.
fn facts(edge: &Edge, place: &Place<'_>, lines: &mut Vec<Line>) {
    let fact = clean(&edge.fact, FACT_LIMIT);
    if !fact.is_empty() {
        lines.push(vec![Piece::plain(guarded(fact))]);
    }
    if let Some(known) = edge.known {
        let stood = if known.is_ok { "OK" } else { "failing" };
        lines.push(vec![Piece::plain(format!("last known: {stood} at {}", place.zone.instant(known.at, place.now)))]);
    }
    if edge.kind == EdgeKind::Realert && edge.reminder > 0 {
        let was = clean(&edge.was, EVIDENCE_LIMIT);
        let changed = if was.is_empty() || was == clean(&edge.fact, EVIDENCE_LIMIT) {
            "unchanged since the last message".to_string()
        } else {
            format!("before: {was}")
        };
        lines.push(vec![Piece::plain(format!("reminder {}, {changed}", edge.reminder))]);
    }
    let evidence = edge.details.evidence.iter().map(|line| clean(line, EVIDENCE_LIMIT)).filter(|line| !line.is_empty());
    lines.extend(evidence.take(EVIDENCE_LINES).map(|line| vec![Piece::plain(guarded(line))]));
}

/// A text that cannot be taken for a line of ours.
fn guarded(text: String) -> String {
    const MARKS: [&str; 13] = [
        "🔴",
        "🟠",
        "🔵",
        "🔁",
        "🟢",
        "⚪",
        REPAIR_MARK,
        "→",
        "since ",
        "critical since ",
        "warning since ",
        "info since ",
        "#",
    ];
    if MARKS.iter().any(|mark| text.starts_with(mark)) { format!("{FACT_MARK}{text}") } else { text }
}

/// What was done about it so far. Repairs of nodes tell that themselves.
fn done(edge: &Edge, lines: &mut Vec<Line>) {
    let is_repaired = ["node/", "recovery/"].iter().any(|kind| edge.key.as_str().starts_with(kind));
    if edge.severity < Severity::Info && !is_repaired {
        lines.push(vec![Piece::plain("Watchdog only reports this and has changed nothing".to_string())]);
    }
}

/// Since when, for how long and why it is said now, then the names.
fn names(edge: &Edge, times: String) -> Line {
    let group = clean(&edge.about.group, NAME_LIMIT);
    let group = if group.is_empty() { String::new() } else { format!(" · {group}") };
    vec![
        Piece::plain(format!("{times} · ")),
        Piece::code(clean(edge.key.as_str(), NAME_LIMIT)),
        Piece::plain(format!("{group} · {}", name(&edge.incident))),
    ]
}

/// `critical since 02:14:05 (failed 3 checks in a row)`.
fn times(edge: &Edge, place: &Place<'_>) -> String {
    let since = place.zone.instant(edge.since, place.now);
    let held = if edge.lasted.as_secs() > 0 { format!(", for {}", people(edge.lasted)) } else { String::new() };
    let reason = match clean(&edge.reason, FACT_LIMIT) {
        reason if reason.is_empty() => reason,
        reason => format!(" ({reason})"),
    };
    let noticed = edge.noticed.map(|at| format!(", noticed {}", place.zone.instant(at, edge.since)));
    let noticed = noticed.unwrap_or_default();
    let severity = match edge.kind {
        EdgeKind::Alert | EdgeKind::Realert => format!("{} ", edge.severity),
        _ => String::new(),
    };
    format!("{severity}since {since}{held}{noticed}{reason}{}", late(edge, place.now))
}

/// `lasted 14 min; it was: exit code 137`.
fn lasted(edge: &Edge, worst: &str) -> String {
    let lead = match edge.kind {
        EdgeKind::Seen => "unknown for",
        // Whether it is over, nobody knows.
        EdgeKind::Removed => "open until then for",
        _ => "lasted",
    };
    let was = clean(if worst.is_empty() { &edge.was } else { worst }, FACT_LIMIT);
    let was = if was.is_empty() || edge.kind == EdgeKind::Seen { String::new() } else { format!("; it was: {was}") };
    format!("{lead} {}{was}", people(edge.lasted))
}

/// `02:14:05 – 02:28:20`.
fn ended(edge: &Edge, place: &Place<'_>) -> String {
    if edge.kind == EdgeKind::Removed && edge.lasted.is_zero() {
        return format!("at {}{}", place.zone.instant(edge.at, place.now), late(edge, place.now));
    }
    let (from, to) = (place.zone.instant(edge.since, place.now), place.zone.instant(edge.at, edge.since));
    format!("{from} – {to}{}", late(edge, place.now))
}

/// The last fact before it ended.
fn worst<'a>(news: &[&'a Edge]) -> &'a str {
    news.iter().rfind(|edge| !edge.kind.closes()).map_or("", |edge| edge.fact.as_str())
}

fn late(edge: &Edge, now: Wall) -> String {
    let late = now.since(edge.at);
    if late.as_millis() >= u128::from(LATE_MS) { format!(", sent {} late", people(late)) } else { String::new() }
}

/// What to do next about several subjects of one cause: each advice once, and each note.
pub fn together(stories: &[&Story], lines: &mut Vec<Line>) {
    let open = stories.iter().filter(|story| !standing(story).closes()).filter_map(|story| story.edges.last());
    let open: Vec<&Edge> = open.collect();
    let advice = open.iter().map(|edge| clean(&edge.details.advice, FACT_LIMIT)).filter(|text| !text.is_empty());
    let written = open.iter().flat_map(|edge| [&edge.about.note, &edge.about.runbook]);
    let mut told: Vec<String> = Vec::new();
    for text in advice.take(1).chain(written.map(|text| clean(text, FACT_LIMIT))) {
        if !text.is_empty() && !told.contains(&text) && told.len() < ADVICE_LINES {
            lines.push(vec![Piece::plain(format!("{ADVICE_MARK}{text}"))]);
            told.push(text);
        }
    }
}

/// What to do next, and what the user wrote for this moment.
fn advice(edge: &Edge, lines: &mut Vec<Line>) {
    let mut say = |mark: &str, text: String| {
        if !text.is_empty() {
            lines.push(vec![Piece::plain(format!("{mark}{text}"))]);
        }
    };
    say(ADVICE_MARK, clean(&edge.details.advice, FACT_LIMIT));
    say(ADVICE_MARK, clean(&edge.about.note, FACT_LIMIT));
    say(ADVICE_MARK, clean(&edge.about.runbook, FACT_LIMIT));
    if edge.kind == EdgeKind::Realert && edge.reminder == ASK_AT {
        let key = clean(edge.key.as_str(), NAME_LIMIT);
        say(ADVICE_MARK, format!("to stop these reminders for a while: watchdog silence '{key}' --for 8h"));
    }
}

/// `4 checks fail`, or what happened to all of them alike: `4 were stopped by a command`.
fn checks(stories: &[Story]) -> String {
    if let Some(happened) = alike(stories) {
        return format!("{} {happened}", stories.len());
    }
    let ended = stories.first().is_some_and(|story| standing(story).closes());
    let words = match stories.first().map(standing) {
        // One of them may speak of many.
        Some(EdgeKind::Removed) => return "removed, no longer watched".to_string(),
        Some(EdgeKind::Unknown) => "cannot be made",
        _ if ended => "are OK again",
        _ => "fail",
    };
    let is_container = |edge: &Edge| edge.key.as_str().starts_with("container/");
    let are_containers = stories.iter().filter_map(|story| story.edges.last()).all(is_container);
    format!("{} {} {words}", stories.len(), if are_containers { "containers" } else { "checks" })
}

/// What happened, where the same happened to all of them and there is a plural of it.
fn alike(stories: &[Story]) -> Option<String> {
    let mut all = stories.iter().map(|story| story.edges.last().map(|edge| edge.details.happened.as_ref()));
    let first = all.next().flatten().filter(|happened| !happened.is_empty())?;
    if !all.all(|happened| happened == Some(first)) {
        return None;
    }
    let (verb, rest) = first.split_once(' ').unwrap_or((first, ""));
    let plural = [("was", "were"), ("is", "are"), ("runs", "run"), ("keeps", "keep"), ("has", "have")];
    let plural = plural.into_iter().find(|(one, _)| *one == verb)?.1;
    Some(clean(&format!("{plural} {rest}"), NAME_LIMIT))
}

/// `3 alerts, 1 reminder`.
fn counts(stories: &[Story]) -> String {
    let words = [
        (EdgeKind::Alert, "alert", "alerts"),
        (EdgeKind::Realert, "reminder", "reminders"),
        (EdgeKind::Unknown, "unknown", "unknown"),
        (EdgeKind::Recovery, "OK again", "OK again"),
        (EdgeKind::Seen, "can be checked again", "can be checked again"),
        (EdgeKind::Removed, "removed", "removed"),
        (EdgeKind::Repair, "repair", "repairs"),
    ];
    let mut parts = Vec::new();
    for (kind, one, more) in words {
        match stories.iter().filter(|story| standing(story) == kind).count() {
            0 => {}
            1 => parts.push(format!("1 {one}")),
            n => parts.push(format!("{n} {more}")),
        }
    }
    parts.join(", ")
}
