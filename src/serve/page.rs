//! The status page: one HTML document, readable on a phone at night, without any script.
//!
//! Each signal has a page of its own ([`signal`]), with everything that its message said.
//! State at a glance comes first, then what should worry the reader (a late loop, undelivered
//! alerts, a switched-off watchdog), then signals from the worst to the best, with the repairs before
//! what is well. Refreshes itself.
//! Everything from outside goes through [`escape`](super::escape); colours never speak alone.
//! The only style is the one inside, allowed by its hash ([`STYLE_HASH`]).

mod document;
mod headline;
mod lists;
pub mod signal;
mod signals;

use std::time::Duration;

use super::escape::plain;
use super::snapshot::Snapshot;
use crate::core::time::{Now, Wall, people};

/// The page's style; the response header allows exactly this text.
pub const STYLE: &str = include_str!("page/style.css");
/// SHA-256 of [`STYLE`] in base64, for the content security policy.
pub const STYLE_HASH: &str = "/6HQYIEny6XSK1kNds+26DrEokuoCf4UUWpaldYclR4=";

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
    let tab = document::Head {
        glyph: headline.glyph(),
        words: &headline.words,
        colour: headline.icon_colour(),
        class: headline.class(),
    };
    document::head(&mut out, snapshot, &tab, view);
    headline.write(&mut out, seen);
    out.push_str("<main id=\"main\">");
    headline::notes(&mut out, seen);
    signals::in_trouble(&mut out, seen);
    lists::repairs(&mut out, seen);
    lists::silences(&mut out, seen);
    signals::well(&mut out, seen, view);
    lists::write(&mut out, seen, view);
    out.push_str("</main>");
    let refresh = if view.paused { "refresh by itself" } else { "pause refresh" };
    let folded = if view.all { "fold lists" } else { "unfold lists" };
    let views = [(View { paused: !view.paused, ..view }, refresh), (View { all: !view.all, ..view }, folded)];
    document::foot(&mut out, snapshot, &views.map(|(other, words)| (other.link().to_string(), words)));
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
        let zone = &self.snapshot.zone;
        let (date, today, clock) = (zone.date(at), zone.date(self.snapshot.at.wall), zone.clock(at));
        plain(out, format_args!("<time datetime=\"{}\">", at.rfc3339()));
        if date != today {
            plain(out, format_args!("{date} "));
        }
        // Which zone that is stands at the foot of the page.
        plain(out, format_args!("{}</time>", clock.trim_end_matches(" UTC")));
    }
}

/// `one firing`, `3 firing`: a count and its word.
fn count(number: usize, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

/// Appends `3m 5s ago`, or `just now`.
fn ago(out: &mut String, span: Duration) {
    if span < Duration::from_secs(1) {
        out.push_str("just now");
    } else {
        plain(out, format_args!("{} ago", people(span)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::about::{About, Details};
    use crate::core::edge::Incident;
    use crate::core::signal::{Severity, SignalKey, State};
    use crate::core::time::Mono;
    use crate::serve::sample::{sample, signal};
    use crate::serve::snapshot::{HistoryView, StateFile, TargetView};

    fn page(change: impl FnOnce(&mut Snapshot)) -> String {
        let (mut snapshot, now) = sample();
        change(&mut snapshot);
        render(&snapshot, now, View::default())
    }

    fn title(page: &str) -> &str {
        page.split_once("<title>").unwrap().1.split_once("</title>").unwrap().0
    }

    #[test]
    fn the_policy_allows_the_style_that_is_sent() {
        let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
        let digest = suite.tls13().unwrap().common.hash_provider.hash(STYLE.as_bytes());
        let alphabet: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['+', '/']).collect();
        let mut text = String::new();
        for three in digest.as_ref().chunks(3) {
            let bits = three.iter().fold(0_u32, |all, byte| (all << 8) | u32::from(*byte)) << (8 * (3 - three.len()));
            for place in 0..4 {
                let six = (bits >> (18 - 6 * place)) & 63;
                text.push(if place > three.len() { '=' } else { alphabet[six as usize] });
            }
        }
        assert_eq!(STYLE_HASH, text, "the style changed: this is its new hash");
        assert!(page(|_| {}).contains(&format!("<style>{STYLE}</style>")));
        assert!(!STYLE.contains("</") && !STYLE.contains("url("));
    }

    #[test]
    fn the_headline_says_the_worst_and_never_all_well_without_looking() {
        let all_ok = |s: &mut Snapshot| s.signals.iter_mut().for_each(|v| Arc::make_mut(v).state = State::Ok);
        let only =
            |state: State| move |s: &mut Snapshot| s.signals.iter_mut().for_each(|v| Arc::make_mut(v).state = state);
        assert_eq!(title(&page(|_| {})), "✕ 1 firing – web-1");
        assert_eq!(title(&page(all_ok)), "✓ All well – web-1");
        assert_eq!(title(&page(only(State::Unknown))), "? Blind – web-1");
        assert_eq!(title(&page(only(State::Pending))), "… 4 pending – web-1");
        assert_eq!(title(&page(|s| s.signals.clear())), "? Nothing is watched – web-1");
        assert_eq!(title(&page(|s| s.enabled = false)), "– Switched off – web-1");
        assert_eq!(title(&page(|s| s.tick.count = 0)), "– Looking for the first time – web-1");
        let blind = page(|s| {
            all_ok(s);
            s.sources.iter_mut().for_each(|source| source.state = "blind".into());
        });
        assert_eq!(title(&blind), "? Blind – web-1");
        let one_unknown = page(|s| {
            all_ok(s);
            Arc::make_mut(&mut s.signals[0]).state = State::Unknown;
        });
        assert_eq!(title(&one_unknown), "? 1 unknown – web-1");
    }

    #[test]
    fn a_loop_that_hangs_is_louder_than_anything_it_once_saw() {
        let (mut snapshot, now) = sample();
        snapshot.signals.iter_mut().for_each(|v| Arc::make_mut(v).state = State::Ok);
        let later = Now { mono: Mono(now.mono.0 + 240_000), ..now };
        let page = render(&snapshot, later, View::default());
        assert_eq!(title(&page), "✕ Not looking – web-1");
        assert!(page.contains("the last check was 4 min 3 s ago"), "{page}");
        assert!(!page.contains("All well"));
    }

    #[test]
    fn undelivered_alerts_and_a_state_that_cannot_be_written_are_said_on_top() {
        let page = page(|s| s.state_file = StateFile::Failing("disk full".into()));
        let top = page.split_once("id=\"firing\"").unwrap().0;
        assert!(top.contains("Alerts do not arrive") && top.contains("2 messages waiting, the oldest for 1 min 30 s"));
        assert!(top.contains("no answer within 5s") && top.contains("disk full"));
        let quiet = self::page(|s| {
            s.channels[1].state = "ok".into();
            s.channels[1].oldest_pending_s = 2;
        });
        assert!(!quiet.contains("class=\"note"), "a message two seconds old is not a problem");
    }

    #[test]
    fn worst_comes_first_and_ages_are_told() {
        let page = page(|_| {});
        let places: Vec<usize> =
            ["firing", "unknown", "pending", "h-repairs", "ok", "h-history", "h-channels", "h-sources"]
                .iter()
                .map(|id| page.find(&format!("id=\"{id}\"")).unwrap())
                .collect();
        assert!(places.is_sorted(), "{places:?}");
        assert!(page.contains("for <b>12 min 8 s</b>, since <time datetime=\"2026-01-01T02:02:00Z\">02:02:00</time>"));
        assert!(page.contains("#k3f9"));
        assert!(page.contains("last 24 hours: firing 15 min, well 15 min, not watched 23 h 30 min"));
    }

    #[test]
    fn of_repairs_those_in_trouble_are_shown_and_the_healthy_ones_counted() {
        let page = page(|s| {
            let suspect = Arc::clone(&s.targets[0]);
            let healthy = |n: usize| TargetView {
                name: format!("node/a{n}"),
                phase: "healthy".into(),
                attempts: 0,
                blocked: Vec::new(),
                reason: "its heartbeat is there".into(),
                ..TargetView::clone(&suspect)
            };
            let back = TargetView { attempts: 2, ..healthy(9_999) };
            s.targets = (0..9_998).map(healthy).chain([back]).map(Arc::new).chain([Arc::clone(&suspect)]).collect();
        });
        let (_, repairs) = page.split_once("h-repairs").unwrap();
        let (repairs, _) = repairs.split_once("</section>").unwrap();
        for words in [
            "node/n1",
            "suspect",
            "1 attempt<",
            "simulated: would not be touched: in-flight",
            "node/a9999",
            "2 attempts",
        ] {
            assert!(repairs.contains(words), "{words} in {repairs}");
        }
        assert!(repairs.ends_with("<li class=\"ok\">9998 healthy nodes</li></ul>"), "{repairs}");
        assert!(!repairs.contains("node/a1<"));
    }

    #[test]
    fn nothing_from_outside_becomes_markup() {
        const EVIL: &str = "\"><script>alert(1)</script><img src=x onerror='x'>&\u{202e}\u{1b}[2J";
        let page = page(|s| {
            s.instance = EVIL.into();
            s.version = EVIL.into();
            s.mode = EVIL.into();
            s.state_file = StateFile::Failing(EVIL.into());
            for (view, state) in s.signals.iter_mut().zip([State::Ok, State::Pending, State::Firing, State::Unknown]) {
                let view = Arc::make_mut(view);
                view.key = SignalKey::new(EVIL);
                view.title = EVIL.into();
                view.detail = EVIL.into();
                view.reason = EVIL.into();
                view.incident = Some(Incident(EVIL.into()));
                view.state = state;
            }
            for target in s.targets.iter_mut().map(Arc::make_mut) {
                (target.name, target.phase, target.blocked) = (EVIL.into(), EVIL.into(), vec![EVIL.into()]);
            }
            for channel in &mut s.channels {
                (channel.name, channel.state, channel.error) = (EVIL.into(), EVIL.into(), Some(EVIL.into()));
            }
            for source in &mut s.sources {
                (source.name, source.state, source.error) = (EVIL.into(), EVIL.into(), Some(EVIL.into()));
            }
            for silence in &mut s.silences {
                (silence.r#match, silence.reason) = (vec![EVIL.into()], EVIL.into());
            }
            s.recent = [HistoryView {
                at: s.at.wall,
                kind: EVIL.into(),
                subject: EVIL.into(),
                incident: Some(Incident(EVIL.into())),
                severity: None,
                text: EVIL.into(),
            }]
            .into();
        });
        for forbidden in ["<script", "<img", "onerror='", "\u{202e}", "\u{1b}"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        assert!(page.matches("&lt;script&gt;").count() > 20);
        assert!(page.contains("href=\"/signal/%22%3E%3Cscript%3Ealert%281%29%3C/script%3E%3Cimg%20"));
    }

    #[test]
    fn the_page_of_a_signal_tells_everything_that_its_message_said() {
        let (mut snapshot, now) = sample();
        {
            let web = Arc::make_mut(&mut snapshot.signals[0]);
            let (name, group) = ("web".into(), "project shop".into());
            let (note, runbook) = ("ask Ann first".into(), "https://wiki.example.org/web".into());
            web.about = Some(Arc::new(About { name, group, note, runbook, ..About::default() }));
            let details = Details::new("keeps crashing", "docker logs --tail 50 shop-web-1");
            web.details = Some(Arc::new(details.with("last line: \"cannot fork\"")));
        }
        snapshot.recent = (0..3)
            .flat_map(|_| {
                let entry = snapshot.recent[0].clone();
                let delivered =
                    HistoryView { kind: "delivered".into(), text: "told on telegram".into(), ..entry.clone() };
                [entry.clone(), delivered, HistoryView { subject: "probe/db".into(), text: "not this".into(), ..entry }]
            })
            .collect();
        let page = signal::render(&snapshot, now, "container/web", View::default()).unwrap();
        assert_eq!(title(&page), "✕ web firing – web-1");
        for words in [
            "container/web",
            "project shop",
            "web keeps crashing",
            "exit code 137, out of memory",
            "last line: &quot;cannot fork&quot;",
            "docker logs --tail 50 shop-web-1",
            "ask Ann first",
            "<a rel=\"noreferrer\" href=\"https://wiki.example.org/web\">",
            "#k3f9",
            "alerted, next reminder in 59 min",
            "watchdog history &#39;container/web&#39;",
            "<summary>3 deliveries</summary>",
            "last 24 hours: ",
        ] {
            assert!(page.contains(words), "{words} in {page}");
        }
        assert!(!page.contains("not this") && !page.contains("<script"));
        let db = signal::render(&snapshot, now, "probe/db", View::default()).unwrap();
        let silenced =
            "until <time datetime=\"2026-01-01T07:30:00Z\">07:30:00</time> by the silence <code>probe/*</code>";
        assert!(db.contains(silenced) && db.contains("upgrade of &lt;db&gt;"), "{db}");
        assert_eq!(signal::render(&snapshot, now, "probe/nothing", View::default()), None);
        // A node says whether it is repaired.
        Arc::make_mut(&mut snapshot.signals[1]).key = SignalKey::new("node/n1");
        let node = signal::render(&snapshot, now, "node/n1", View::default()).unwrap();
        assert!(node.contains("suspect") && node.contains("not touched: in-flight"), "{node}");
        // The cards lead there.
        let all = render(&snapshot, now, View::default());
        assert!(all.contains("<h3><a class=\"to\" href=\"/signal/container/web\">web</a></h3>"), "{all}");
        assert!(all.contains("<summary>3 deliveries</summary>") && all.contains("silenced until"), "{all}");
    }

    #[test]
    fn nothing_from_outside_becomes_markup_or_a_script_on_the_page_of_a_signal() {
        const EVIL: &str = "\"><script>alert(1)</script><img src=x onerror='x'>&\u{202e}\u{1b}[2J";
        for runbook in
            [EVIL, "javascript:alert(1)", "JavaScript:alert(1)", "data:text/html,x", " https://x\" onclick=x"]
        {
            let (mut snapshot, now) = sample();
            snapshot.instance = EVIL.into();
            let view = Arc::make_mut(&mut snapshot.signals[2]);
            view.key = SignalKey::new(EVIL);
            (view.title, view.detail, view.reason) = (EVIL.into(), EVIL.into(), EVIL.into());
            let evil: Arc<str> = EVIL.into();
            let about = About {
                name: Arc::clone(&evil),
                group: Arc::clone(&evil),
                note: evil,
                runbook: runbook.into(),
                ..About::default()
            };
            view.about = Some(Arc::new(about));
            view.details = Some(Arc::new(Details::new(EVIL, EVIL).with(EVIL)));
            view.incident = Some(Incident(EVIL.into()));
            let entry = HistoryView {
                subject: EVIL.into(),
                kind: EVIL.into(),
                text: EVIL.into(),
                ..snapshot.recent[0].clone()
            };
            snapshot.recent = [entry].into();
            let page = signal::render(&snapshot, now, EVIL, View::default()).unwrap();
            for forbidden in [
                "<script",
                "<img",
                "onerror='",
                "\u{202e}",
                "\u{1b}",
                "href=\"javascript",
                "href=\"JavaScript",
                "href=\"data:text",
                "href=\" ",
            ] {
                assert!(!page.contains(forbidden), "{forbidden} in {page}");
            }
            assert!(page.matches("&lt;script&gt;").count() > 8);
        }
    }

    #[test]
    fn the_page_of_a_signal_is_bounded() {
        let (mut snapshot, now) = sample();
        let entry = HistoryView { text: "x".repeat(2_000), ..snapshot.recent[0].clone() };
        snapshot.recent = vec![entry; crate::serve::snapshot::RECENT].into();
        let view = Arc::make_mut(&mut snapshot.signals[0]);
        let details = (0..1_000).fold(Details::new("x", "y"), |details, _| details.with("z".repeat(10_000)));
        view.details = Some(Arc::new(details));
        let page = signal::render(&snapshot, now, "container/web", View::default()).unwrap();
        assert!(page.len() < 300_000, "{}", page.len());
    }

    #[test]
    fn a_thousand_well_signals_are_folded_and_a_hundred_thousand_are_bounded() {
        let many = |n: usize| {
            move |s: &mut Snapshot| {
                s.signals = (0..n).map(|i| signal(&format!("probe/p{i}"), State::Ok, Severity::Info, "fine")).collect();
            }
        };
        let page = page(many(1_000));
        assert!(page.contains("<details><summary>1000 signals are OK</summary>"));
        assert_eq!(page.matches("<li><div class=\"what\">").count(), 1_000);
        let huge = self::page(many(100_000));
        assert!(huge.contains("98000 more are not shown here"));
        assert!(huge.len() < 2_000_000, "{}", huge.len());
    }

    #[test]
    fn the_reader_chooses_by_links_alone() {
        let (snapshot, now) = sample();
        assert!(render(&snapshot, now, View::default()).contains("http-equiv=\"refresh\" content=\"15\""));
        let view = View::parse("all&pause");
        assert_eq!(view, View { all: true, paused: true });
        assert!(!render(&snapshot, now, view).contains("http-equiv=\"refresh\""));
        assert_eq!(View::parse("allowed=1&x=all"), View::default());
        for script in ["<script", "javascript:", " onclick"] {
            assert!(!render(&snapshot, now, view).contains(script));
        }
    }
}
