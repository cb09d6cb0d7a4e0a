//! Containers on the local Docker Engine: one signal for each, judged by a written table.
//!
//! A look is a list, then an inspect call for each watched container: the list is the truth, events only wake the
//! loop and say who caused an end. A call that fails makes its container unknown and nobody
//! else's; without a list everything is unknown, nothing is gone (F29–F32). Never writes to the
//! engine, never tells a container's environment. The table is `adr/0013-container-verdicts.md`.

mod events;
mod fact;
mod gone;
mod past;
mod select;
mod track;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use self::events::{Follow, Listener};
use self::fact::Told;
use self::gone::{Going, Removed};
use self::past::Stamped;
use self::select::{Called, Selection};
use self::track::{Look, Track};
use self::verdict::{Limits, Reason};
use super::{Ask, Entry, Outfit, Source, SourceName};
use crate::client::docker::{Cause, Docker, DockerError, Inspected, Listed};
use crate::config::schema::{Identity, Kind, Setting};
use crate::config::value::Span;
use crate::config::{Config, ConfigError, Problems, form};
use crate::core::name;
use crate::core::rule::{Rule, Test, UNKNOWN_AFTER};
use crate::core::signal::{More, Observation, Reading, Report, Severity, SignalKey, Spec};
use crate::core::time::{Mono, Now};

/// The source's name.
const NAME: &str = "docker";
/// Characters of a container's name in its key.
const NAME_LENGTH: usize = 128;
/// An alarm rings this much after the instant, so that the instant has passed for every clock.
const AFTER: Duration = Duration::from_millis(5);

crate::settings! {
    /// Containers on the local Docker Engine.
    pub struct Settings {
        /// true, false, or auto: on if the socket exists.
        enabled: Switch = Switch::Auto,
        /// The engine's Unix socket.
        socket: String = "/var/run/docker.sock".to_string(),
        /// Names or compose services to watch, * for any text. None: every container of our own compose
        /// project, else all. One that is named and not there is down.
        containers: Vec<String> = Vec::new(),
        /// Names or compose services not to watch, * for any text. The label watchdog.enable=false does the same.
        exclude: Vec<String> = Vec::new(),
        /// Restarts within restart_window that make a crash loop, at least 1.
        restarts: u32 = 3,
        /// The window of restarts; a crash loop is over after this long without one.
        restart_window: Span = Span::seconds(600),
        /// Time that a container stopped or removed from outside has to be replaced or started again.
        grace: Span = Span::seconds(10),
        /// Time that a created container has to be started.
        start_grace: Span = Span::seconds(60),
        /// Time that a container must run after it was killed for memory.
        oom_calm: Span = Span::seconds(60),
        /// After this long a missing container with the label watchdog.required=true that containers does not
        /// name is forgotten.
        forget_after: Span = Span::seconds(86_400),
        /// How much it matters when a container is down: critical, warning or info.
        severity: Severity = Severity::Critical,
    }
}

/// On, off, or as the machine has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Switch {
    /// On where the thing is there.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// On; not being able to look is told.
    #[serde(rename = "true")]
    On,
    /// Off.
    #[serde(rename = "false")]
    Off,
}

impl Setting for Switch {
    const KIND: Kind = Kind::Choice(&["auto", "true", "false"]);
}

/// How the program knows this source.
pub const ENTRY: Entry = Entry {
    name: NAME,
    advice: "docker.socket, and mount it, to watch containers",
    sections: &[Settings::section("docker").once(&[Identity::entries("containers"), Identity::entries("exclude")])],
    build,
};

impl Settings {
    /// Everything that is wrong with what stands there.
    fn check(&self, config: &Config) -> Result<(), ConfigError> {
        let mut problems = Problems::new(config);
        if self.socket.is_empty() {
            problems.refuse("docker.socket", "is empty; write docker.enabled = false to turn Docker off");
        }
        if self.restarts == 0 {
            problems.refuse("docker.restarts", "should be at least 1");
        }
        if self.restart_window.0 < Duration::from_secs(1) {
            problems.refuse("docker.restart_window", "is too short; the least is 1s");
        }
        for (key, patterns) in [("docker.containers", &self.containers), ("docker.exclude", &self.exclude)] {
            for pattern in patterns {
                problems.check(key, form::container(pattern));
            }
        }
        for name in self.containers.iter().filter(|name| self.exclude.contains(name)) {
            problems.refuse("docker.exclude", format!("\"{name}\" is in docker.containers as well; keep one"));
        }
        problems.unless_any(())
    }
}

fn build(config: &Config, outfit: &Outfit) -> Result<Option<Box<dyn Source>>, ConfigError> {
    let settings: Settings = config.section("docker")?;
    let on = match settings.enabled {
        Switch::On => true,
        Switch::Off => false,
        Switch::Auto => Path::new(&settings.socket).exists(),
    };
    settings.check(config)?;
    if !on {
        return Ok(None);
    }
    let containers = DockerSource::new(settings, outfit.clone(), select::own_ids())
        .map_err(|error| config.error("docker.socket", error.to_string()))?;
    Ok(Some(Box::new(containers)))
}

/// Looks at containers.
pub struct DockerSource {
    docker: Docker,
    settings: Settings,
    limits: Limits,
    outfit: Outfit,
    name: SourceName,
    selection: Selection,
    own_ids: BTreeSet<String>,
    own_identity: Option<String>,
    listener: Option<Listener>,
    tracks: BTreeMap<String, Track>,
    /// When the last list came, to us or to those before us; `None` before the first.
    listed: Option<Mono>,
    blind: bool,
}

impl DockerSource {
    /// Sets up the source. `own_ids` are ids, or beginnings of ids, of the container we run in.
    pub fn new(settings: Settings, outfit: Outfit, own_ids: BTreeSet<String>) -> Result<DockerSource, DockerError> {
        let limits = Limits {
            restarts: settings.restarts,
            grace: settings.grace.0,
            start_grace: settings.start_grace.0,
            oom_calm: settings.oom_calm.0,
            settle: Duration::from_secs(1).min(settings.grace.0),
        };
        let selection =
            Selection { containers: settings.containers.clone(), exclude: settings.exclude.clone(), project: None };
        let mut source = DockerSource {
            docker: Docker::new(Path::new(&settings.socket))?,
            limits,
            outfit,
            name: Arc::from(NAME),
            selection,
            own_ids,
            own_identity: None,
            listener: None,
            tracks: BTreeMap::new(),
            listed: None,
            blind: false,
            settings,
        };
        source.recall();
        Ok(source)
    }

    /// Takes back what was known of containers before this source was built.
    fn recall(&mut self) {
        let (kept, now) = (self.outfit.kept.clone(), self.outfit.clock.now());
        for (_, stamped) in kept.under::<Stamped>("container/") {
            let past = stamped.carried(now, kept.is_of_this_boot());
            let track = Track::restored(self.spec(&past.called.name), past);
            self.tracks.insert(track.called.identity.clone(), track);
            self.listed = kept.looked_at();
        }
    }

    fn listen(&mut self) {
        if self.listener.is_none() {
            self.listener = Some(Listener::start(Follow {
                socket: self.settings.socket.clone().into(),
                timeout: self.outfit.timeout,
                clock: self.outfit.clock.clone(),
                waker: self.outfit.waker.clone(),
                source: Arc::clone(&self.name),
            }));
        }
    }

    /// Finds the container that we run in, and with it the project that is ours.
    fn find_ourselves(&mut self, list: &[Listed]) {
        if self.own_identity.is_some() || self.own_ids.is_empty() {
            return;
        }
        let own = list.iter().find(|l| self.own_ids.iter().any(|id| l.id.starts_with(id.as_str())));
        if let Some(own) = own {
            let called = Called::of(own);
            self.own_identity = Some(called.identity);
            self.selection.project = called.project;
        }
    }

    /// The watched containers: for each identity the one that stands for it.
    fn choose<'a>(&self, list: &'a [Listed]) -> BTreeMap<String, (Called, &'a Listed)> {
        let mut chosen: BTreeMap<String, (Called, &Listed)> = BTreeMap::new();
        for listed in list {
            let called = Called::of(listed);
            if !self.selection.takes(listed, &called) {
                continue;
            }
            let better = chosen.get(&called.identity).is_none_or(|(_, other)| worth(listed) > worth(other));
            if better {
                chosen.insert(called.identity.clone(), (called, listed));
            }
        }
        chosen
    }

    /// Asks about each; those that hung the last time come last, so that they cost nobody else's answer.
    fn inspect(
        &mut self,
        chosen: &BTreeMap<String, (Called, &Listed)>,
    ) -> BTreeMap<String, Result<Inspected, DockerError>> {
        let hung = |identity: &String| self.tracks.get(identity).is_some_and(|track| track.hangs);
        let mut order: Vec<(&String, String)> = chosen.iter().map(|(key, (_, l))| (key, l.id.clone())).collect();
        order.sort_by_key(|(identity, _)| hung(identity));
        let ids: Vec<String> = order.iter().map(|(_, id)| id.clone()).collect();
        let total = self.outfit.timeout;
        let answers = self.docker.inspect_all(&ids, total / 2, total);
        order.into_iter().map(|(identity, _)| identity.clone()).zip(answers).collect()
    }

    /// Containers that the settings name and that nothing known answers to.
    fn add_named(&mut self) {
        let absent: Vec<String> = self
            .selection
            .named()
            .filter(|name| !self.tracks.values().any(|track| self.selection.means(name, &track.called)))
            .map(str::to_string)
            .collect();
        for name in absent {
            let identity = format!("named {name}");
            let called = Called { identity: identity.clone(), name, ..Called::default() };
            let track = Track::new(self.spec(&called.name), called);
            self.tracks.insert(identity, track);
        }
    }

    fn spec(&self, name: &str) -> Arc<Spec> {
        let key = name::bounded(name, NAME_LENGTH, |c| c == ' ' || !(c.is_whitespace() || c.is_control()));
        // A run that proves nothing yet must not be told as one that nobody can see.
        let unknown_after = UNKNOWN_AFTER.max(self.settings.restart_window.0 + self.outfit.tick * 2);
        Arc::new(Spec::new(
            SignalKey::new(&format!("container/{key}")),
            format!("container {}", fact::clean(name, NAME_LENGTH)),
            self.settings.severity,
            Rule { unknown_after, ..Rule::at_once(Test::Verdict) },
        ))
    }

    /// Brings the track of a container that is there under its present name.
    fn meet(&mut self, called: &Called) {
        if self.tracks.get(&called.identity).is_some_and(|track| track.called == *called) {
            return;
        }
        let spec = self.spec(&called.name);
        let track =
            self.tracks.entry(called.identity.clone()).or_insert_with(|| Track::new(Arc::clone(&spec), called.clone()));
        track.spec = spec;
        track.called = called.clone();
    }
}

impl Source for DockerSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> String {
        let who = match (self.selection.containers.as_slice(), &self.selection.project) {
            ([], None) => "every container, or those of our own compose project".to_string(),
            ([], Some(project)) => format!("the containers of compose project {project}"),
            (names, _) => names.join(", "),
        };
        format!("{who}, through {}", self.settings.socket)
    }

    fn observe(&mut self, ask: &Ask) -> Result<Report, String> {
        if !ask.once {
            self.listen();
        }
        let asked = self.outfit.clock.now();
        let list = match self.docker.list(self.outfit.timeout) {
            Ok(list) => list,
            Err(error) => {
                self.blind = true;
                return Err(error.to_string());
            }
        };
        let before = self.listed.replace(asked.mono);
        let was_blind = std::mem::take(&mut self.blind);
        self.find_ourselves(&list);
        let chosen = self.choose(&list);
        let answers = self.inspect(&chosen);
        for (called, _) in chosen.values() {
            self.meet(called);
        }
        let now = self.outfit.clock.now();
        let removed = self.forget(&list, &chosen, now);
        self.add_named();
        if was_blind {
            self.tracks.values_mut().for_each(|track| track.was_unseen(now.mono));
        }
        let reach = match before {
            None => Duration::MAX,
            Some(_) if was_blind => Duration::ZERO,
            Some(before) => now.mono.since(before),
        };
        let scene = Scene { now, reach, once: ask.once, is_empty: list.is_empty() };
        Ok(self.judge(&chosen, answers, &scene, removed))
    }

    fn patience(&self) -> Duration {
        self.outfit.timeout * 2 + Duration::from_millis(500)
    }
}

impl DockerSource {
    /// From answers to observations.
    fn judge(
        &mut self,
        chosen: &BTreeMap<String, (Called, &Listed)>,
        mut answers: BTreeMap<String, Result<Inspected, DockerError>>,
        scene: &Scene,
        mut removed: Removed,
    ) -> Report {
        let Scene { now, reach, once, is_empty } = *scene;
        let mut seen = BTreeMap::new();
        let mut hung: Vec<(String, String)> = Vec::new();
        let mut again: Option<Duration> = None;
        let mut going = Going::default();
        for (identity, track) in &mut self.tracks {
            let listed = chosen.get(identity).map(|(_, listed)| *listed);
            let (hint, live) =
                self.listener.as_ref().map(|l| l.hint(listed.map_or(track.id(), |l| &l.id))).unwrap_or_default();
            let window = self.settings.restart_window.0;
            let look = Look { now, reach, hint: &hint, live, window, once };
            let facts = match (listed, answers.remove(identity)) {
                (Some(listed), Some(Ok(inspected))) => track.see(listed, inspected, &look),
                (Some(_), Some(Err(error))) if !error.is_not_found() => {
                    // One that was not even asked keeps its place in the order.
                    track.hangs |= !matches!(error.cause, Cause::NotAsked);
                    let why = error.cause.to_string();
                    let observation = observation(track, now, Reading::Unknown, fact::not_inspected(&why));
                    seen.entry(track.spec.key.clone()).or_insert(observation);
                    hung.push((track.called.name.clone(), why));
                    continue;
                }
                _ => {
                    let named = self.selection.named().any(|name| self.selection.means(name, &track.called));
                    let facts = track.lose(&look, named);
                    gone::believed(facts, is_empty && !hint.destroyed, self.settings.forget_after.0)
                }
            };
            let verdict = verdict::verdict(&facts, &self.limits);
            track.judged(&facts, &verdict, self.limits.restarts);
            if verdict.reason == Reason::Forgotten {
                going.forgotten.push(identity.clone());
                continue;
            }
            if verdict.reason == Reason::Removed {
                going.removed.push((identity.clone(), facts));
                continue;
            }
            going.note(&track.called, &verdict);
            again = again.into_iter().chain(verdict.again_in).min();
            let told = Told { inspected: track.inspected.as_ref(), last_exit: track.last_exit, window };
            let text = fact::fact(verdict.reason, &facts, &self.limits, &told);
            let more = More { happened_at: track.happened_at(verdict.reason, &hint, now), keep: track.keep(&look) };
            let seen = seen.entry(track.spec.key.clone());
            seen.or_insert_with(|| observation(track, now, verdict.reading, text).knowing(more));
        }
        self.let_go(going, now, &mut seen, &mut removed);
        if let Some(listener) = &self.listener {
            listener.alarm(again.map(|wait| Instant::now() + wait + AFTER));
        }
        let observations: Vec<Observation> = seen.into_values().collect();
        // An empty list may be an engine that has not found its containers yet: nothing is gone on its word.
        Report {
            complete: !observations.is_empty(),
            blind: blind(&hung, observations.len()),
            observations,
            removals: removed.tell(),
            ..Report::default()
        }
    }
}

/// One look at all containers.
struct Scene {
    now: Now,
    /// How far back the picture before reaches.
    reach: Duration,
    /// The only look there will be.
    once: bool,
    /// The engine has no container at all.
    is_empty: bool,
}

fn observation(track: &Track, now: Now, reading: Reading, fact: String) -> Observation {
    Observation::new(&track.spec, now.mono, reading, fact)
}

/// Why part of the picture is missing: how many, who, and the first reason.
fn blind(hung: &[(String, String)], all: usize) -> Option<String> {
    let (_, why) = hung.first()?;
    let names: Vec<&str> = hung.iter().take(5).map(|(name, _)| name.as_str()).collect();
    let more = match hung.len() - names.len() {
        0 => String::new(),
        left => format!(" and {left} more"),
    };
    Some(format!(
        "cannot inspect {} of {all} containers ({}{more}): {}",
        hung.len(),
        names.join(", "),
        fact::clean(why, 300)
    ))
}

/// Among containers of one identity the larger one stands for it: what runs before what waits
/// before what ended, then the newer.
fn worth(listed: &Listed) -> (u8, i64, &str) {
    let rank = match listed.state.as_str() {
        "running" => 6,
        "restarting" => 5,
        "paused" => 4,
        "created" => 3,
        "exited" => 2,
        "removing" => 1,
        _ => 0,
    };
    (rank, listed.created, &listed.id)
}
