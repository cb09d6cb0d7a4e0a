//! `docs/messages.md` shows every message as its reader sees it: made by the real verdicts, the real core and the real
//! composer, with a clock that stands where it is put. Each file here is one chapter, and each chapter is compared byte
//! for byte. To write them anew: `WATCHDOG_TEST_WRITE=1 cargo test --test it messages::`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod app;
mod docker;
mod every;
mod host;
mod nodes;
mod own;
mod probe;
mod silence;

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use watchdog::clock::Clock;
use watchdog::core::about::Details;
use watchdog::core::edge::{Edge, EdgeKind};
use watchdog::core::message::{Markup, Place, Style, compose, split, stories};
use watchdog::core::signal::{Answer, Observation, Report};
use watchdog::core::time::{Mono, Now, Wall};
use watchdog::core::watch::Policy;
use watchdog::core::zone::Zone;
use watchdog::source::{Kept, Outfit};
use watchdog::wake::Waker;

use crate::world::{World, answer, policy};

/// The chapters in their order.
const CHAPTERS: &[&str] =
    &["Every signal", "Probes", "Application", "Containers", "Host", "Nodes", "The watchdog itself", "Silences"];

const HEAD: &str = "\
# Messages

Every message that the watchdog sends, as it is read: `web-1` is the `instance`, times are in UTC. The first line says how
bad it is (🔴 critical, 🟠 warning, 🔵 info), where, what and what happened; then come the fact with its limit, evidence, since
when, and behind `→` what to do next. This file is written by a test, from the same code that writes the messages.
";

/// The distance of two looks.
pub const TICK: Duration = Duration::from_secs(15);
/// Looks after which a message must have come: more than it takes to be unknown for ten minutes.
const LOOKS: usize = 300;

/// One chapter of the document.
pub struct Chapter {
    title: &'static str,
    text: String,
}

impl Chapter {
    /// An empty chapter; its title is one of [`CHAPTERS`].
    pub fn new(title: &'static str) -> Chapter {
        assert!(CHAPTERS.contains(&title), "{title} has no place among the chapters");
        Chapter { title, text: format!("## {title}\n") }
    }

    /// Shows one message under a heading that names the verdict.
    pub fn show(&mut self, heading: &str, message: &str) {
        assert!(!message.is_empty(), "{heading}: nothing is told");
        let _ = write!(self.text, "\n### {heading}\n\n```text\n{message}\n```\n");
    }

    /// Compares it with the document, or writes it there.
    pub fn check(self) {
        static FILE: Mutex<()> = Mutex::new(());
        let _one_at_a_time = FILE.lock().unwrap_or_else(PoisonError::into_inner);
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/messages.md");
        let document = std::fs::read_to_string(path).unwrap_or_default();
        if std::env::var_os("WATCHDOG_TEST_WRITE").is_some() {
            let mut whole = HEAD.to_string();
            for title in CHAPTERS {
                let chapter = if *title == self.title { self.text.clone() } else { chapter(&document, title) };
                if !chapter.is_empty() {
                    whole.push('\n');
                    whole.push_str(&chapter);
                }
            }
            std::fs::write(path, whole).unwrap();
            return;
        }
        let found = chapter(&document, self.title);
        for (number, (found, expected)) in found.lines().zip(self.text.lines()).enumerate() {
            assert_eq!(found, expected, "docs/messages.md, {} line {}", self.title, number + 1);
        }
        assert_eq!(found.lines().count(), self.text.lines().count(), "docs/messages.md, {}", self.title);
    }
}

/// The chapter with this title, from its own line to the next chapter or the end.
fn chapter(document: &str, title: &str) -> String {
    let own = format!("## {title}");
    let mut lines = document.lines().skip_while(|line| *line != own);
    let Some(first) = lines.next() else { return String::new() };
    let rest = lines.take_while(|line| !line.starts_with("## "));
    let text = std::iter::once(first).chain(rest).collect::<Vec<_>>().join("\n");
    format!("{}\n", text.trim_end())
}

#[test]
fn the_document_holds_the_chapters_and_nothing_else() {
    if std::env::var_os("WATCHDOG_TEST_WRITE").is_some() {
        return;
    }
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/messages.md")).unwrap();
    assert!(document.starts_with(HEAD), "the head of docs/messages.md is another");
    let found: Vec<&str> = document.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(found, CHAPTERS);
}

/// Plain text, as it is read.
struct Plain;

impl Markup for Plain {
    fn open(&self, _: Style) -> &'static str {
        ""
    }
    fn close(&self, _: Style) -> &'static str {
        ""
    }
    fn escape(&self, c: char, out: &mut String) {
        out.push(c);
    }
}

/// These edges as one message, written at `now`.
pub fn read(edges: Vec<Edge>, now: Now) -> String {
    let place = Place { instance: "web-1", zone: &Zone::default(), now: now.wall };
    split(&compose(&stories(edges), &place), &Plain, 4096).join("\n")
}

/// The core, looked at every [`TICK`] by a clock that begins on 2026-01-01 at 02:14:05.
pub struct Scene {
    pub world: World,
}

impl Scene {
    /// Nothing was seen yet.
    pub fn new() -> Scene {
        let mut world = World::new(Policy { warm_up: false, ..policy() });
        world.pass_time(Duration::from_secs(2 * 3_600 + 14 * 60 + 5));
        Scene { world }
    }

    /// One look, whose observations are made now; what is told of it. `details`: what its source says when it is blind.
    pub fn look_with(&mut self, source: &str, outcome: Result<Report, String>, details: Option<Details>) -> Vec<Edge> {
        self.world.pass_time(TICK);
        let now = self.world.now.mono;
        let outcome = outcome.map(|mut report| {
            report.observations.iter_mut().for_each(|seen| seen.seen_at = now);
            report
        });
        let answer = Answer { details: details.map(Arc::new), ..answer(source, now, outcome) };
        self.world.pass(vec![answer]).edges
    }

    /// The same with these observations alone.
    pub fn see(&mut self, source: &str, observations: Vec<Observation>) -> Vec<Edge> {
        self.look_with(source, Ok(Report { observations, complete: true, ..Report::default() }), None)
    }

    /// Looks until something of this kind is told, and gives it as it is read.
    pub fn until(&mut self, kind: EdgeKind, source: &str, mut see: impl FnMut() -> Vec<Observation>) -> String {
        for _ in 0..LOOKS {
            let edges = self.see(source, see());
            if edges.iter().any(|edge| edge.kind == kind) {
                return read(edges, self.world.now);
            }
        }
        panic!("{LOOKS} looks and no {kind:?}");
    }
}

/// What the program lends to a source, on a clock that stands.
pub fn outfit() -> Outfit {
    let now = Now { wall: Wall(crate::world::NEW_YEAR), mono: Mono(86_400_000), awake: Mono(86_400_000) };
    Outfit {
        clock: Clock::by_hand(now).0,
        waker: Waker::new(),
        timeout: Duration::from_secs(5),
        tick: TICK,
        previous_boot: None,
        seen_before: Arc::default(),
        kept: Kept::default(),
    }
}
