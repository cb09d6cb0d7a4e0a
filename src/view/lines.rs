//! The long lists of the picture, one line per signal and per target.
//!
//! In most passes most of ten thousand lines are as they were: those are shared with the picture
//! before, and only what changed is put into words. What many lines have in common (the day, the reason) they
//! share. Decides nothing. See `adr/0023-reading-heartbeats.md` for how many there may be.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::recovery::plan::Standing;
use crate::core::signal::{SignalKey, Spec, State};
use crate::core::silence::Cover;
use crate::core::time::Wall;
use crate::core::tracked::{Grounds, Tracked};
use crate::core::watch::Watch;
use crate::serve::muted::Silenced;
use crate::serve::snapshot::{SignalView, TargetView};
use crate::serve::strip::Strip;

/// The lines shown last.
#[derive(Default)]
pub struct Lines {
    /// In the order in which the core has them.
    signals: Vec<Line>,
    /// The places of `signals`, sorted by key.
    order: Vec<usize>,
    targets: Vec<Arc<TargetView>>,
    /// How often what is silenced had changed when the lines were made.
    changes: u64,
    /// The past of a signal that has none.
    blank: Arc<Strip>,
}

/// What keeps news back, and how often that has changed.
pub struct Covers<'a> {
    /// While it stays the same, so does what `of` gives.
    pub changes: u64,
    /// What keeps news of a signal back.
    pub of: &'a dyn Fn(&SignalKey) -> Option<Cover>,
}

struct Line {
    spec: Arc<Spec>,
    grounds: Grounds,
    view: Arc<SignalView>,
}

/// What the line before this one came to: often it is the same for the next.
struct Neighbour {
    now: Wall,
    /// A day, the state noted in it, and the day that came of it.
    day: Option<(Arc<Strip>, State, Arc<Strip>)>,
    reason: Arc<str>,
    silenced: Option<Arc<Silenced>>,
}

impl Lines {
    /// Every signal as it stands, sorted by key. One that is shown for the first time begins with its strip in
    /// `strips`, where there is one.
    pub fn signals(
        &mut self,
        watch: &Watch,
        strips: &mut BTreeMap<SignalKey, Strip>,
        covers: &Covers<'_>,
        now: Wall,
    ) -> Vec<Arc<SignalView>> {
        let is_as_before = std::mem::replace(&mut self.changes, covers.changes) == covers.changes;
        let before = std::mem::take(&mut self.signals);
        self.signals.reserve_exact(before.len());
        let mut before = before.into_iter().peekable();
        let mut astray: BTreeMap<SignalKey, Line> = BTreeMap::new();
        let mut neighbour = Neighbour { now, day: None, reason: Arc::default(), silenced: None };
        let mut is_same = true;
        for tracked in watch.tracked() {
            let known = before.next_if(|line| Arc::ptr_eq(&line.spec, &tracked.spec)).or_else(|| {
                is_same = false;
                // Somebody came, went or was described anew: whoever is left is found by key.
                astray.extend(before.by_ref().map(|line| (line.view.key.clone(), line)));
                astray.remove(&tracked.spec.key)
            });
            let past = match &known {
                Some(line) => Arc::clone(&line.view.strip),
                None => strips.remove(&tracked.spec.key).map_or_else(|| Arc::clone(&self.blank), Arc::new),
            };
            let silenced = match &known {
                Some(line) if is_as_before => line.view.silenced.clone(),
                _ => (covers.of)(&tracked.spec.key).map(|cover| neighbour.silenced(cover.into())),
            };
            self.signals.push(line(tracked, known, &past, silenced, &mut neighbour));
        }
        if !is_same || before.next().is_some() {
            self.signals.shrink_to_fit();
            let mut places: Vec<(&SignalKey, usize)> =
                self.signals.iter().enumerate().map(|(place, line)| (&line.view.key, place)).collect();
            places.sort();
            self.order = places.into_iter().map(|(_, place)| place).collect();
        }
        let mut views = Vec::with_capacity(self.order.len());
        views.extend(self.order.iter().filter_map(|place| self.signals.get(*place)).map(|line| Arc::clone(&line.view)));
        views
    }

    /// Every target as it stands; `standings` are sorted by name.
    pub fn targets(&mut self, standings: impl IntoIterator<Item = Standing>) -> Vec<Arc<TargetView>> {
        let before = std::mem::take(&mut self.targets);
        self.targets.reserve_exact(before.len());
        let mut before = before.into_iter().peekable();
        for standing in standings {
            while before.next_if(|view| view.name.as_str() < &*standing.key).is_some() {}
            let known = before.next_if(|view| view.name.as_str() == &*standing.key);
            self.targets.push(match known.filter(|view| is_shown(view, &standing)) {
                Some(view) => view,
                None => Arc::new(target(standing)),
            });
        }
        self.targets.clone()
    }
}

impl Neighbour {
    /// The day `past` with `state` noted in it now.
    fn day(&mut self, past: &Arc<Strip>, state: State) -> Arc<Strip> {
        if let Some((before, noted, after)) = &self.day
            && *noted == state
            && Arc::ptr_eq(before, past)
        {
            return Arc::clone(after);
        }
        let mut strip = Strip::clone(past);
        strip.advance(self.now);
        strip.record(state);
        let after = if strip == **past { Arc::clone(past) } else { Arc::new(strip) };
        self.day = Some((Arc::clone(past), state, Arc::clone(&after)));
        after
    }

    fn silenced(&mut self, silenced: Silenced) -> Arc<Silenced> {
        match &self.silenced {
            Some(same) if **same == silenced => Arc::clone(same),
            _ => Arc::clone(self.silenced.insert(Arc::new(silenced))),
        }
    }

    fn reason(&mut self, reason: &str) -> Arc<str> {
        if *self.reason != *reason {
            self.reason = Arc::from(reason);
        }
        Arc::clone(&self.reason)
    }
}

fn line(
    tracked: &Tracked,
    known: Option<Line>,
    past: &Arc<Strip>,
    silenced: Option<Arc<Silenced>>,
    neighbour: &mut Neighbour,
) -> Line {
    let (spec, grounds) = (&tracked.spec, tracked.grounds());
    let strip = neighbour.day(past, tracked.state);
    let stands = |line: &Line| {
        let view = &line.view;
        Arc::ptr_eq(&line.spec, spec)
            && line.grounds == grounds
            && (view.state, view.since) == (tracked.state, Some(tracked.since))
            && (view.last_alert_at, view.incident.as_ref()) == (tracked.last_alert_at, tracked.incident())
            && view.detail == tracked.fact
            && view.silenced == silenced
            && view.details.as_ref() == tracked.details()
            && Arc::ptr_eq(&view.strip, &strip)
    };
    known.filter(stands).unwrap_or_else(|| Line {
        spec: Arc::clone(spec),
        grounds,
        view: Arc::new(SignalView {
            key: spec.key.clone(),
            state: tracked.state,
            severity: spec.severity,
            title: Arc::clone(&spec.title),
            detail: tracked.fact.clone(),
            since: Some(tracked.since),
            incident: tracked.incident().cloned(),
            reason: neighbour.reason(&reason(tracked, silenced.is_some())),
            last_alert_at: tracked.last_alert_at,
            silenced,
            about: spec.about.clone(),
            details: tracked.details().cloned(),
            strip,
        }),
    })
}

fn reason(tracked: &Tracked, is_silenced: bool) -> String {
    let reason = tracked.reason();
    if is_silenced { format!("{reason}; silenced, so nothing is sent") } else { reason }
}

fn is_shown(view: &TargetView, standing: &Standing) -> bool {
    view.phase == standing.phase.as_str()
        && (view.attempts, view.since) == (standing.attempts, standing.since)
        && view.unhealthy_s == standing.unhealthy.as_secs()
        && view.reason == *standing.reason
        && view.simulated == standing.simulated
        && view.blocked.iter().map(String::as_str).eq(standing.blocked.iter().map(|reason| reason.as_str()))
}

fn target(standing: Standing) -> TargetView {
    TargetView {
        name: standing.key.to_string(),
        phase: standing.phase.as_str().into(),
        attempts: standing.attempts,
        blocked: standing.blocked.iter().map(ToString::to_string).collect(),
        since: standing.since,
        reason: standing.reason.into_text(),
        simulated: standing.simulated,
        unhealthy_s: standing.unhealthy.as_secs(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::glob;
    use crate::core::recovery::phrase::Phrase;
    use crate::core::recovery::target::Phase;
    use crate::core::rule::{Rule, Test};
    use crate::core::signal::{Answer, Observation, Reading, Report, Severity, State};
    use crate::core::time::{Mono, Now};
    use crate::core::watch::Policy;

    /// A core, the lines about it, and a clock; what is seen is handed in whole with each pass.
    struct Page {
        watch: Watch,
        lines: Lines,
        strips: BTreeMap<SignalKey, Strip>,
        silenced: Option<&'static str>,
        changes: u64,
        now: Now,
    }

    fn spec(key: &str) -> Arc<Spec> {
        let (rule, severity) = (Rule::at_once(Test::Verdict), Severity::Warning);
        Arc::new(Spec::new(SignalKey::new(key), format!("the {key}"), severity, rule))
    }

    impl Page {
        fn new() -> Page {
            let (cooldown, tick) = (Duration::from_hours(1), Duration::from_secs(15));
            let policy = Policy {
                cooldown: crate::core::policy::Cooldowns::all(cooldown),
                tick,
                warm_up: false,
                confirm_at_once: true,
            };
            // At the beginning of a quarter of an hour.
            let now = Now { wall: Wall(1_767_225_600_000), mono: Mono(1_000_000), awake: Mono(1_000_000) };
            Page {
                watch: Watch::new(policy),
                lines: Lines::default(),
                strips: BTreeMap::new(),
                silenced: None,
                changes: 0,
                now,
            }
        }

        fn sees(&mut self, seen: &[(&Arc<Spec>, Reading)]) -> Vec<Arc<SignalView>> {
            self.now.wall = self.now.wall.plus(Duration::from_secs(15));
            self.now.mono = self.now.mono.plus(Duration::from_secs(15));
            self.now.awake = self.now.mono;
            let observe = |(spec, reading): &(&Arc<Spec>, Reading)| {
                Observation::new(spec, self.now.mono, *reading, format!("{reading:?}"))
            };
            let report =
                Report { observations: seen.iter().map(observe).collect(), complete: true, ..Report::default() };
            let answer = Answer { source: Arc::from("a"), at: self.now.mono, outcome: Ok(report), details: None };
            self.watch.tick(self.now, vec![answer]);
            let silenced = |key: &SignalKey| {
                let names = self.silenced.as_ref().is_some_and(|pattern| glob::matches(pattern, key.as_str()));
                let until = self.now.wall.plus(Duration::from_hours(1));
                names.then(|| Cover { pattern: "*".into(), is_planned: false, until, reason: String::new() })
            };
            let covers = Covers { changes: self.changes, of: &silenced };
            self.lines.signals(&self.watch, &mut self.strips, &covers, self.now.wall)
        }
    }

    fn keys(lines: &[Arc<SignalView>]) -> Vec<&str> {
        lines.iter().map(|line| line.key.as_str()).filter(|key| !key.contains('/')).collect()
    }

    fn of<'a>(lines: &'a [Arc<SignalView>], key: &str) -> &'a Arc<SignalView> {
        lines.iter().find(|line| line.key.as_str() == key).unwrap()
    }

    fn worst(line: &SignalView) -> usize {
        line.strip.quarters(Some(State::Firing))
    }

    #[test]
    fn lines_are_sorted_and_those_that_stay_as_they_were_are_shared() {
        let mut page = Page::new();
        let [a, b, c] = ["a", "b", "c"].map(spec);
        let first = page.sees(&[(&c, Reading::Up), (&a, Reading::Up), (&b, Reading::Up)]);
        assert_eq!(keys(&first), ["a", "b", "c"]);
        let second = page.sees(&[(&c, Reading::Up), (&a, Reading::Up), (&b, Reading::Down)]);
        assert_eq!(keys(&second), ["a", "b", "c"]);
        for (key, same) in [("a", true), ("b", false), ("c", true)] {
            assert_eq!(Arc::ptr_eq(of(&first, key), of(&second, key)), same, "{key}");
        }
        let b = of(&second, "b");
        assert_eq!((b.state, &*b.detail, worst(b)), (State::Firing, "Down", 1));
        assert!(b.incident.is_some() && b.last_alert_at.is_some() && !b.reason.is_empty());
        assert_eq!(of(&first, "b").state, State::Ok, "what was shown stays as it was shown");
    }

    #[test]
    fn a_signal_that_goes_takes_its_line_along_and_one_that_comes_finds_its_place() {
        let mut page = Page::new();
        let [a, b, c, d] = ["a", "b", "c", "d"].map(spec);
        let up = Reading::Up;
        page.sees(&[(&a, up), (&b, Reading::Down), (&d, up)]);
        let before = page.sees(&[(&a, up), (&b, up), (&d, up)]);
        assert_eq!(worst(of(&before, "b")), 1);
        let without = page.sees(&[(&a, up), (&d, up)]);
        assert_eq!(keys(&without), ["a", "d"]);
        let with = page.sees(&[(&a, up), (&c, up), (&d, up)]);
        assert_eq!(keys(&with), ["a", "c", "d"]);
        for lines in [&without, &with] {
            assert!(Arc::ptr_eq(of(&before, "a"), of(lines, "a")) && Arc::ptr_eq(of(&before, "d"), of(lines, "d")));
        }
        let again = page.sees(&[(&a, up), (&b, up), (&c, up), (&d, up)]);
        assert_eq!((keys(&again), worst(of(&again, "b"))), (vec!["a", "b", "c", "d"], 0), "it begins anew");
        let none = page.sees(&[]);
        assert_eq!(keys(&none), [""; 0]);
    }

    #[test]
    fn a_strip_is_carried_on_over_passes_over_a_new_description_and_from_an_earlier_run() {
        let mut page = Page::new();
        let (a, b) = (spec("a"), spec("b"));
        let mut earlier = Strip::default();
        earlier.advance(page.now.wall);
        let hour = Duration::from_hours(1);
        earlier.fill(page.now.wall.minus(hour), page.now.wall.minus(hour / 2), State::Firing);
        page.strips.insert(SignalKey::new("a"), earlier);
        let first = page.sees(&[(&a, Reading::Up), (&b, Reading::Up)]);
        assert_eq!((worst(of(&first, "a")), worst(of(&first, "b"))), (3, 0));
        assert!(page.strips.is_empty(), "it is taken once");
        let anew = Arc::new(Spec { title: Arc::from("another title"), ..Spec::clone(&a) });
        let second = page.sees(&[(&anew, Reading::Down), (&b, Reading::Up)]);
        assert_eq!((&*of(&second, "a").title, worst(of(&second, "a"))), ("another title", 4));
        assert!(Arc::ptr_eq(of(&first, "b"), of(&second, "b")));
        // A quarter of an hour further on each strip has moved on, also that of a signal that stays as it was.
        page.now.wall = page.now.wall.plus(Duration::from_mins(15));
        let third = page.sees(&[(&anew, Reading::Up), (&b, Reading::Up)]);
        assert!(!Arc::ptr_eq(of(&second, "b"), of(&third, "b")));
        assert_eq!(of(&third, "b").strip.quarters(Some(State::Ok)), 2);
    }

    #[test]
    fn what_is_silenced_says_so_and_what_silences_is_asked_for_only_when_that_changed() {
        let mut page = Page::new();
        let [a, b] = ["a", "b"].map(spec);
        let first = page.sees(&[(&a, Reading::Up), (&b, Reading::Up)]);
        assert!(first.iter().all(|line| line.silenced.is_none()));
        page.silenced = Some("a");
        let unasked = page.sees(&[(&a, Reading::Up), (&b, Reading::Up)]);
        assert!(of(&unasked, "a").silenced.is_none(), "nothing changed, as it was told");
        page.changes += 1;
        let second = page.sees(&[(&a, Reading::Up), (&b, Reading::Up)]);
        assert!(of(&second, "a").silenced.is_some() && of(&second, "a").reason.ends_with("nothing is sent"));
        assert!(of(&second, "b").silenced.is_none() && Arc::ptr_eq(of(&first, "b"), of(&second, "b")));
        let third = page.sees(&[(&a, Reading::Down), (&b, Reading::Up)]);
        assert!(of(&third, "a").silenced.is_some(), "it is kept from line to line");
        (page.silenced, page.changes) = (None, 2);
        let last = page.sees(&[(&a, Reading::Down), (&b, Reading::Up)]);
        assert!(of(&last, "a").silenced.is_none() && !of(&last, "a").reason.contains("silenced"));
    }

    fn standing(name: &str, attempts: u32) -> Standing {
        Standing {
            key: Arc::from(format!("node/{name}")),
            phase: Phase::Healthy,
            since: None,
            attempts,
            blocked: Vec::new(),
            reason: Phrase::seen("its heartbeat is there"),
            simulated: false,
            unhealthy: Duration::ZERO,
        }
    }

    #[test]
    fn targets_that_stay_as_they_were_are_shared_whoever_comes_and_goes_around_them() {
        let mut lines = Lines::default();
        let first = lines.targets(["n1", "n3", "n5"].map(|name| standing(name, 0)));
        let second = lines.targets(vec![standing("n2", 0), standing("n3", 0), standing("n5", 1), standing("n6", 0)]);
        let names: Vec<&str> = second.iter().map(|target| target.name.as_str()).collect();
        assert_eq!(names, ["node/n2", "node/n3", "node/n5", "node/n6"]);
        let [_, n3, n5] = first.as_slice() else { panic!("{first:?}") };
        assert!(Arc::ptr_eq(n3, &second[1]) && !Arc::ptr_eq(n5, &second[2]));
        assert_eq!((n5.attempts, second[2].attempts), (0, 1));
        let blocked = Standing { blocked: vec![crate::core::recovery::gate::Blocked::InFlight], ..standing("n3", 0) };
        let third = lines.targets(vec![blocked]);
        assert_eq!((third.len(), &third[0].blocked[..]), (1, &["in-flight".to_string()][..]));
        assert!(lines.targets(Vec::new()).is_empty());
    }
}
