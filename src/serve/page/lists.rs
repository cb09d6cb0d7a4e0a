//! Repairs, and the lower part of the page: what happened lately, ways out, eyes.
//!
//! What is in trouble stands with its error in words; what is well takes one line.

use std::sync::Arc;

use super::{Seen, View, ago, count};
use crate::core::recovery::phrase::Deed;
use crate::core::time::people;
use crate::serve::escape::{html, plain};
use crate::serve::snapshot::{HistoryView, RECENT, TargetView};

/// Entries of history shown folded in.
const LATELY: usize = 20;
/// Entries of history shown when the reader asked for all.
const LATELY_ALL: usize = 300;
/// Repairs, channels or sources shown at most.
const SHOWN: usize = 500;

/// Every list that is not empty.
pub fn write(out: &mut String, seen: Seen<'_>, view: View) {
    history(out, seen, view);
    out.push_str("<div class=\"pair\">");
    channels(out, seen);
    sources(out, seen);
    out.push_str("</div>");
}

fn channels(out: &mut String, seen: Seen<'_>) {
    if seen.snapshot.channels.is_empty() {
        return;
    }
    out.push_str("<section aria-labelledby=\"h-channels\"><h2 id=\"h-channels\">Channels</h2><ul class=\"parts\">");
    for channel in seen.snapshot.channels.iter().take(SHOWN) {
        part(out, &channel.name, &channel.state);
        if channel.pending > 0 {
            let age = people(std::time::Duration::from_secs(channel.oldest_pending_s));
            plain(out, format_args!("<span class=\"more\">{} waiting, {age}</span>", channel.pending));
        }
        error(out, channel.error.as_deref());
    }
    out.push_str("</ul></section>");
}

fn sources(out: &mut String, seen: Seen<'_>) {
    if seen.snapshot.sources.is_empty() {
        return;
    }
    out.push_str("<section aria-labelledby=\"h-sources\"><h2 id=\"h-sources\">Sources</h2><ul class=\"parts\">");
    for source in seen.snapshot.sources.iter().take(SHOWN) {
        part(out, &source.name, &source.state);
        out.push_str("<span class=\"more\">");
        match source.last_ok_at {
            Some(at) if source.state != "ok" => {
                out.push_str("last OK ");
                ago(out, seen.ago(at));
            }
            Some(_) => plain(out, format_args!("{:.1} ms", source.duration_ms)),
            None => out.push_str("never answered"),
        }
        out.push_str("</span>");
        error(out, source.error.as_deref().or(source.note.as_deref()));
    }
    out.push_str("</ul></section>");
}

/// What is silenced now, and which windows come next; nothing where there are none.
pub fn silences(out: &mut String, seen: Seen<'_>) {
    let silences = &seen.snapshot.silences;
    if silences.is_empty() {
        return;
    }
    out.push_str("<section aria-labelledby=\"h-silences\"><h2 id=\"h-silences\">Silences</h2><ul class=\"parts\">");
    for silence in silences.iter().take(SHOWN) {
        out.push_str("<li class=\"quiet\"><code>");
        html(out, &silence.r#match.join(", "), 200);
        plain(out, format_args!("</code><span class=\"state\">{}</span><span class=\"more\">", silence.by.as_str()));
        if silence.active {
            out.push_str("until ");
            seen.instant(out, silence.until);
        } else {
            out.push_str("next ");
            seen.instant(out, silence.since);
            out.push_str(" to ");
            seen.instant(out, silence.until);
        }
        out.push_str("</span>");
        error(out, Some(silence.reason.as_str()).filter(|reason| !reason.is_empty()));
    }
    out.push_str("</ul></section>");
}

/// What may be repaired: each that is not simply healthy, and how many are.
pub fn repairs(out: &mut String, seen: Seen<'_>) {
    let targets = &seen.snapshot.targets;
    if targets.is_empty() {
        return;
    }
    let in_trouble: Vec<&TargetView> = targets.iter().map(Arc::as_ref).filter(|target| !is_well(target)).collect();
    out.push_str("<section aria-labelledby=\"h-repairs\"><h2 id=\"h-repairs\">Repairs</h2><ul class=\"parts\">");
    for target in in_trouble.iter().take(SHOWN) {
        repair(out, seen, target);
    }
    let left_out = in_trouble.len().saturating_sub(SHOWN);
    if left_out > 0 {
        plain(out, format_args!("<li class=\"bad\">{left_out} more are not healthy; see the JSON.</li>"));
    }
    match targets.len() - in_trouble.len() {
        0 => {}
        1 => out.push_str("<li class=\"ok\">1 healthy node</li>"),
        healthy => plain(out, format_args!("<li class=\"ok\">{healthy} healthy nodes</li>")),
    }
    out.push_str("</ul></section>");
}

fn is_well(target: &TargetView) -> bool {
    target.phase == "healthy" && target.blocked.is_empty() && target.attempts == 0
}

fn repair(out: &mut String, seen: Seen<'_>, target: &TargetView) {
    let state = if target.phase == "healthy" { "ok" } else { &target.phase };
    let words = Deed::of(target.simulated).names(state);
    let is_well = state == "ok" && !target.simulated;
    part(out, &target.name, if is_well { "ok" } else { &words });
    out.push_str("<span class=\"more\">");
    if let Some(since) = target.since {
        plain(out, format_args!("for {}", people(seen.ago(since))));
    }
    if target.attempts > 0 {
        let lead = if target.since.is_some() { ", " } else { "" };
        plain(out, format_args!("{lead}{}", count(target.attempts as usize, "attempt", "attempts")));
    }
    out.push_str("</span>");
    error(out, Some(&*target.reason).filter(|reason| !reason.is_empty()));
}

fn part(out: &mut String, name: &str, state: &str) {
    plain(out, format_args!("<li class=\"{}\"><code>", if state == "ok" { "ok" } else { "bad" }));
    html(out, name, 80);
    out.push_str("</code><span class=\"state\">");
    html(out, state, 40);
    out.push_str("</span>");
}

/// Ends the item that [`part`] began.
fn error(out: &mut String, error: Option<&str>) {
    if let Some(error) = error {
        out.push_str("<p class=\"detail\">");
        html(out, error, 400);
        out.push_str("</p>");
    }
    out.push_str("</li>");
}

fn history(out: &mut String, seen: Seen<'_>, view: View) {
    let recent = &seen.snapshot.recent;
    out.push_str("<section aria-labelledby=\"h-history\"><h2 id=\"h-history\">Recent events</h2>");
    let most = if view.all { LATELY_ALL } else { LATELY };
    let entries: Vec<&HistoryView> = recent.iter().take(RECENT).collect();
    events(out, seen, &entries, most);
    out.push_str("</section>");
}

/// Events, at most so many, newest first; what was delivered is folded away behind them.
pub fn events(out: &mut String, seen: Seen<'_>, entries: &[&HistoryView], most: usize) {
    let (delivered, others): (Vec<&HistoryView>, Vec<&HistoryView>) =
        entries.iter().copied().partition(|entry| entry.kind == "delivered");
    let shown = others.len().min(most);
    // Those that belong to what is shown.
    let since = others.iter().take(shown).map(|entry| entry.at).min();
    let delivered: Vec<&HistoryView> =
        delivered.into_iter().filter(|entry| since.is_none_or(|since| entry.at >= since)).take(most).collect();
    if shown == 0 && delivered.is_empty() {
        out.push_str("<p class=\"quiet\">Nothing has happened yet.</p>");
        return;
    }
    if shown > 0 {
        out.push_str("<ol class=\"history\">");
        others.iter().take(shown).for_each(|entry| event(out, seen, entry));
        out.push_str("</ol>");
    }
    if !delivered.is_empty() {
        let words = count(delivered.len(), "delivery", "deliveries");
        plain(out, format_args!("<details class=\"delivered\"><summary>{words}</summary><ol class=\"history\">"));
        delivered.iter().for_each(|entry| event(out, seen, entry));
        out.push_str("</ol></details>");
    }
}

fn event(out: &mut String, seen: Seen<'_>, entry: &HistoryView) {
    plain(out, format_args!("<li class=\"{}\">", tone(&entry.kind)));
    seen.instant(out, entry.at);
    out.push_str("<span class=\"kind\">");
    html(out, &entry.kind, 24);
    out.push_str("</span><span class=\"what\"><code>");
    html(out, &entry.subject, 200);
    out.push_str("</code> ");
    html(out, &entry.text, 240);
    if let Some(incident) = &entry.incident {
        out.push_str(" <span class=\"incident\">");
        html(out, &incident.to_string(), 16);
        out.push_str("</span>");
    }
    out.push_str("</span></li>");
}

fn tone(kind: &str) -> &'static str {
    match kind {
        "alert" | "realert" => "firing",
        "recovery" | "seen" => "ok",
        "unknown" => "unknown",
        _ => "plain",
    }
}
