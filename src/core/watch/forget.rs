//! A person says that something is gone for good: its signal is forgotten, and what was open about it is closed.
//!
//! What its source still reports would come back with the next pass, and is refused instead. A source that only
//! remembers something that is gone is told to drop it by whoever calls this.

use std::sync::Arc;

use super::Watch;
use crate::core::edge::Edge;
use crate::core::signal::{SignalKey, State};
use crate::core::time::Now;

/// Said of a signal that a person forgot.
const FORGOTTEN: (&str, &str) = ("forgotten by a command, no longer watched", "was forgotten by a command");

/// A signal that is no more.
#[derive(Debug, Clone, PartialEq)]
pub struct Forgotten {
    /// The source that it belonged to.
    pub source: Arc<str>,
    /// What closes its open incidents; none when nothing was open.
    pub edges: Vec<Edge>,
}

/// Why a signal is not forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such signal.
    NoSuchSignal,
    /// It belongs to the program itself.
    Own,
    /// Its source reports it, as this.
    Reported(State),
}

impl Watch {
    /// Forgets a signal that its source does not report any more. If it is reported again, it is a new one.
    ///
    /// # Errors
    /// Why it is not forgotten.
    pub fn forget(&mut self, key: &SignalKey, now: Now) -> Result<Forgotten, Refusal> {
        if self.own.signals.contains_key(key) {
            return Err(Refusal::Own);
        }
        let found = self.groups.iter_mut().find(|(_, group)| group.signals.contains_key(key));
        let (source, group) = found.ok_or(Refusal::NoSuchSignal)?;
        let tracked = group.signals.get(key).ok_or(Refusal::NoSuchSignal)?;
        if group.reports(tracked) {
            return Err(Refusal::Reported(tracked.state));
        }
        let mut edges = Vec::new();
        if let Some(mut tracked) = group.signals.remove(key) {
            tracked.gone(FORGOTTEN, now, &mut edges);
        }
        Ok(Forgotten { source: Arc::clone(source), edges })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::edge::EdgeKind;
    use crate::core::rule::{Rule, Test};
    use crate::core::signal::{Answer, More, Observation, Reading, Report, Severity, Spec};
    use crate::core::time::{Mono, Wall};
    use crate::core::watch::{Cooldowns, Outcome, Policy};

    /// A core with one source, under a clock that goes on with each pass.
    struct Scene {
        watch: Watch,
        now: Now,
        spec: Arc<Spec>,
    }

    impl Scene {
        fn new() -> Scene {
            let (cooldown, tick) = (Cooldowns::all(Duration::from_hours(1)), Duration::from_secs(15));
            let policy = Policy { cooldown, tick, warm_up: false, confirm_at_once: true };
            let (key, rule) = (SignalKey::new("node/n9"), Rule::at_once(Test::Verdict));
            let spec = Arc::new(Spec::new(key, "node n9", Severity::Critical, rule));
            let now = Now { wall: Wall(1_767_225_600_000), mono: Mono(1_000_000), awake: Mono(1_000_000) };
            Scene { watch: Watch::new(policy), now, spec }
        }

        /// One pass in which the source says this of the node; `None`: it does not speak of it.
        fn pass(&mut self, seen: Option<(Reading, bool)>) -> Outcome {
            let answer = |scene: &Scene| {
                let seen = seen.map(|(reading, gone)| {
                    let observation = Observation::new(&scene.spec, scene.now.mono, reading, format!("{reading:?}"));
                    observation.knowing(More { gone, ..More::default() })
                });
                Ok(Report { observations: seen.into_iter().collect(), ..Report::default() })
            };
            self.passes(answer)
        }

        fn passes(&mut self, answer: impl Fn(&Scene) -> Result<Report, String>) -> Outcome {
            let span = Duration::from_secs(15);
            (self.now.wall, self.now.mono) = (self.now.wall.plus(span), self.now.mono.plus(span));
            self.now.awake = self.now.mono;
            let answer =
                Answer { source: Arc::from("consul"), at: self.now.mono, outcome: answer(self), details: None };
            self.watch.tick(self.now, vec![answer])
        }

        fn forget(&mut self) -> Result<Forgotten, Refusal> {
            let key = self.spec.key.clone();
            self.watch.forget(&key, self.now)
        }
    }

    #[test]
    fn what_its_source_reports_is_not_forgotten_whatever_it_says() {
        for (reading, state) in
            [(Reading::Up, State::Ok), (Reading::Down, State::Firing), (Reading::Unknown, State::Unknown)]
        {
            let mut scene = Scene::new();
            scene.pass(Some((reading, false)));
            assert_eq!(scene.forget(), Err(Refusal::Reported(state)));
            scene.pass(Some((reading, false)));
            assert_eq!(scene.forget(), Err(Refusal::Reported(state)));
        }
        let mut scene = Scene::new();
        assert_eq!(scene.forget(), Err(Refusal::NoSuchSignal));
        scene.pass(None);
        let own = SignalKey::new("source/consul");
        assert_eq!(scene.watch.forget(&own, scene.now), Err(Refusal::Own));
    }

    #[test]
    fn what_only_memory_speaks_of_is_forgotten_and_does_not_come_back_from_it() {
        let mut scene = Scene::new();
        scene.pass(Some((Reading::Up, false)));
        let told = scene.pass(Some((Reading::Down, true)));
        assert_eq!(told.edges.len(), 1);
        let forgotten = scene.forget().unwrap();
        assert_eq!((&*forgotten.source, forgotten.edges.len()), ("consul", 1));
        let edge = &forgotten.edges[0];
        assert_eq!((edge.kind, &edge.incident), (EdgeKind::Removed, &told.edges[0].incident));
        assert!(edge.fact.contains("forgotten by a command"), "{edge:?}");
        assert_eq!(scene.forget(), Err(Refusal::NoSuchSignal));
        // An answer that was under way still speaks of it from memory.
        let after = scene.pass(Some((Reading::Down, true)));
        assert!(after.edges.is_empty() && after.changed.iter().all(|key| *key != scene.spec.key));
        assert_eq!(scene.watch.looked(&scene.spec.key.clone()), None);
        // Seen again, it is a new one, with an incident of its own.
        scene.pass(Some((Reading::Up, false)));
        let again = scene.pass(Some((Reading::Down, true)));
        assert_ne!(again.edges[0].incident, told.edges[0].incident);
    }

    #[test]
    fn what_a_blind_source_or_a_partial_answer_does_not_speak_of_may_be_forgotten() {
        let mut scene = Scene::new();
        scene.pass(Some((Reading::Down, false)));
        scene.pass(None);
        assert_eq!(scene.forget().map(|forgotten| forgotten.edges.len()), Ok(1));
        let mut scene = Scene::new();
        scene.pass(Some((Reading::Up, false)));
        scene.passes(|_| Err("no answer".to_string()));
        assert_eq!(scene.forget().map(|forgotten| forgotten.edges.len()), Ok(0), "nothing was open");
    }
}
