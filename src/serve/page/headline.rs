//! The top of the page: the one sentence that a tired person needs, and what makes it less true.
//!
//! The order of judgement matters: a watchdog that is off or does not look knows nothing, so no
//! count may stand above that; then firing, then not seeing, then suspicion, and only then "all well".

use super::{Seen, ago, count};
use crate::core::signal::{Severity, State};
use crate::core::time::{Now, people};
use crate::serve::escape::{html, plain};
use crate::serve::snapshot::{ChannelView, Snapshot, StateFile};

/// An alert that waits longer than this is worth a loud note, in seconds.
const UNDELIVERED_AFTER: u64 = 60;

/// How it stands as a whole.
pub struct Headline {
    /// The sentence.
    pub words: String,
    mood: Mood,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    Pending,
    Blind,
    Firing,
    Off,
}

impl Headline {
    /// The judgement on this picture now.
    pub fn of(snapshot: &Snapshot, now: Now) -> Headline {
        let number = |state: State| snapshot.signals.iter().filter(|s| s.state == state).count();
        let (firing, unknown, pending) = (number(State::Firing), number(State::Unknown), number(State::Pending));
        let total = snapshot.signals.len();
        let no_eyes = !snapshot.sources.is_empty() && snapshot.sources.iter().all(|s| s.state != "ok");
        let (words, mood) = if !snapshot.enabled {
            ("Switched off".to_string(), Mood::Off)
        } else if snapshot.tick.count == 0 {
            ("Looking for the first time".to_string(), Mood::Off)
        } else if snapshot.late(now).is_some() {
            ("Not looking".to_string(), Mood::Firing)
        } else if firing > 0 {
            (count(firing, "firing", "firing"), Mood::Firing)
        } else if total == 0 {
            ("Nothing is watched".to_string(), Mood::Blind)
        } else if unknown == total || no_eyes {
            ("Blind".to_string(), Mood::Blind)
        } else if unknown > 0 {
            (count(unknown, "unknown", "unknown"), Mood::Blind)
        } else if pending > 0 {
            (count(pending, "pending", "pending"), Mood::Pending)
        } else {
            ("All well".to_string(), Mood::Well)
        };
        Headline { words, mood }
    }

    /// The class of the page.
    pub fn class(&self) -> &'static str {
        match self.mood {
            Mood::Well => "is-ok",
            Mood::Pending => "is-pending",
            Mood::Blind => "is-unknown",
            Mood::Firing => "is-firing",
            Mood::Off => "is-off",
        }
    }

    /// A sign that needs no colour, for the tab.
    pub fn glyph(&self) -> char {
        match self.mood {
            Mood::Well => '✓',
            Mood::Pending => '…',
            Mood::Blind => '?',
            Mood::Firing => '✕',
            Mood::Off => '–',
        }
    }

    /// The colour of the tab's icon, hexadecimal.
    pub fn icon_colour(&self) -> &'static str {
        match self.mood {
            Mood::Well => "2da44e",
            Mood::Pending => "d4a017",
            Mood::Blind | Mood::Off => "8b949e",
            Mood::Firing => "e5484d",
        }
    }

    /// The header of the page.
    pub fn write(&self, out: &mut String, seen: Seen<'_>) {
        let snapshot = seen.snapshot;
        out.push_str("<header class=\"top\"><div class=\"bar\"><p class=\"instance\">");
        html(out, &snapshot.instance, 100);
        plain(
            out,
            format_args!(
                "</p><h1><span class=\"lamp\" aria-hidden=\"true\">{}</span>{}</h1>",
                self.glyph(),
                self.words
            ),
        );
        severities(out, snapshot);
        out.push_str("<p class=\"looked\">");
        match snapshot.tick.last_at {
            Some(at) => {
                out.push_str("checked ");
                ago(out, snapshot.age(seen.now));
                out.push_str(", at ");
                seen.instant(out, at);
            }
            None => out.push_str("not checked yet"),
        }
        out.push_str("</p>");
        counts(out, snapshot);
        out.push_str("</div></header>");
    }
}

fn counts(out: &mut String, snapshot: &Snapshot) {
    let number = |state: State| snapshot.signals.iter().filter(|s| s.state == state).count();
    out.push_str("<ul class=\"counts\" aria-label=\"signals by state\">");
    for state in [State::Firing, State::Unknown, State::Pending, State::Ok] {
        let n = number(state);
        if n > 0 {
            let word = state.as_str();
            plain(out, format_args!("<li class=\"{word}\"><a href=\"#{word}\"><b>{n}</b> {word}</a></li>"));
        }
    }
    out.push_str("</ul>");
}

/// `1 critical · 2 warning`, when something fires.
fn severities(out: &mut String, snapshot: &Snapshot) {
    let mut before = "<p class=\"severities\">";
    for severity in [Severity::Critical, Severity::Warning, Severity::Info] {
        let n = snapshot.signals.iter().filter(|s| s.state == State::Firing && s.severity == severity).count();
        if n > 0 {
            plain(out, format_args!("{before}{n} {severity}"));
            before = " · ";
        }
    }
    if before == " · " {
        out.push_str("</p>");
    }
}

/// Loud notes: what makes the rest of the page old, untold, or soon forgotten.
pub fn notes(out: &mut String, seen: Seen<'_>) {
    let snapshot = seen.snapshot;
    if !snapshot.enabled {
        note(
            out,
            "off",
            "Switched off",
            "by configuration (enabled = false): nothing is checked and nothing is reported.",
            None,
        );
    }
    if let Some(age) = snapshot.late(seen.now) {
        let text = format!("the last check was {} ago. Everything below is that old.", people(age));
        note(out, "bad", "The loop is late:", &text, None);
    }
    for channel in &snapshot.channels {
        undelivered(out, channel);
    }
    if let StateFile::Failing(why) = &snapshot.state_file {
        note(
            out,
            "bad",
            "Nothing is remembered:",
            "the state file cannot be written; a restart would forget.",
            Some(why),
        );
    }
}

fn undelivered(out: &mut String, channel: &ChannelView) {
    let waits = channel.pending > 0 && channel.oldest_pending_s >= UNDELIVERED_AFTER;
    if channel.state == "ok" && !waits {
        return;
    }
    let text = if channel.pending > 0 {
        let messages = count(usize::try_from(channel.pending).unwrap_or(usize::MAX), "message", "messages");
        let age = people(std::time::Duration::from_secs(channel.oldest_pending_s));
        format!("by {}: {messages} waiting, the oldest for {age}.", channel.name)
    } else {
        format!("by {}: the channel is {}.", channel.name, channel.state)
    };
    note(
        out,
        "bad",
        if channel.pending > 0 { "Alerts do not arrive" } else { "Alerts may not arrive" },
        &text,
        channel.error.as_deref(),
    );
}

fn note(out: &mut String, class: &str, loud: &str, text: &str, detail: Option<&str>) {
    plain(out, format_args!("<div class=\"note {class}\" role=\"status\"><p><strong>{loud}</strong> "));
    html(out, text, 300);
    out.push_str("</p>");
    if let Some(detail) = detail {
        out.push_str("<p class=\"detail\">");
        html(out, detail, 400);
        out.push_str("</p>");
    }
    out.push_str("</div>");
}
