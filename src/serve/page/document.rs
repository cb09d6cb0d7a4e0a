//! The frame of each page: its head with the style and the sign in the tab, and its foot.

use super::super::escape::{html, plain};
use super::super::snapshot::Snapshot;
use super::{STYLE, View};

/// What the tab of a page shows.
pub struct Head<'a> {
    /// A sign that needs no colour.
    pub glyph: char,
    /// What stands between the sign and the instance; escaped.
    pub words: &'a str,
    /// The colour of the icon, hexadecimal.
    pub colour: &'a str,
    /// The class of the page.
    pub class: &'a str,
}

/// Everything up to the open body.
pub fn head(out: &mut String, snapshot: &Snapshot, head: &Head<'_>, view: View) {
    out.push_str(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><meta name=\"robots\" content=\"noindex\">",
    );
    if !view.paused {
        let seconds = (snapshot.interval_ms / 1_000).clamp(5, 60);
        plain(out, format_args!("<meta http-equiv=\"refresh\" content=\"{seconds}\">"));
    }
    plain(out, format_args!("<title>{} {} – ", head.glyph, head.words));
    html(out, &snapshot.instance, 100);
    out.push_str("</title>");
    plain(
        out,
        format_args!(
            "<link rel=\"icon\" href=\"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' \
             viewBox='0 0 16 16'%3E%3Ccircle cx='8' cy='8' r='7' fill='%23{}'/%3E%3C/svg%3E\">",
            head.colour
        ),
    );
    out.push_str("<style>");
    out.push_str(STYLE);
    out.push_str("</style></head>");
    plain(out, format_args!("<body class=\"{}\">", head.class));
}

/// The links to other views, and what the program is. `links` are those that only this page has, escaped.
pub fn foot(out: &mut String, snapshot: &Snapshot, links: &[(String, &str)]) {
    out.push_str("<footer><nav aria-label=\"views\">");
    for (address, words) in links {
        plain(out, format_args!("<a href=\"{address}\">{words}</a>"));
    }
    out.push_str("<a href=\"/api/v1/status\">JSON</a><a href=\"/metrics\">metrics</a></nav><p>Times are in ");
    html(out, snapshot.zone.name(), 60);
    out.push_str(". Each strip is the last 24 hours, now at the right; the higher, the worse.</p><p>watchdog ");
    html(out, &snapshot.version, 40);
    out.push_str(", running since ");
    plain(
        out,
        format_args!(
            "<time datetime=\"{0}\">{1} {2}</time>",
            snapshot.started_at,
            snapshot.zone.date(snapshot.started_at),
            snapshot.zone.clock(snapshot.started_at).trim_end_matches(" UTC")
        ),
    );
    out.push_str(", mode ");
    html(out, &snapshot.mode, 20);
    out.push_str(", state ");
    html(out, &snapshot.state_file.to_string(), 200);
    out.push_str(".</p></footer>");
}
