//! The page of one signal: everything that its message said, why it stands as it does, and what happened to it lately.
//!
//! A view like the rest: from the snapshot alone, bounded, everything from outside escaped. A link is made only of an
//! address that is http or https.

use super::{Seen, View, ago, count, document, signals};
use crate::core::recovery::phrase::Deed;
use crate::core::signal::State;
use crate::core::time::{Now, people};
use crate::serve::escape::{html, plain};
use crate::serve::muted::By;
use crate::serve::snapshot::{HistoryView, SignalView, Snapshot, TargetView};

/// Entries of history shown at most.
const LATELY: usize = 200;
/// Lines of evidence shown at most.
const EVIDENCE: usize = 20;

/// The whole document; `None` when there is no such signal.
pub fn render(snapshot: &Snapshot, now: Now, key: &str, view: View) -> Option<String> {
    let signal = snapshot.signals.iter().find(|signal| signal.key.as_str() == key)?;
    let seen = Seen { snapshot, now };
    let (glyph, colour, class) = mood(signal.state);
    let mut title = String::new();
    html(&mut title, signal.name(), 100);
    let words = format!("{title} {}", word(signal));
    let mut out = String::with_capacity(16 * 1024);
    document::head(&mut out, snapshot, &document::Head { glyph, words: &words, colour, class }, view);
    header(&mut out, seen, signal, glyph);
    out.push_str("<main id=\"main\"><article aria-labelledby=\"h-signal\">");
    out.push_str("<h2 id=\"h-signal\">How it stands</h2><dl class=\"facts\">");
    facts(&mut out, seen, signal);
    out.push_str("</dl>");
    signals::strip(&mut out, &signal.strip);
    signals::span(&mut out);
    out.push_str("</article>");
    history(&mut out, seen, signal);
    out.push_str("</main>");
    let refresh =
        if view.paused { ("?".to_string(), "refresh by itself") } else { ("?pause".to_string(), "pause refresh") };
    document::foot(&mut out, snapshot, &[("/".to_string(), "all signals"), refresh]);
    out.push_str("</body></html>\n");
    Some(out)
}

fn mood(state: State) -> (char, &'static str, &'static str) {
    match state {
        State::Ok => ('✓', "2da44e", "is-ok"),
        State::Pending => ('…', "d4a017", "is-pending"),
        State::Unknown => ('?', "8b949e", "is-unknown"),
        State::Firing => ('✕', "e5484d", "is-firing"),
    }
}

fn word(signal: &SignalView) -> &'static str {
    match signal.state {
        State::Ok => "OK",
        other => other.as_str(),
    }
}

fn header(out: &mut String, seen: Seen<'_>, signal: &SignalView, glyph: char) {
    out.push_str("<header class=\"top\"><div class=\"bar\"><nav class=\"instance\" aria-label=\"back\"><a href=\"/\">");
    html(out, &seen.snapshot.instance, 100);
    out.push_str("</a></nav>");
    plain(out, format_args!("<h1><span class=\"lamp\" aria-hidden=\"true\">{glyph}</span><span>"));
    html(out, signal.name(), 160);
    plain(out, format_args!(" <span class=\"word\">{}</span></span></h1><p class=\"looked\">", word(signal)));
    match seen.snapshot.tick.last_at {
        Some(at) => {
            out.push_str("checked ");
            ago(out, seen.snapshot.age(seen.now));
            out.push_str(", at ");
            seen.instant(out, at);
        }
        None => out.push_str("not checked yet"),
    }
    out.push_str("</p></div></header>");
}

fn facts(out: &mut String, seen: Seen<'_>, signal: &SignalView) {
    fact(out, "Signal", |out| {
        out.push_str("<code>");
        html(out, signal.key.as_str(), 200);
        out.push_str("</code>");
    });
    text(out, "Severity", signal.severity.as_str());
    let about = signal.about.as_deref();
    text(out, "Part of", about.map_or("", |about| &about.group));
    if let Some(details) = signal.details.as_deref().filter(|details| !details.happened.is_empty()) {
        text(out, "What", &format!("{} {}", signal.name(), details.happened));
    }
    text(out, "Seen", &signal.detail);
    let evidence = signal.details.iter().flat_map(|details| &details.evidence).take(EVIDENCE);
    evidence.for_each(|line| text(out, "Evidence", line));
    if let Some(since) = signal.since {
        fact(out, "Since", |out| {
            seen.instant(out, since);
            plain(out, format_args!(", for {}", people(seen.ago(since))));
        });
    }
    if let Some(incident) = &signal.incident {
        fact(out, "Incident", |out| {
            out.push_str("<span class=\"incident\">");
            html(out, &incident.to_string(), 16);
            out.push_str("</span>");
        });
    }
    text(out, "Why", &signal.reason);
    if let Some(silenced) = &signal.silenced {
        fact(out, "Silenced", |out| {
            out.push_str("until ");
            seen.instant(out, silenced.until);
            let by = if silenced.by == By::Silence { "the silence" } else { "the maintenance window" };
            plain(out, format_args!(" by {by} <code>"));
            html(out, &silenced.pattern, 200);
            out.push_str("</code>");
            if !silenced.reason.is_empty() {
                out.push_str(": ");
                html(out, &silenced.reason, 200);
            }
        });
    }
    fact(out, "Last alert", |out| match signal.last_alert_at {
        Some(at) => {
            seen.instant(out, at);
            out.push_str(", ");
            ago(out, seen.ago(at));
        }
        None => out.push_str("never"),
    });
    if let Some(target) = seen.snapshot.targets.iter().find(|target| target.name == signal.key.as_str()) {
        repair(out, target);
    }
    text(out, "Next step", signal.details.as_deref().map_or("", |details| &details.advice));
    text(out, "Note", about.map_or("", |about| &about.note));
    if let Some(runbook) = about.map(|about| &*about.runbook).filter(|runbook| !runbook.is_empty()) {
        fact(out, "Runbook", |out| link(out, runbook));
    }
}

/// Why it is or is not repaired.
fn repair(out: &mut String, target: &TargetView) {
    fact(out, "Repair", |out| {
        html(out, &Deed::of(target.simulated).names(&*target.phase), 80);
        if target.attempts > 0 {
            plain(out, format_args!(", {}", count(target.attempts as usize, "attempt", "attempts")));
        }
        if !target.blocked.is_empty() {
            out.push_str(", not touched: ");
            html(out, &target.blocked.join(", "), 300);
        }
        if !target.reason.is_empty() {
            out.push_str("; ");
            html(out, &target.reason, 600);
        }
    });
}

fn fact(out: &mut String, label: &str, write: impl FnOnce(&mut String)) {
    plain(out, format_args!("<div><dt>{label}</dt><dd>"));
    write(out);
    out.push_str("</dd></div>");
}

fn text(out: &mut String, label: &str, text: &str) {
    if !text.is_empty() {
        fact(out, label, |out| html(out, text, 1_000));
    }
}

/// A link for http and https; whatever else it is stays text.
fn link(out: &mut String, url: &str) {
    let lower = url.to_ascii_lowercase();
    if !lower.starts_with("https://") && !lower.starts_with("http://") {
        return html(out, url, 2_000);
    }
    out.push_str("<a rel=\"noreferrer\" href=\"");
    html(out, url, 2_000);
    out.push_str("\">");
    html(out, url, 200);
    out.push_str("</a>");
}

fn history(out: &mut String, seen: Seen<'_>, signal: &SignalView) {
    let entries: Vec<&HistoryView> =
        seen.snapshot.recent.iter().filter(|entry| entry.subject == signal.key.as_str()).take(LATELY).collect();
    out.push_str("<section aria-labelledby=\"h-history\"><h2 id=\"h-history\">Recent events</h2>");
    super::lists::events(out, seen, &entries, LATELY);
    out.push_str("<p class=\"more\">More: <code>watchdog history ");
    html(out, &format!("'{}'", signal.key), 220);
    out.push_str("</code></p></section>");
}
