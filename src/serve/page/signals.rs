//! The signals of the page, worst first: cards for what is not well, rows for what is.
//!
//! The number shown is bounded, so that a page of a hundred thousand signals still opens on a
//! phone; what is left out is counted and stands in the JSON.

use super::{Seen, View, count};
use crate::core::name::in_url;
use crate::core::signal::State;
use crate::core::time::people;
use crate::serve::escape::{html, plain};
use crate::serve::snapshot::SignalView;
use crate::serve::strip::{QUARTERS, Strip};
use std::sync::Arc;

/// Signals shown in one state at most.
const SHOWN: usize = 2_000;
/// More well signals than this are folded away.
const UNFOLDED: usize = 24;

/// Every group of signals that is not well and not empty.
pub fn in_trouble(out: &mut String, seen: Seen<'_>) {
    for state in [State::Firing, State::Unknown, State::Pending] {
        let mut group: Vec<&SignalView> =
            seen.snapshot.signals.iter().map(Arc::as_ref).filter(|s| s.state == state).collect();
        // By severity, the newest first within one; the order of keys breaks ties. What somebody has silenced, somebody
        // knows.
        group.sort_by_key(|s| (s.silenced.is_some(), s.severity, std::cmp::Reverse(s.since)));
        if group.is_empty() {
            continue;
        }
        let word = state.as_str();
        plain(out, format_args!("<section id=\"{word}\" aria-labelledby=\"h-{word}\"><h2 id=\"h-{word}\">"));
        plain(out, format_args!("{} <span class=\"n\">{}</span></h2><div class=\"cards\">", title(state), group.len()));
        for signal in group.iter().take(SHOWN) {
            card(out, seen, signal);
        }
        out.push_str("</div>");
        left_out(out, group.len());
        out.push_str("</section>");
    }
}

fn title(state: State) -> &'static str {
    match state {
        State::Firing => "Firing",
        State::Unknown => "Unknown",
        State::Pending => "Pending",
        State::Ok => "OK",
    }
}

fn card(out: &mut String, seen: Seen<'_>, signal: &SignalView) {
    let (state, severity) = (signal.state.as_str(), signal.severity.as_str());
    plain(out, format_args!("<article class=\"card {state} {severity}\"><header><h3>"));
    link(out, signal, |out| html(out, signal.name(), 160));
    plain(out, format_args!("</h3><span class=\"tag\">{severity}</span></header><p class=\"key\"><code>"));
    html(out, signal.key.as_str(), 200);
    out.push_str("</code>");
    if let Some(group) = signal.about.as_deref().map(|about| &about.group).filter(|group| !group.is_empty()) {
        out.push_str(" · ");
        html(out, group, 100);
    }
    if let Some(incident) = &signal.incident {
        out.push_str(" <span class=\"incident\">");
        html(out, &incident.to_string(), 16);
        out.push_str("</span>");
    }
    out.push_str("</p>");
    paragraph(out, "detail", &signal.detail, 500);
    times(out, seen, signal);
    silenced(out, seen, signal);
    paragraph(out, "reason", &signal.reason, 300);
    strip(out, &signal.strip);
    span(out);
    out.push_str("</article>");
}

/// A link to the page of the signal.
fn link(out: &mut String, signal: &SignalView, write: impl FnOnce(&mut String)) {
    plain(out, format_args!("<a class=\"to\" href=\"/signal/{}\">", in_url(signal.key.as_str())));
    write(out);
    out.push_str("</a>");
}

fn times(out: &mut String, seen: Seen<'_>, signal: &SignalView) {
    let Some(since) = signal.since else { return };
    plain(out, format_args!("<p class=\"when\">for <b>{}</b>, since ", people(seen.ago(since))));
    seen.instant(out, since);
    out.push_str("</p>");
}

fn silenced(out: &mut String, seen: Seen<'_>, signal: &SignalView) {
    let Some(silenced) = &signal.silenced else { return };
    out.push_str("<p class=\"silenced\">silenced until ");
    seen.instant(out, silenced.until);
    plain(out, format_args!(" by {} <code>", silenced.by.as_str()));
    html(out, &silenced.pattern, 200);
    out.push_str("</code>");
    if !silenced.reason.is_empty() {
        out.push_str(": ");
        html(out, &silenced.reason, 200);
    }
    out.push_str("</p>");
}

/// The signals that are well, folded away when there are many.
pub fn well(out: &mut String, seen: Seen<'_>, view: View) {
    let group: Vec<&SignalView> =
        seen.snapshot.signals.iter().map(Arc::as_ref).filter(|s| s.state == State::Ok).collect();
    if group.is_empty() {
        return;
    }
    plain(
        out,
        format_args!(
            "<section id=\"ok\" aria-labelledby=\"h-ok\"><h2 id=\"h-ok\">OK <span class=\"n\">{} · strips: last 24 h</span></h2>",
            group.len()
        ),
    );
    let folded = group.len() > UNFOLDED;
    if folded {
        let open = if view.all { " open" } else { "" };
        let words = count(group.len(), "signal is OK", "signals are OK");
        plain(out, format_args!("<details{open}><summary>{words}</summary>"));
    }
    out.push_str("<ul class=\"rows\">");
    for signal in group.iter().take(SHOWN) {
        row(out, seen, signal);
    }
    out.push_str("</ul>");
    left_out(out, group.len());
    out.push_str(if folded { "</details></section>" } else { "</section>" });
}

fn row(out: &mut String, seen: Seen<'_>, signal: &SignalView) {
    out.push_str("<li><div class=\"what\"><code>");
    link(out, signal, |out| html(out, signal.key.as_str(), 200));
    out.push_str("</code><span class=\"detail\">");
    html(out, if signal.detail.is_empty() { &signal.title } else { &signal.detail }, 200);
    out.push_str("</span></div>");
    if let Some(since) = signal.since {
        plain(out, format_args!("<span class=\"for\" title=\"since {since}\">{}</span>", people(seen.ago(since))));
    }
    strip(out, &signal.strip);
    out.push_str("</li>");
}

fn left_out(out: &mut String, total: usize) {
    if let Some(more) = total.checked_sub(SHOWN).filter(|more| *more > 0) {
        plain(
            out,
            format_args!(
                "<p class=\"more\">{more} more are not shown here; see <a href=\"/api/v1/status\">JSON</a>.</p>"
            ),
        );
    }
}

fn paragraph(out: &mut String, class: &str, text: &str, limit: usize) {
    if !text.is_empty() {
        plain(out, format_args!("<p class=\"{class}\">"));
        html(out, text, limit);
        out.push_str("</p>");
    }
}

/// What a strip covers, below it; its title says so to who does not see it.
pub fn span(out: &mut String) {
    out.push_str("<p class=\"span\" aria-hidden=\"true\"><span>24 h ago</span><span>now</span></p>");
}

/// A day as a picture. Height speaks together with colour: well is low, firing is full.
pub fn strip(out: &mut String, strip: &Strip) {
    plain(
        out,
        format_args!(
            "<svg class=\"strip\" viewBox=\"0 0 {QUARTERS} 10\" preserveAspectRatio=\"none\" role=\"img\"><title>{}</title>",
            spoken(strip)
        ),
    );
    for run in strip.runs() {
        let (class, height) = match run.state {
            None => ("none", 2),
            Some(State::Ok) => ("ok", 5),
            Some(State::Pending) => ("pending", 7),
            Some(State::Unknown) => ("unknown", 7),
            Some(State::Firing) => ("firing", 10),
        };
        plain(
            out,
            format_args!(
                "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{height}\"/>",
                run.from,
                10 - height,
                run.count
            ),
        );
    }
    out.push_str("</svg>");
}

/// The same in words: `last 24 hours: firing in 2 quarters of an hour, well in 94`.
fn spoken(strip: &Strip) -> String {
    let mut parts = Vec::new();
    for (state, word) in [
        (Some(State::Firing), "firing"),
        (Some(State::Unknown), "unknown"),
        (Some(State::Pending), "pending"),
        (Some(State::Ok), "well"),
        (None, "not watched"),
    ] {
        let quarters = strip.quarters(state);
        if quarters > 0 {
            parts.push(format!("{word} {}", people(std::time::Duration::from_secs(quarters as u64 * 900))));
        }
    }
    format!("last 24 hours: {}", parts.join(", "))
}
