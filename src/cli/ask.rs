//! Asks the running daemon over its status server, or reads what it left in the state file.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};

use super::paint::clean;
use crate::client::http::{Http, HttpError, Options};
use crate::clock::Clock;
use crate::config::Config;
use crate::core::recovery::journal::fold;
use crate::core::recovery::phrase::Deed;
use crate::core::recovery::plan::Mode;
use crate::core::recovery::story;
use crate::core::recovery::target::{Kept, Phase};
use crate::core::time::{Wall, people};
use crate::core::tracked::Remembered;
use crate::hush::Hush;
use crate::hush::windows::windows;
use crate::nodes::Nodes;
use crate::serve::Snapshot;
use crate::serve::health::{self, Health, HealthError};
use crate::serve::snapshot::{SignalView, StateFile, TargetView, Tick};
use crate::store::{Filter, Store};

/// How things stand, and how we know.
pub enum Standing {
    /// The daemon said so just now; also its JSON as it came.
    Live(Box<Snapshot>, String),
    /// The state file says so; the daemon does not answer. With the words for how old it is.
    Left(Box<Snapshot>, String),
    /// Neither daemon nor file, and why.
    Nothing(String),
}

/// Asks the daemon, then the state file.
pub fn standing(config: &Config) -> anyhow::Result<Standing> {
    let no_daemon = match get(config, "/api/v1/status") {
        Ok(body) => {
            let snapshot =
                serde_json::from_slice(&body).context("the daemon's answer cannot be read; is it the same version?")?;
            return Ok(Standing::Live(Box::new(snapshot), String::from_utf8_lossy(&body).into_owned()));
        }
        Err(error) => format!("{error:#}"),
    };
    let state = &config.root().state;
    if state.is_empty() {
        return Ok(Standing::Nothing(format!("{no_daemon}; and no state file is configured")));
    }
    match Store::read(Path::new(state)) {
        Ok(store) => {
            let snapshot = left_in(&store, config)?;
            let age = match store.last() {
                Some((at, _)) => {
                    let ago = people(Clock::system().now().wall.since(at));
                    format!("{no_daemon}; this is what the state file says, and it is {ago} old ({at})")
                }
                None => format!("{no_daemon}; the state file holds nothing yet"),
            };
            Ok(Standing::Left(Box::new(snapshot), age))
        }
        Err(error) => Ok(Standing::Nothing(format!("{no_daemon}; the state file {state}: {error}"))),
    }
}

/// The body of the daemon's answer at `path`.
pub fn get(config: &Config, path: &str) -> anyhow::Result<Vec<u8>> {
    let Some(address) = address(config)? else { bail!("the status server is off (listen is empty)") };
    let settings: crate::serve::Settings = config.section("serve")?;
    let token = config.secret("serve.token", settings.token.as_ref(), settings.token_file.as_deref())?;
    let bearer = token.map(|token| format!("Bearer {}", token.expose()));
    let headers: Vec<(&str, &str)> = bearer.iter().map(|value| ("Authorization", value.as_str())).collect();
    let http = Http::new(Options {
        timeout: Duration::from_secs(3),
        body_limit: 64 * 1024 * 1024,
        allow_link_local: true,
        ..Options::default()
    });
    let answer = http.get(&format!("http://{address}{path}"), &headers).map_err(|error| match error {
        HttpError::Refused(_) => anyhow!("no daemon answers at {address} (`listen`); start one with `watchdog run`"),
        other => anyhow!("the daemon at {address} does not answer: {other}"),
    })?;
    match answer.status {
        200 => {}
        401 => bail!("the daemon at {address} wants its token; set serve.token here as it is set there"),
        status => bail!("{}", refused(address, status, &answer.body)),
    }
    Ok(answer.body)
}

/// What an answer that is none says: its own first line, as far as it is one.
fn refused(address: SocketAddr, status: u16, body: &[u8]) -> String {
    let said = String::from_utf8_lossy(body.get(..400).unwrap_or(body));
    let said = clean(said.lines().next().unwrap_or_default().trim());
    if said.is_empty() || said.starts_with(['<', '{']) {
        return format!("what answers at {address} (`listen`) is not this watchdog's status server: HTTP {status}");
    }
    format!("the daemon at {address} answers {status}: {said}")
}

/// How the daemon is, asked by the health check's own way, or else as everybody asks. The error says what happened.
pub fn health(config: &Config) -> anyhow::Result<Health> {
    let Some(page) = listen(config)? else { bail!("the status server is off (listen is empty)") };
    match health::ask(page, Duration::from_secs(3)) {
        Ok(health) => Ok(health),
        Err(HealthError::Absent) => {
            let snapshot: Snapshot = serde_json::from_slice(&get(config, "/api/v1/status")?)
                .context("the daemon's answer cannot be read; is it the same version?")?;
            Ok(Health { age_ms: snapshot.tick.age_ms, starting: None })
        }
        Err(error) => Err(error.into()),
    }
}

/// What the daemon of this configuration listens on.
fn listen(config: &Config) -> anyhow::Result<Option<SocketAddr>> {
    let listen = &config.root().listen;
    if listen.is_empty() { Ok(None) } else { listen.parse().map(Some).context("listen is not an address") }
}

/// Where the daemon of this configuration can be asked from this machine.
fn address(config: &Config) -> anyhow::Result<Option<SocketAddr>> {
    let Some(mut address) = listen(config)? else { return Ok(None) };
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    Ok(Some(address))
}

fn left_in(store: &Store, config: &Config) -> anyhow::Result<Snapshot> {
    let (now, zone) = (Clock::system().now().wall, config.root().zone().unwrap_or_default());
    let mut hush = Hush::restored(store);
    hush.configure(windows(config).unwrap_or_default(), zone.clone());
    hush.look(now);
    let mut signals = Vec::new();
    for row in store.signals()? {
        // A row of another version is skipped rather than hiding all the others.
        let Ok(left) = serde_json::from_str::<Remembered>(&row.body) else { continue };
        signals.push(Arc::new(SignalView {
            state: left.state,
            severity: left.severity,
            title: left.title.into(),
            detail: left.fact.into(),
            since: Some(left.since),
            incident: left.alert.or(left.blind).map(|talk| talk.incident),
            reason: left.reason.into(),
            last_alert_at: left.last_alert_at,
            silenced: hush.cover(&row.key, now).map(|cover| Arc::new(cover.into())),
            about: left.about,
            details: left.details,
            key: row.key,
            strip: Arc::default(),
        }));
    }
    signals.sort_by(|a, b| a.key.cmp(&b.key));
    let mode = Nodes::read(config).map_or(Mode::Observe, |nodes| nodes.policy.mode);
    Ok(Snapshot {
        targets: targets_in(store, Deed::in_mode(mode))?,
        instance: config.root().instance.clone(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        enabled: config.root().enabled,
        mode: mode.as_str().to_string(),
        state_file: StateFile::Writable,
        interval_ms: u64::try_from(config.root().tick.0.as_millis()).unwrap_or(u64::MAX),
        started_at: started_at(store),
        tick: Tick { last_at: store.last().map(|(at, _)| at), ..Tick::default() },
        at: Clock::system().now(),
        signals,
        silences: hush.mutes(now).into_iter().map(Into::into).collect(),
        zone,
        ..Snapshot::default()
    })
}

fn targets_in(store: &Store, begins: Deed) -> anyhow::Result<Vec<Arc<TargetView>>> {
    let left = store.repairs()?;
    let open = fold(&left.records);
    let view = |(name, body): &(String, String)| {
        // What a pool has spent is no target.
        if name.starts_with('/') {
            return None;
        }
        let kept: Kept = serde_json::from_str(body).ok()?;
        let told = open.iter().find(|told| told.target == *name);
        let open = told.map(|told| (&told.saga, Deed::of(told.simulated)));
        let (reason, deed) = story::left(&kept, open, begins);
        let phase = if open.is_some() { Phase::Recovering } else { kept.phase };
        Some(Arc::new(TargetView {
            name: name.clone(),
            phase: phase.as_str().into(),
            attempts: kept.attempts,
            blocked: kept.blocked.iter().map(ToString::to_string).collect(),
            since: Some(kept.since_wall()).filter(|since| *since != Wall::default()),
            reason: reason.into_text(),
            simulated: deed.is_simulated() && (open.is_some() || kept.phase != Phase::Healthy || kept.attempts > 0),
            unhealthy_s: 0,
        }))
    };
    Ok(left.targets.iter().filter_map(view).collect())
}

/// When the run that left the file began, as its log says; 1970 when the log does not go back so far.
fn started_at(store: &Store) -> Wall {
    let filter = Filter { subject: Some("watchdog".to_string()), limit: 100, ..Filter::default() };
    let log = store.history(&filter).unwrap_or_default();
    log.iter().find(|entry| entry.kind == "started").map(|entry| entry.at).unwrap_or_default()
}
