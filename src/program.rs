//! The running program: the parts of a pass, the couriers, the status server, and how they are
//! started, changed by a new configuration, and ended. Decides nothing about signals.

mod ending;
mod passes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use self::passes::remembered_nodes;
use crate::act::Operator;
use crate::assemble;
use crate::clock::{self, Clock};
use crate::command::{self, Desk};
use crate::config::{Config, Layers, Root};
use crate::core::maintenance::Window;
use crate::core::recovery::fleet::Fleet;
use crate::core::recovery::plan::Plan;
use crate::core::signal::{SignalKey, State};
use crate::core::time::{Mono, Now, Wall, people};
use crate::core::tracked::Tracked;
use crate::core::watch::{Policy, Tally, Watch};
use crate::deadman::{self, Beat, Deadman};
use crate::deliver::{self, Courier, Manners};
use crate::gather::{Gather, Whom};
use crate::hush::Hush;
use crate::hush::windows::windows;
use crate::nodes::Nodes;
use crate::notifier::NOTIFIERS;
use crate::repair::Repairs;
use crate::serve::server::Server;
use crate::serve::{self, Published, Snapshot};
use crate::source::{Kept, Outfit};
use crate::store::{Before, Condition, HistoryEntry, Store};
use crate::tick::Tick;
use crate::view::View;
use crate::wake::Waker;

/// How long a reload that ends all repairs waits for a request under way; the rest is in the journal.
const STOP: Duration = Duration::from_millis(1_500);
/// The running program.
pub struct Program {
    clock: Clock,
    root: Root,
    /// The top-level settings and those of the status server that it was started with.
    started: Root,
    serve: Option<serde_json::Value>,
    tick: Tick,
    view: View,
    server: Option<Server>,
    described: BTreeMap<String, String>,
    notes: Vec<String>,
    /// When the run before wrote last.
    left_at: Option<Wall>,
    /// The boot that the run before saw, until the first sources have been told.
    previous_boot: Option<String>,
    /// What is kept for sources was written since this machine booted.
    same_boot: bool,
    /// Nodes that the run before knew, until the first sources have been told.
    seen_before: Arc<BTreeSet<Arc<str>>>,
}

impl Program {
    /// Starts every part for the daemon.
    pub fn start(config: &Config, clock: &Clock, waker: &Waker) -> anyhow::Result<Program> {
        // Asked from the first moment on, it says what is being waited for: a state file on a slow disk takes long.
        let published = Arc::new(Published::new(Snapshot::before_first("the state file is being opened")));
        let server = serve::start(config, &published, clock);
        // A state file that somebody else uses is the better reason than an address that somebody else uses.
        let mut program = Program::assemble(config, clock, waker, false, Arc::clone(&published))?;
        published.publish(Snapshot::before_first("the first pass is under way"));
        if let Some(left_at) = program.left_at {
            program.view.remember(&program.tick, left_at);
        }
        program.server = server?;
        if config.root().enabled && !config.root().state.is_empty() {
            match Desk::open(&config.root().state, waker) {
                Ok(desk) => program.tick.hush.desk = Some(desk),
                Err(error) => {
                    let path = command::socket(&config.root().state);
                    tracing::warn!("no commands are taken: {}: {error}", path.display());
                }
            }
        }
        program.note("started", &format!("watchdog {}", env!("CARGO_PKG_VERSION")));
        Ok(program)
    }

    /// Starts every part but the status server, for a single pass.
    pub fn start_once(config: &Config, clock: &Clock, waker: &Waker) -> anyhow::Result<Program> {
        Program::assemble(config, clock, waker, true, Arc::default())
    }

    fn assemble(
        config: &Config,
        clock: &Clock,
        waker: &Waker,
        once: bool,
        published: Arc<Published>,
    ) -> anyhow::Result<Program> {
        let root = config.root().clone();
        let now = clock.now();
        let path = Some(root.state.as_str()).filter(|path| root.enabled && !path.is_empty());
        let opened =
            Store::open(path.map(Path::new), now, &clock::boot_id()).context("the state file cannot be used")?;
        let mut watch = Watch::new(policy(config, once, path.is_some()));
        let mut seen_before = crate::repair::seen_alive(&opened.repairs);
        if once {
            seen_before.extend(remembered_nodes(&opened.store));
        }
        let previous_boot = opened.before.as_ref().map(|before| before.boot_id.clone());
        let left_at = opened.before.as_ref().map(|before| before.last_at);
        let same_boot = opened.before.as_ref().is_some_and(|before| before.same_boot);
        if let Some(before) = opened.before {
            restore(&mut watch, before, now, once);
        }
        let gather = Gather::start(Vec::new(), clock.clone(), waker)?;
        let remembered = Remembered { repairs: opened.repairs, same_boot };
        let mut notes = opened.notes;
        if remembered.repairs.unsound > 0 {
            notes.push(format!(
                "the journal of repairs: {} lines fail their checksum; machines whose repair was under way are checked first, and at most started",
                remembered.repairs.unsound
            ));
        }
        let mut tick = Tick::new(clock.clone(), gather, watch, opened.store, root.tick.0);
        tick.once = once;
        tick.hush = Hush::restored(&tick.store);
        tick.notes.clone_from(&notes);
        tick.state_path = path.map(str::to_string);
        let view = View::new(published, clock.clone(), &root);
        let mut program = Program {
            clock: clock.clone(),
            started: root.clone(),
            serve: config.value("", "serve").cloned(),
            root,
            tick,
            view,
            server: None,
            described: BTreeMap::new(),
            notes,
            left_at,
            previous_boot,
            same_boot,
            seen_before: Arc::new(seen_before),
        };
        let parts = program.parts(config, waker)?;
        program.install(parts, waker)?;
        if program.tick.repairs.is_none() && !once && remembered.repairs.any_open() {
            // Nobody configures its node any more, and still it is not over: that has to be told.
            let parts = assemble::RepairParts::without_nodes(Nodes::read(config)?);
            program.install_repairs(Some(parts), waker)?;
        }
        if let Some(repairs) = &mut program.tick.repairs {
            repairs.restore(&remembered.repairs, now, remembered.same_boot);
        }
        program.adopt_orphans(config);
        program.previous_boot = None;
        program.same_boot = true;
        program.seen_before = Arc::default();
        Ok(program)
    }

    /// One pass; `lateness` for a tick of the grid.
    pub fn tick(&mut self, whom: &Whom, lateness: Option<Duration>) {
        let took = self.tick.pass(whom);
        self.view.show(&self.tick, took, lateness);
    }

    /// One full pass that waits for every answer and for the couriers; true while something fires.
    pub fn once(&mut self) -> bool {
        self.tick(&Whom::All, None);
        self.remember_nodes();
        self.tick.watch.firing() > 0
    }

    /// Reads the configuration again. A bad one changes nothing, and is told.
    pub fn reload(&mut self, layers: &Layers, waker: &Waker) {
        let outcome = Config::load(layers, &assemble::schema()).map_err(anyhow::Error::from).and_then(|config| {
            let parts = self.parts(&config, waker)?;
            Ok((config, parts))
        });
        match outcome {
            Ok((config, parts)) => self.take_over(&config, parts, waker),
            Err(error) => {
                tracing::error!("the new configuration is not used: {error:#}");
                self.tick.reload_error = Some(format!("the new configuration is not used: {error:#}"));
            }
        }
    }

    fn take_over(&mut self, config: &Config, parts: Parts, waker: &Waker) {
        let doubts = crate::doubts::doubts(config).into_iter().map(|doubt| doubt.to_string());
        for warning in config.warnings().iter().cloned().chain(doubts) {
            tracing::warn!("{warning}");
        }
        let fixed = self.fixed(config);
        let had_repairs = self.tick.repairs.is_some();
        self.root = config.root().clone();
        self.tick.interval = self.root.tick.0;
        self.tick.watch.set_policy(policy(config, false, false));
        self.view.configure(&self.root);
        match self.install(parts, waker) {
            Ok(()) => {
                if !had_repairs {
                    self.remember_repairs();
                }
                self.adopt_orphans(config);
                self.tick.reload_error = None;
                let mut what = "the configuration was read again".to_string();
                if fixed.is_empty() {
                    tracing::info!("{what}");
                } else {
                    let _ = write!(what, "; restart for the new value of {}", fixed.join(", "));
                    tracing::warn!("{what}");
                }
                self.note("reloaded", &what);
            }
            Err(error) => self.tick.reload_error = Some(format!("the new configuration is not used: {error:#}")),
        }
    }

    /// Repairs that begin with a reload know what is kept: their nodes may have been configured before.
    fn remember_repairs(&mut self) {
        let Some(repairs) = &mut self.tick.repairs else { return };
        match self.tick.store.repairs() {
            Ok(remembered) => repairs.restore(&remembered, self.clock.now(), true),
            Err(error) => tracing::error!("state: what is kept of repairs cannot be read: {error}"),
        }
    }

    fn adopt_orphans(&mut self, config: &Config) {
        if let Some(repairs) = &mut self.tick.repairs {
            repairs.adopt_orphans(|places| assemble::orphans(config, &self.clock, places));
        }
    }

    /// Keys that changed since the start and take effect only at the next one. A program that started
    /// disabled has not opened its state file.
    fn fixed(&self, config: &Config) -> Vec<&'static str> {
        let (old, new) = (&self.started, config.root());
        let unopened = !old.enabled && new.enabled && !new.state.is_empty();
        let keys = [
            ("listen", old.listen != new.listen),
            ("state", old.state != new.state || unopened),
            ("log", old.log != new.log),
            ("log_format", old.log_format != new.log_format),
            ("serve", self.serve != config.value("", "serve").cloned()),
        ];
        keys.into_iter().filter_map(|(key, changed)| changed.then_some(key)).collect()
    }

    /// The first pass. It waits somewhat longer than the others, so that the first screen says what was found.
    pub fn first(&mut self) {
        self.tick.is_first = true;
        self.tick(&Whom::All, Some(Duration::ZERO));
        self.tick.is_first = false;
    }

    /// What a source watches, in words: what it said last, or else what its settings say; `None` when it is off.
    pub fn describe(&self, source: &str) -> Option<String> {
        let noted = self.tick.gather.health().find(|health| *health.name == *source).and_then(|h| h.note.clone());
        noted.or_else(|| self.described.get(source).cloned())
    }

    /// How the signals of a source stand.
    pub fn tally(&self, source: &str) -> Tally {
        self.tick.watch.tally(source)
    }

    /// The signals that are failing, each with its fact, the most severe first, at most `limit`.
    pub fn failing(&self, limit: usize) -> Vec<(&SignalKey, &str)> {
        let failing = |tracked: &&Tracked| matches!(tracked.state, State::Pending | State::Firing);
        let mut all: Vec<&Tracked> = self.tick.watch.tracked().filter(failing).collect();
        all.sort_by_key(|tracked| tracked.spec.severity);
        all.into_iter().take(limit).map(|tracked| (&tracked.spec.key, tracked.fact.as_ref())).collect()
    }

    /// What may be repaired and whether it is, in words; `None` where nothing is.
    pub fn describe_repairs(&self) -> Option<String> {
        self.tick.repairs.as_ref().map(|repairs| repairs.describe(self.tick.store.condition() != Condition::Memory))
    }

    /// True when a way out with this name is on.
    pub fn has_channel(&self, name: &str) -> bool {
        self.tick.couriers.iter().any(|courier| courier.status().name() == name)
    }

    /// Where the page is.
    pub fn page(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(Server::address)
    }

    /// What happened at the start, for people.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The grid of the loop.
    pub fn interval(&self) -> Duration {
        self.root.tick.0
    }

    /// When the sources that are there, or those of the run before, looked last, by the clocks of now.
    fn looked_at(&self) -> Option<Mono> {
        let now = self.clock.now();
        self.tick.watch.last_at().or_else(|| Some(now.mono.minus(now.wall.since(self.left_at?))))
    }

    /// Builds everything the configuration asks for, so that a bad one is known before anything changes.
    fn parts(&self, config: &Config, waker: &Waker) -> anyhow::Result<Parts> {
        let root = config.root();
        serve::check(config)?;
        let windows = windows(config)?;
        if !root.enabled {
            return Ok(Parts::default());
        }
        let seen_before = match &self.tick.repairs {
            Some(repairs) => Arc::new(repairs.fleet.seen_alive()),
            None => Arc::clone(&self.seen_before),
        };
        let kept = Kept::new(self.tick.watch.kept_for_sources(), self.looked_at(), self.same_boot);
        let outfit = assemble::outfit(config, &self.clock, waker, self.previous_boot.as_deref(), &seen_before);
        let outfit = Outfit { kept, ..outfit };
        let sources = assemble::sources(config, &outfit)?;
        let described = sources.iter().map(|source| (source.name().to_string(), source.describe())).collect();
        let gather = Gather::start(sources, self.clock.clone(), waker).context("cannot start a thread")?;
        let remembered: assemble::Remembered = NOTIFIERS
            .iter()
            .map(|entry| (entry.name.to_string(), self.tick.store.remembered(entry.name).unwrap_or_default()))
            .collect();
        let notifiers = assemble::notifiers(config, &self.clock, &remembered)?;
        let deadman = match deadman::url(config)? {
            Some(url) => Some(Deadman::start(Beat::of(config, url)?).context("cannot start a thread")?),
            None => None,
        };
        let repairs = if self.tick.once { None } else { assemble::repairs(config, &self.clock, waker)? };
        Ok(Parts {
            gather: Some(gather),
            described,
            notifiers,
            deadman,
            repairs,
            windows,
            page: serve::public_url(config),
        })
    }

    /// Repairs begin, go on by the new configuration, or end; one under way is never let go of.
    fn install_repairs(&mut self, parts: Option<assemble::RepairParts>, waker: &Waker) -> anyhow::Result<()> {
        match (&mut self.tick.repairs, parts) {
            (Some(running), Some(parts)) => {
                running.lease().stop(Instant::now() + STOP);
                running.configure(&parts.nodes, parts.tools);
                running.fleet.know_own_boot(parts.own_boot);
            }
            (Some(running), None) if !running.is_busy() => {
                if let Some(running) = self.tick.repairs.take() {
                    running.stop(Instant::now() + STOP);
                }
            }
            (Some(running), None) => running.wind_down(),
            (None, Some(parts)) => {
                let mut fleet = Fleet::new(parts.nodes.policy, parts.nodes.nodes);
                fleet.know_own_boot(parts.own_boot);
                let lease = parts.tools.lease.clone();
                let operator = Operator::start(parts.tools, self.clock.clone(), waker.clone());
                let operator = operator.context("cannot start a thread")?;
                self.tick.repairs = Some(Repairs::new(fleet, operator, lease, parts.traces));
            }
            (None, None) => {}
        }
        Ok(())
    }

    fn install(&mut self, parts: Parts, waker: &Waker) -> anyhow::Result<()> {
        let mut before = std::mem::take(&mut self.tick.couriers);
        let manners = || Manners { page: parts.page.clone(), ..manners(&self.root) };
        for notifier in parts.notifiers {
            // A channel that stays keeps its courier: what it was told to wait for does not end with a reload.
            if let Some(place) = before.iter().position(|courier| courier.status().name() == notifier.name()) {
                let courier = before.swap_remove(place);
                courier.equip(notifier, manners());
                self.tick.couriers.push(courier);
                continue;
            }
            let seed = self.clock.now().wall.0.unsigned_abs();
            let courier = Courier::new(self.tick.store.clone(), notifier, manners(), seed);
            let delivery = deliver::spawn(courier, self.clock.clone()).context("cannot start a courier")?;
            self.tick.couriers.push(delivery);
        }
        deliver::stop_all(before, Instant::now() + Duration::from_millis(500));
        self.tick.gather = match parts.gather {
            Some(gather) => gather,
            None => Gather::start(Vec::new(), self.clock.clone(), &Waker::new())?,
        };
        self.tick.deadman = match (parts.deadman, self.tick.deadman.take()) {
            (Some(new), Some(old)) => Some(new.after(&old)),
            (new, _) => new,
        };
        self.install_repairs(parts.repairs, waker)?;
        self.tick.hush.configure(parts.windows, self.root.zone().unwrap_or_default());
        self.described = parts.described;
        self.tick.idle = !self.root.enabled;
        if self.tick.idle {
            // What is open stays open: switched on again, the program goes on where it was.
            return Ok(());
        }
        let now = self.clock.now();
        let outcome = self.tick.watch.keep_only(&self.tick.gather.names(), &self.tick.channels(), now);
        self.tick.commit(now, &outcome, &Plan::default());
        Ok(())
    }

    fn note(&self, kind: &str, text: &str) {
        note(&self.tick.store, self.clock.now(), kind, text);
    }
}

fn note(store: &Store, now: Now, kind: &str, text: &str) {
    let entry = HistoryEntry {
        at: now.wall,
        kind: kind.to_string(),
        subject: "watchdog".to_string(),
        incident: None,
        severity: None,
        text: text.to_string(),
    };
    if let Err(error) = store.note(now, &entry) {
        tracing::warn!("history: {error}");
    }
}

/// What a configuration makes, before it is put in force.
#[derive(Default)]
struct Parts {
    gather: Option<Gather>,
    described: BTreeMap<String, String>,
    notifiers: Vec<Box<dyn crate::notifier::Notifier>>,
    deadman: Option<Deadman>,
    repairs: Option<assemble::RepairParts>,
    windows: Vec<Window>,
    page: Option<String>,
}

/// What an earlier run kept of repairs.
struct Remembered {
    repairs: crate::store::Repairs,
    same_boot: bool,
}

/// How the couriers speak. Both texts were read before, by [`Config::load`].
fn manners(root: &Root) -> Manners {
    Manners {
        instance: root.instance.clone(),
        zone: root.zone().unwrap_or_default(),
        quiet: root.quiet_hours().unwrap_or_default(),
        page: None,
    }
}

fn policy(config: &Config, once: bool, durable: bool) -> Policy {
    Policy {
        cooldown: config.cooldowns(),
        tick: config.root().tick.0,
        warm_up: !once,
        confirm_at_once: once && !durable,
    }
}

fn restore(watch: &mut Watch, before: Before, now: Now, once: bool) {
    let rows = before.signals.into_iter().filter_map(|row| match serde_json::from_str(&row.body) {
        Ok(remembered) => Some((row.key, remembered)),
        Err(error) => {
            tracing::warn!(key = %row.key, "a remembered signal cannot be read and begins afresh: {error}");
            None
        }
    });
    watch.restore(rows.collect(), now, before.same_boot, once);
    if !once {
        tracing::info!("the watchdog was down for {}", people(now.wall.since(before.last_at)));
    }
}
