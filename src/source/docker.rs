//! Containers on the local Docker Engine: one signal for each, judged by a written table.
//!
//! A look is a list, then an inspect call for each watched container: the list is the truth, events only wake the
//! loop and say who caused an end. A call that fails makes its container unknown and nobody
//! else's; without a list everything is unknown, nothing is gone (F29–F32). Never writes to the
//! engine, never tells a container's environment. The table is `adr/0013-container-verdicts.md`.

mod advice;
mod census;
mod ends;
mod events;
mod evidence;
mod fact;
mod gone;
mod jobs;
mod past;
mod select;
mod settings;
mod signals;
mod socket;
mod track;
mod verdict;
mod wishes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::census::Census;
use self::events::{Follow, Listener};
use self::fact::Told;
use self::gone::{Going, Removed};
use self::jobs::Jobs;
use self::past::Stamped;
use self::select::{Called, Selection};
pub use self::settings::{Planned, Settings, Switch};
use self::track::{Look, Track};
use self::verdict::{Facts, Limits, Reason, Verdict};
use self::wishes::Wishes;
use super::{Ask, Entry, Outfit, Source, SourceName};
use crate::client::docker::{Cause, Docker, DockerError, Inspected, Listed};
use crate::config::schema::Identity;
use crate::config::{Config, ConfigError};
use crate::core::about::Details;
use crate::core::signal::{More, Observation, Reading, Report, SignalKey};
use crate::core::time::{Mono, Now};

/// The source's name.
const NAME: &str = "docker";
/// Jobs that failed at most this long before the first look of all are told.
const BROUGHT_UP: Duration = Duration::from_mins(10);
/// An alarm rings this much after the instant, so that the instant has passed for every clock.
const AFTER: Duration = Duration::from_millis(5);

/// How the program knows this source.
pub const ENTRY: Entry = Entry {
    name: NAME,
    advice: "docker.socket, and mount it, to watch containers",
    sections: &[Settings::section("docker").once(&[Identity::entries("containers"), Identity::entries("exclude")])],
    build,
};

fn build(config: &Config, outfit: &Outfit) -> Result<Option<Box<dyn Source>>, ConfigError> {
    let mut settings: Settings = config.section("docker")?;
    settings.check(config)?;
    settings.socket = socket::path(&settings.socket).map_err(|what| config.error("docker.socket", what))?;
    if settings.enabled == Switch::Off {
        return Ok(None);
    }
    let waits = settings.enabled == Switch::Auto && !is_wished(config);
    let containers = DockerSource::new(settings, outfit.clone(), select::own_ids())
        .map_err(|error| config.error("docker.socket", error.to_string()))?;
    Ok(Some(Box::new(DockerSource { waits, ..containers })))
}

/// True when somebody has set anything about containers: then not being able to look has to be told.
fn is_wished(config: &Config) -> bool {
    let set = |name: &str| config.value(NAME, name).is_some_and(|value| value.as_array().is_none_or(|l| !l.is_empty()));
    Settings::FIELDS.iter().any(|field| field.name != "enabled" && set(field.name))
}

/// The answers about containers by identity, and about one-off jobs by [`ends::key_of`].
type Answers = BTreeMap<String, Result<Inspected, DockerError>>;

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
    /// Nobody asked for Docker, and there was no socket yet.
    waits: bool,
    census: Census,
    jobs: Jobs,
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
        // What failed before was told by those before us. Where there was nobody: a project is often brought up
        // together with the watchdog, and a job in it may have failed by now.
        let now = outfit.clock.now();
        let ago = outfit.kept.looked_at().map_or(BROUGHT_UP, |looked_at| now.mono.since(looked_at));
        let mut source = DockerSource {
            docker: Docker::new(Path::new(&settings.socket))?,
            limits,
            outfit,
            name: Arc::from(NAME),
            selection,
            own_ids,
            own_identity: None,
            waits: false,
            census: Census::default(),
            jobs: Jobs::new(now.wall.minus(ago)),
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
            let track = Track::restored(self.specs(&past.called, &Wishes::default()), past);
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
            let better =
                chosen.get(&called.identity).is_none_or(|(_, other)| select::worth(listed) > select::worth(other));
            if better {
                chosen.insert(called.identity.clone(), (called, listed));
            }
        }
        chosen
    }

    /// Asks about each; those that hung the last time come last, so that they cost nobody else's answer.
    fn inspect(&mut self, chosen: &BTreeMap<String, (Called, &Listed)>, jobs: &[(String, Called)]) -> Answers {
        let hung = |identity: &String| self.tracks.get(identity).is_some_and(|track| track.hangs);
        let jobs = jobs.iter().map(|(id, _)| (ends::key_of(id), id.clone()));
        let containers = chosen.iter().map(|(key, (_, listed))| (key.clone(), listed.id.clone()));
        let mut order: Vec<(String, String)> = containers.chain(jobs).collect();
        order.sort_by_key(|(identity, _)| hung(identity));
        let ids: Vec<String> = order.iter().map(|(_, id)| id.clone()).collect();
        let total = self.outfit.timeout;
        let answers = self.docker.inspect_all(&ids, total / 2, total);
        order.into_iter().map(|(identity, _)| identity).zip(answers).collect()
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
            let track = Track::new(self.specs(&called, &Wishes::default()), called);
            self.tracks.insert(identity, track);
        }
    }

    /// Brings the track of a container that is there under its present name and labels.
    fn meet(&mut self, called: &Called, listed: &Listed) {
        let wishes = Wishes::of(listed);
        let known = |track: &Track| track.called == *called && track.wishes == wishes;
        if self.tracks.get(&called.identity).is_some_and(known) {
            return;
        }
        let specs = self.specs(called, &wishes);
        let track =
            self.tracks.entry(called.identity.clone()).or_insert_with(|| Track::new(specs.clone(), called.clone()));
        (track.specs, track.called, track.wishes) = (specs, called.clone(), wishes);
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
        if self.waits && socket::is_missing(Path::new(&self.settings.socket)) {
            let note = format!("no Docker socket at {}; it is used as soon as it is there", self.settings.socket);
            return Ok(Report { note: Some(note), ..Report::default() });
        }
        self.waits = false;
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
        self.census = Census::of(&list, &self.selection);
        let jobs = self.expect_jobs(&list);
        let mut chosen = self.choose(&list);
        let mut answers = self.inspect(&chosen, &jobs);
        let jobs = self.tell_jobs(&list, &jobs, &mut chosen, &mut answers, self.outfit.clock.now());
        for (called, listed) in chosen.values() {
            self.meet(called, listed);
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
        let own = self.own_identity.as_ref().and_then(|own| answers.get(own)?.as_ref().ok());
        if let Some(end) = own.and_then(|own| past::date(&own.state.finished_at)) {
            self.tracks.values_mut().for_each(|track| track.doubt(end));
        }
        let mut report = self.judge(&chosen, answers, &scene, removed);
        report.observations.extend(jobs);
        report.note = Some(self.census.words(&self.selection));
        Ok(report)
    }

    fn forget(&mut self, key: &SignalKey) {
        // One that is there is met again by the next look.
        self.tracks.retain(|_, track| track.specs.key() != key);
    }

    fn patience(&self) -> Duration {
        // The list, the containers, the logs of jobs.
        self.outfit.timeout * 5 / 2 + Duration::from_millis(500)
    }
}

impl DockerSource {
    /// From answers to observations.
    fn judge(
        &mut self,
        chosen: &BTreeMap<String, (Called, &Listed)>,
        mut answers: Answers,
        scene: &Scene,
        mut removed: Removed,
    ) -> Report {
        let Scene { now, reach, once, is_empty } = *scene;
        let mut seen = BTreeMap::new();
        let mut judged: BTreeMap<String, Judged> = BTreeMap::new();
        let mut hung: Vec<(String, String)> = Vec::new();
        let mut again: Option<Duration> = None;
        let mut going = Going::default();
        for (identity, track) in &mut self.tracks {
            let listed = chosen.get(identity).map(|(_, listed)| *listed);
            let (hint, live) =
                self.listener.as_ref().map(|l| l.hint(listed.map_or(track.id(), |l| &l.id))).unwrap_or_default();
            let window = self.settings.restart_window.0;
            let look = Look { now, reach, hint: &hint, live, window, once };
            let facts = match take_in(track, listed, answers.remove(identity), &look) {
                Ok(Some(facts)) => facts,
                Err(why) => {
                    let fact = fact::not_inspected(&why);
                    let observation = Observation::new(&track.specs.usual, now.mono, Reading::Unknown, fact);
                    seen.entry(track.specs.key().clone()).or_insert(observation);
                    hung.push((track.called.name.clone(), why));
                    continue;
                }
                Ok(None) => {
                    let facts = track.lose(&look, is_named(&self.selection, &track.called));
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
            let gone = verdict.reason == Reason::Missing && !is_named(&self.selection, &track.called);
            let happened_at = track.happened_at(verdict.reason, &hint, now);
            let more = More { happened_at, keep: track.keep(&look), gone };
            judged.insert(identity.clone(), Judged { facts, verdict, more });
        }
        let down = judged.iter().filter(|(_, one)| one.verdict.reading == Reading::Down);
        self.read_logs(down.map(|(identity, one)| (identity, one.verdict.reason)), now.mono);
        for (identity, one) in judged {
            let Some(track) = self.tracks.get(&identity) else { continue };
            let seen = seen.entry(track.specs.key().clone());
            seen.or_insert_with(|| self.observation(track, one, now));
        }
        self.let_go(going, now, &mut seen, &mut removed);
        if let Some(listener) = &self.listener {
            listener.alarm(again.map(|wait| Instant::now() + wait + AFTER));
        }
        // An empty list may be an engine that has not found its containers yet: nothing is gone on its word.
        Report {
            complete: !seen.is_empty(),
            blind: fact::blind(&hung, seen.len()),
            observations: seen.into_values().collect(),
            removals: removed.tell(),
            ..Report::default()
        }
    }

    /// What is said of one container.
    fn observation(&self, track: &Track, one: Judged, now: Now) -> Observation {
        let Judged { facts, verdict: Verdict { reading, reason, .. }, more } = one;
        let inspected = track.inspected.as_ref();
        let told = Told { inspected, last_exit: track.last_exit, window: self.settings.restart_window.0 };
        let text = fact::fact(reason, &facts, &self.limits, &told);
        let last = track.last_exit.unwrap_or(facts.exit_code);
        let planned = reading == Reading::Down && reason.is_planned();
        // Where nobody wants to be told of it there is nothing to judge, unless somebody was told that it fails.
        let untold = planned && self.settings.planned == Planned::None && !track.is_failing();
        let reading = if untold { Reading::Idle } else { reading };
        let details = advice::advice(reason, &facts, &track.called, inspected, last);
        let spec = match (planned, track.is_back() && reading == Reading::Up) {
            (true, _) => &track.specs.planned,
            (_, true) => &track.specs.back,
            _ => &track.specs.usual,
        };
        let told = reading == Reading::Down && !planned;
        let lines = if told { evidence::quoted(track.log.as_ref(), reason) } else { Vec::new() };
        let seen = Observation::new(spec, now.mono, reading, text).knowing(more);
        match lines.into_iter().fold(details, Details::with) {
            nothing if nothing == Details::default() => seen,
            details => seen.with(details),
        }
    }
}

/// The facts about one container from the answer about it; nothing when it is not there, and why when nobody knows.
fn take_in(
    track: &mut Track,
    listed: Option<&Listed>,
    answer: Option<Result<Inspected, DockerError>>,
    look: &Look<'_>,
) -> Result<Option<Facts>, String> {
    match (listed, answer) {
        (Some(listed), Some(Ok(inspected))) => Ok(Some(track.see(listed, inspected, look))),
        (Some(_), Some(Err(error))) if !error.is_not_found() => {
            // One that was not even asked keeps its place in the order.
            track.hangs |= !matches!(error.cause, Cause::NotAsked);
            Err(error.cause.to_string())
        }
        _ => Ok(None),
    }
}

/// What one look makes of one container.
struct Judged {
    facts: Facts,
    verdict: Verdict,
    more: More,
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

/// True when the settings say that it must be there.
fn is_named(selection: &Selection, called: &Called) -> bool {
    selection.named().any(|name| selection.means(name, called))
}
