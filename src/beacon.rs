//! The beacon as it runs on a node: carries out what [`core::beacon`](crate::core::beacon) decides.
//!
//! One loop that never waits for the network: a thread of its own makes the calls, one at a time, each
//! with a deadline. The loop looks at itself at each turn and tells systemd that it is alive only when
//! that thread is within its time. Told to stop, it uses a fresh thread and connection with short
//! deadlines, so that a Consul that hangs cannot hold it: it ends within [`FAREWELL`], and a session that
//! could not be ended runs out by its TTL. What is logged is a change of state, not each try.
//! See `adr/0019-beacon.md`.

pub mod caller;
mod page;
mod tell;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tracing::warn;

use self::caller::{Caller, Ended, Work};
use self::page::{Page, Picture};
use self::tell::Tell;
use crate::client::consul::{self, Consul, usable_key};
use crate::client::systemd::Systemd;
use crate::clock::{self, Clock};
use crate::config::schema::Section;
use crate::config::value::Span;
use crate::config::veil::quoted;
use crate::config::{Config, ConfigError, Problems, form, host_name};
use crate::core::beacon::{Beacon, Heartbeat, Policy, State};
use crate::core::recovery::heartbeat::LONGEST_PLAN;
use crate::core::time::{Mono, people};
use crate::serve;
use crate::serve::server::Server;
use crate::wake::{Wake, Waker};

crate::settings! {
    /// The node's side of the heartbeat: `watchdog beacon`. Where its key is, is in [consul].
    pub struct Settings {
        /// The node's name, the last part of its key. Default: the host name.
        node: String = String::new(),
        /// Life of the session without a renewal, 1s to 24h. Consul takes less than 10s only where its
        /// session_ttl_min says so, and ends a session between one and two TTLs after its last renewal.
        ttl: Span = Span::seconds(30),
        /// Time between renewals, at least 100ms and less than ttl; a third of it is good. The key itself is
        /// written much more seldom (rewrite).
        renew: Span = Span::seconds(10),
        /// Time between two writings of the key's value, at least ttl: its beat then shows progress. Each one is work for
        /// Consul and wakes every agent.
        rewrite: Span = Span::seconds(600),
        /// How long a planned stop of the beacon (SIGTERM) is maintenance, at most 24h: no alert, no repair. A node that is
        /// not back by then is told as lost.
        planned: Span = Span::seconds(600),
        /// Address of the beacon's own /metrics and /healthz; empty = off. Who may ask is in [serve].
        listen: String = String::new(),
    }
}

/// The parts of the configuration that this file owns.
pub const SECTIONS: &[Section] = &[Settings::section("beacon")];

/// How long the end may take in all.
const FAREWELL: Duration = Duration::from_secs(4);
/// How long each call of the end may take; there are at most four.
const FAREWELL_CALL: Duration = Duration::from_secs(1);
/// The loop looks at itself at least this often.
const LOOK: Duration = Duration::from_secs(10);

/// What a beacon is to do, checked.
#[derive(Debug)]
pub struct Plan {
    consul: Consul,
    key: String,
    policy: Policy,
    own: Heartbeat,
    listen: Option<SocketAddr>,
}

/// Checks `[beacon]`. Errors: names and times that cannot be used.
pub fn check(config: &Config) -> Result<(), ConfigError> {
    Plan::new(config, None).map(drop)
}

impl Plan {
    /// Reads `[beacon]` and `[consul]`; `node` stands over the setting.
    ///
    /// Errors: names, times, addresses and tokens that cannot be used, each by its key.
    pub fn new(config: &Config, node: Option<&str>) -> Result<Plan, ConfigError> {
        let settings: Settings = config.section("beacon")?;
        let node = match (node, settings.node.as_str()) {
            (Some(given), _) => given.to_string(),
            (None, "") => host_name(),
            (None, set) => set.to_string(),
        };
        let mut problems = Problems::new(config);
        if node.contains('/') || !usable_key(&node) {
            let what = format!("{} cannot be part of a key; use letters, digits, `_`, `-` and `.`", quoted(&node));
            problems.refuse("beacon.node", what);
        }
        let (ttl, renew) = (settings.ttl.0, settings.renew.0);
        if ttl < Duration::from_secs(1) || ttl > Duration::from_hours(24) {
            problems.refuse("beacon.ttl", format!("{} is not between 1s and 24h", settings.ttl));
        }
        if renew < Duration::from_millis(100) || renew >= ttl {
            let what = format!("{} is not at least 100ms and less than beacon.ttl ({})", settings.renew, settings.ttl);
            problems.refuse("beacon.renew", what);
        }
        if settings.planned.0 > Duration::from_secs(LONGEST_PLAN) {
            problems.refuse("beacon.planned", format!("{} is longer than 24h", settings.planned));
        }
        problems.check("beacon.listen", form::listen(&settings.listen));
        let listen = settings.listen.parse::<SocketAddr>().ok();
        // Of three renewals in a TTL one may hang and one fail.
        let consul = problems.take(consul::connect(config, config.root().timeout.0.min(ttl / 3)));
        let prefix = consul::prefix(config)?;
        let Some(consul) = problems.unless_any(consul)? else {
            return Err(config.error("consul", "cannot be used"));
        };
        let key = format!("{prefix}/{node}");
        let version = env!("CARGO_PKG_VERSION").to_string();
        let own = Heartbeat {
            node,
            version,
            ttl_s: ttl.as_secs(),
            planned_s: Some(settings.planned.0.as_secs()),
            ..Heartbeat::default()
        };
        Ok(Plan {
            consul,
            key,
            policy: Policy { ttl, renew, rewrite: settings.rewrite.0.max(ttl), seed: 0 },
            own,
            listen,
        })
    }

    fn work(&self, consul: &Consul, clock: &Clock) -> Work {
        let (key, own) = (self.key.clone(), self.own.clone());
        Work { consul: consul.clone(), key, own, ttl: self.policy.ttl, clock: clock.clone() }
    }
}

/// A beacon whose parts are started.
pub struct Running {
    plan: Plan,
    clock: Clock,
    waker: Waker,
    machine: Beacon,
    caller: Caller,
    systemd: Systemd,
    tell: Tell,
    picture: Arc<Mutex<Picture>>,
    server: Option<Server>,
}

/// Starts the parts of a beacon.
///
/// Errors: an address that cannot be listened on, a thread that cannot be started.
pub fn start(mut plan: Plan, config: &Config, clock: &Clock, waker: &Waker) -> anyhow::Result<Running> {
    let now = clock.now();
    plan.own.boot_id = clock::boot_id();
    plan.own.started_at = now.wall.rfc3339();
    plan.own.started_ms = now.mono.0;
    // Different on each node and in each run, which is all that is asked of it.
    let of_name = plan.own.node.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    plan.policy.seed = of_name ^ now.wall.0.unsigned_abs() ^ (u64::from(std::process::id()) << 32);
    let picture: Arc<Mutex<Picture>> = Arc::default();
    let server = match plan.listen {
        Some(listen) => {
            let access = serve::access(config, listen)?;
            if access.is_open() {
                warn!(address = %listen, "the metrics are open to everybody who reaches this address; set serve.token to close it");
            }
            let picture = Arc::clone(&picture);
            Some(Server::serve(listen, Box::new(Page { access, picture }))?)
        }
        None => None,
    };
    let caller = Caller::start(plan.work(&plan.consul, clock), waker).context("cannot start a thread")?;
    Ok(Running {
        machine: Beacon::new(plan.policy, plan.own.clone(), now.mono),
        caller,
        systemd: Systemd::new(|name| config.variable(name), std::process::id()),
        tell: Tell::new(&plan.key, plan.policy.ttl),
        picture,
        server,
        plan,
        clock: clock.clone(),
        waker: waker.clone(),
    })
}

impl Running {
    /// What a person sees first.
    pub fn first_screen(&self) -> String {
        let plan = &self.plan;
        let mut out = format!("watchdog {}: beacon of {}", plan.own.version, plan.own.node);
        let mut line = |name: &str, what: &str| {
            // Into a String, which cannot fail.
            let _ = write!(out, "\n  {name:<9} {what}");
        };
        line("key", &plan.key);
        if let Some(server) = &self.server {
            line("metrics", &format!("http://{}/", server.address()));
        }
        line("consul", plan.consul.address());
        let (ttl, renew) = (plan.policy.ttl, plan.policy.renew);
        line(
            "session",
            &format!(
                "ends {} to {} after its last renewal, renewed every {}",
                people(ttl),
                people(ttl * 2),
                people(renew)
            ),
        );
        out
    }

    /// Beats until the waker says [`Wake::Shutdown`], then says good-bye.
    pub fn run(mut self) {
        while !self.turn() {}
        self.end();
    }

    /// One turn of the loop; true when told to stop.
    fn turn(&mut self) -> bool {
        let now = self.clock.now().mono;
        self.take_answers();
        self.machine.on_time(now);
        self.show();
        if self.caller.is_within_its_time(now) {
            self.systemd.alive();
        }
        self.call_if_due(now);
        let wakes = self.waker.wait_until(Instant::now() + self.rest(now));
        if wakes.contains(&Wake::Reload) {
            warn!("SIGHUP: a beacon reads its settings only when it starts, and a token file whenever that changes");
        }
        wakes.contains(&Wake::Shutdown)
    }

    /// How long nothing will be due.
    fn rest(&self, now: Mono) -> Duration {
        let call = self.machine.next().filter(|_| !self.caller.is_busy()).map(|next| next.at.since(now));
        let expiry = self.machine.expires_at().map(|at| at.since(now));
        let look = self.systemd.interval().map_or(LOOK, |interval| interval.min(LOOK));
        [call, expiry].into_iter().flatten().fold(look, Duration::min)
    }

    fn call_if_due(&mut self, now: Mono) {
        if let Some(next) = self.machine.next()
            && next.at <= now
            && !self.caller.is_busy()
        {
            let call = next.call.clone();
            self.caller.call(call, self.machine.counts().renewals, now);
        }
    }

    fn take_answers(&mut self) {
        while let Some(Ended { sent, at, outcome }) = self.caller.take() {
            let outcome = outcome.map_err(|error| {
                let fault = error.fault();
                self.tell.failed(error.to_string());
                fault
            });
            self.machine.on_answer(sent, at, outcome);
        }
    }

    fn show(&mut self) {
        let shown = Picture { state: Some(self.machine.state()), counts: self.machine.counts() };
        *self.picture.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = shown;
        self.tell.look(&self.machine, &self.systemd);
    }

    /// Writes the planned stop, gives the key back, ends the session; within [`FAREWELL`].
    fn end(mut self) {
        self.systemd.stopping();
        let deadline = self.waker.end_by().unwrap_or_else(|| Instant::now() + FAREWELL);
        self.take_answers();
        self.machine.on_stop(self.clock.now().mono);
        // A call may hang in the old thread; what it still brings is not waited for.
        let consul = self.plan.consul.with_timeout(FAREWELL_CALL.min(self.plan.policy.ttl));
        match Caller::start(self.plan.work(&consul, &self.clock), &self.waker) {
            Ok(caller) => self.caller = caller,
            Err(error) => warn!("cannot start a thread: {error}"),
        }
        while self.machine.next().is_some() && Instant::now() < deadline {
            let now = self.clock.now().mono;
            self.call_if_due(now);
            self.waker.wait_until(deadline.min(Instant::now() + self.rest(now)));
            self.take_answers();
            self.show();
        }
        self.tell.ended(self.machine.state() == State::Done);
        if let Some(server) = self.server.take() {
            server.stop(deadline);
        }
    }
}
