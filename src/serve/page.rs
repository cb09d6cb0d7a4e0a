//! The status page: one HTML document, readable on a phone at night, without any script.
//!
//! State at a glance comes first, then what should worry the reader (a late loop, undelivered
//! alerts, a switched-off watchdog), then signals from the worst to the best. Refreshes itself.
//! Everything from outside goes through [`escape`](super::escape); colours never speak alone.
//! The only style is the one inside, allowed by its hash ([`STYLE_HASH`]).

mod headline;
mod lists;
mod signals;

use std::time::Duration;

use super::escape::{html, plain};
use super::snapshot::Snapshot;
use crate::core::time::{Now, Wall, people};

/// The page's style; the response header allows exactly this text.
pub const STYLE: &str = include_str!("page/style.css");
/// SHA-256 of [`STYLE`] in base64, for the content security policy.
pub const STYLE_HASH: &str = "";

/// What the reader asked for in the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct View {
    /// Every list unfolded (`/?all`).
    pub all: bool,
    /// No refresh (`/?pause`).
    pub paused: bool,
}

impl View {
    /// Reads the query string; what it does not know it leaves alone.
    pub fn parse(query: &str) -> View {
        let has = |wanted: &str| query.split('&').any(|pair| pair.split('=').next() == Some(wanted));
        View { all: has("all"), paused: has("pause") }
    }

    fn link(self) -> &'static str {
        match (self.all, self.paused) {
            (false, false) => "/",
            (true, false) => "/?all",
            (false, true) => "/?pause",
            (true, true) => "/?all&amp;pause",
        }
    }
}

/// The whole document.
pub fn render(snapshot: &Snapshot, now: Now, view: View) -> String {
    let mut out = String::with_capacity(16 * 1024 + snapshot.signals.len() * 900);
    let seen = Seen { snapshot, now };
    let headline = headline::Headline::of(snapshot, now);
    head(&mut out, snapshot, &headline, view);
    headline.write(&mut out, seen);
    out.push_str("<main>");
    headline::notes(&mut out, seen);
    signals::write(&mut out, seen, view);
    lists::write(&mut out, seen, view);
    out.push_str("</main>");
    foot(&mut out, snapshot, view);
    out.push_str("</body></html>\n");
    out
}

/// A picture and the instant at which it is looked at.
#[derive(Clone, Copy)]
struct Seen<'a> {
    snapshot: &'a Snapshot,
    now: Now,
}

impl Seen<'_> {
    fn ago(self, then: Wall) -> Duration {
        self.snapshot.ago(then, self.now)
    }

    /// `02:14:05`, with the date when that is not today's.
    fn instant(self, out: &mut String, at: Wall) {
        let today = self.snapshot.at.wall.date();
        let date = at.date();
        plain(out, format_args!("<time datetime=\"{}\">", at.rfc3339()));
        if date != today {
            plain(out, format_args!("{date} "));
        }
        plain(out, format_args!("{}</time>", at.clock()));
    }
}

fn head(out: &mut String, snapshot: &Snapshot, headline: &headline::Headline, view: View) {
    out.push_str(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><meta name=\"robots\" content=\"noindex\">",
    );
    if !view.paused {
        let seconds = (snapshot.interval_ms / 1_000).clamp(5, 60);
        plain(out, format_args!("<meta http-equiv=\"refresh\" content=\"{seconds}\">"));
    }
    out.push_str("<title>");
    plain(out, format_args!("{} {} – ", headline.glyph(), headline.words));
    html(out, &snapshot.instance, 100);
    out.push_str("</title>");
    plain(
        out,
        format_args!(
            "<link rel=\"icon\" href=\"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' \
             viewBox='0 0 16 16'%3E%3Ccircle cx='8' cy='8' r='7' fill='%23{}'/%3E%3C/svg%3E\">",
            headline.icon_colour()
        ),
    );
    out.push_str("<style>");
    out.push_str(STYLE);
    out.push_str("</style></head>");
    plain(out, format_args!("<body class=\"{}\">", headline.class()));
}

fn foot(out: &mut String, snapshot: &Snapshot, view: View) {
    out.push_str("<footer><nav aria-label=\"views\">");
    let other = View { paused: !view.paused, ..view };
    let refresh = if view.paused { "refresh by itself" } else { "pause refresh" };
    plain(out, format_args!("<a href=\"{}\">{refresh}</a>", other.link()));
    let other = View { all: !view.all, ..view };
    let folded = if view.all { "fold lists" } else { "unfold lists" };
    plain(out, format_args!("<a href=\"{}\">{folded}</a>", other.link()));
    out.push_str("<a href=\"/api/v1/status\">JSON</a><a href=\"/metrics\">metrics</a></nav><p>All times are UTC. watchdog ");
    html(out, &snapshot.version, 40);
    out.push_str(", running since ");
    plain(out, format_args!("<time datetime=\"{0}\">{1} {2}</time>", snapshot.started_at, snapshot.started_at.date(), snapshot.started_at.clock()));
    out.push_str(", mode ");
    html(out, &snapshot.mode, 20);
    out.push_str(", state ");
    html(out, &snapshot.state_file.to_string(), 200);
    out.push_str(".</p></footer>");
}

/// `one firing`, `3 firing`: a count and its word.
fn count(number: usize, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

/// Appends `3m 5s ago`.
fn ago(out: &mut String, span: Duration) {
    plain(out, format_args!("{} ago", people(span)));
}
