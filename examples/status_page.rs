//! Serves the status page of a made-up bad night, for looking at it in a browser.
//!
//! `cargo run --example status_page -- [ADDRESS] [well | bad | late | off | many]`

use std::sync::Arc;
use std::time::Duration;

use watchdog::clock::Clock;
use watchdog::core::about::{About, Details};
use watchdog::core::edge::Incident;
use watchdog::core::signal::{Severity, SignalKey, State};
use watchdog::core::time::{Now, Wall};
use watchdog::core::zone::Zone;
use watchdog::serve::access::Access;
use watchdog::serve::muted::{By, MuteView, Silenced};
use watchdog::serve::server::Server;
use watchdog::serve::snapshot::{
    ChannelView, HistoryView, Published, SignalView, Snapshot, SourceView, StateFile, Tick,
};
use watchdog::serve::strip::Strip;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:9106".to_string()).parse()?;
    let scene = arguments.next().unwrap_or_else(|| "bad".to_string());
    let clock = Clock::system();
    let published = Arc::new(Published::default());
    let server = Server::start(address, Access::new(address, &[], None), Arc::clone(&published), clock.clone())?;
    println!("http://{}/", server.address());
    loop {
        if scene != "late" || published.latest().tick.count == 0 {
            published.publish(picture(&scene, clock.now()));
        }
        std::thread::sleep(Duration::from_secs(5));
    }
}

fn picture(scene: &str, now: Now) -> Snapshot {
    let bad = scene == "bad" || scene == "late";
    let minutes = |n: u64| now.wall.minus(Duration::from_secs(n * 60));
    let interval_ms = if scene == "late" { 1_000 } else { 15_000 };
    Snapshot {
        instance: "web-1".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        enabled: scene != "off",
        mode: "observe".into(),
        started_at: minutes(60 * 31),
        interval_ms,
        state_file: if bad { StateFile::Failing("no space left on device".into()) } else { StateFile::Writable },
        tick: Tick { count: 7_440, last_at: Some(now.wall), duration_ms: 3.1, lateness_ms: 0.4, age_ms: 0 },
        signals: signals(scene, now).into_iter().map(std::sync::Arc::new).collect(),
        channels: vec![
            ChannelView { name: "console".into(), state: "ok".into(), ..ChannelView::default() },
            ChannelView {
                name: "telegram".into(),
                state: if bad { "refused" } else { "ok" }.into(),
                pending: if bad { 3 } else { 0 },
                oldest_pending_s: if bad { 725 } else { 0 },
                error: bad
                    .then(|| "401 Unauthorized: the bot token is not valid any more; set telegram.bot_token".into()),
            },
        ],
        silences: silences(now),
        zone: Zone::new(jiff::tz::TimeZone::get("Europe/Berlin").unwrap_or(jiff::tz::TimeZone::UTC)),
        sources: ["app", "docker", "host", "probe"]
            .map(|name| SourceView {
                name: name.into(),
                state: if bad && name == "docker" { "blind" } else { "ok" }.into(),
                last_ok_at: Some(if bad && name == "docker" { minutes(9) } else { now.wall }),
                duration_ms: 2.0,
                error: (bad && name == "docker").then(|| "no answer from /var/run/docker.sock within 5s".into()),
                note: None,
            })
            .into(),
        recent: if scene == "off" { [].into() } else { history(now).into() },
        at: now,
        ..Snapshot::default()
    }
}

fn silences(now: Now) -> Vec<MuteView> {
    let mute = |by, pattern: &str, from: u64, hours: u64, reason: &str| {
        let since = now.wall.plus(Duration::from_hours(from));
        let until = since.plus(Duration::from_hours(hours));
        MuteView { by, r#match: vec![pattern.into()], since, until, active: from == 0, reason: reason.into() }
    };
    vec![
        mute(By::Silence, "probe/db", 0, 2, "upgrade of the database"),
        mute(By::Maintenance, "host/*", 30, 2, "backup"),
    ]
}

fn signals(scene: &str, now: Now) -> Vec<SignalView> {
    use Severity::{Critical, Warning};
    let signal = |key: &str, title: &str, state, severity, detail: &str, minutes: u64| {
        let firing = state == State::Firing;
        SignalView {
            key: SignalKey::new(key),
            state,
            severity,
            title: title.into(),
            detail: detail.to_string().into(),
            since: Some(now.wall.minus(Duration::from_secs(minutes * 60 + 5))),
            incident: firing.then(|| Incident("k3f9".into())),
            reason: match state {
                State::Firing => "said at its beginning; the next reminder is due in 48m".into(),
                State::Pending => "seen bad 2 of 3 times in a row".into(),
                State::Unknown => "its source cannot look; told when that lasts 10m".into(),
                State::Ok => "nothing is wrong".into(),
            },
            last_alert_at: firing.then(|| now.wall.minus(Duration::from_secs(minutes * 60))),
            silenced: (state == State::Pending).then(|| {
                let (by, pattern, until) = (By::Silence, "probe/db".into(), now.wall.plus(Duration::from_hours(2)));
                Arc::new(Silenced { by, pattern, until, reason: "upgrade of the database".into() })
            }),
            about: key.contains("worker").then(|| {
                let (name, group) = ("worker".into(), "project shop".into());
                let (note, runbook) = ("ask the shop's team".into(), "https://wiki.example.org/worker".into());
                Arc::new(About { name, group, note, runbook, ..About::default() })
            }),
            details: key.contains("worker").then(|| {
                let details = Details::new("keeps crashing", "docker logs --tail 50 shop-worker-1; raise mem_limit");
                Arc::new(details.with("last line: \"Can't save in background: fork: Cannot allocate memory\""))
            }),
            strip: Arc::new(strip(key, state, minutes, now.wall)),
        }
    };
    if scene == "off" {
        return Vec::new();
    }
    let mut all = vec![
        signal("app/down", "application", State::Ok, Critical, "200 in 4 ms", 1_500),
        signal("app/jobs failed", "job failed", State::Ok, Warning, "0 failed, 3 queued", 420),
        signal("host/disk:/", "disk /", State::Ok, Warning, "61 % in use, 182 GB free", 1_500),
        signal("host/load", "load", State::Ok, Warning, "0.42 per CPU", 1_500),
        signal("host/memory", "memory in use", State::Ok, Warning, "41 % in use, 9.4 GB available", 1_500),
        signal("probe/dns", "dns example.org", State::Ok, Critical, "2 addresses in 3 ms", 1_500),
        signal("probe/redis", "tcp redis:6379", State::Ok, Critical, "connected in 0.2 ms", 90),
    ];
    if scene == "many" {
        for n in 0..1_000 {
            all.push(signal(&format!("probe/shop-{n:04}"), "shop", State::Ok, Critical, "200 in 12 ms", 1_500 + n));
        }
    }
    if scene == "bad" || scene == "late" {
        all.push(signal(
            "container/shop-worker-with-a-rather-long-name-that-must-wrap-1",
            "container shop-worker-with-a-rather-long-name-that-must-wrap-1",
            State::Firing,
            Critical,
            "exit code 137, out of memory; restarted 4 times in 10m; image registry.example/shop/worker:2026.01",
            12,
        ));
        all.push(signal("probe/certificate", "tls shop.example", State::Firing, Warning, "expires in 6 days", 3_100));
        all.push(signal(
            "container/web",
            "container web",
            State::Unknown,
            Critical,
            "not seen since docker went quiet",
            9,
        ));
        all.push(signal("probe/db", "tcp db:5432", State::Pending, Critical, "connection refused", 0));
    }
    all.sort_by(|a, b| a.key.cmp(&b.key));
    all
}

fn strip(key: &str, state: State, minutes: u64, now: Wall) -> Strip {
    let mut strip = Strip::default();
    let salt: u64 = key.bytes().map(u64::from).sum();
    for back in (0..=(1_440 / 5)).rev().map(|n| n * 5) {
        strip.advance(now.minus(Duration::from_secs(back * 60)));
        strip.record(if back <= minutes && state != State::Ok {
            state
        } else if (back + salt * 37) % 1_300 < 20 && key.starts_with("probe") {
            State::Firing
        } else if (back + salt * 11) % 900 < 25 && key.starts_with("container") {
            State::Unknown
        } else {
            State::Ok
        });
    }
    strip
}

fn history(now: Now) -> Vec<HistoryView> {
    let rows = [
        (12, "alert", "container/shop-worker-with-a-rather-long-name-that-must-wrap-1", "exit code 137, out of memory"),
        (12, "delivered", "console", "1 message"),
        (90, "recovery", "probe/redis", "connected again after 4m 10s"),
        (94, "alert", "probe/redis", "connection refused, 3 times in a row"),
        (420, "alert", "app/jobs failed", "2 more jobs failed"),
        (1_390, "seen", "source/docker", "answers again"),
        (1_401, "unknown", "source/docker", "no answer within 5s"),
    ];
    rows.map(|(minutes, kind, subject, text)| HistoryView {
        at: now.wall.minus(Duration::from_secs(minutes * 60)),
        kind: kind.into(),
        subject: subject.into(),
        incident: (kind != "delivered").then(|| Incident("k3f9".into())),
        severity: Some(Severity::Critical),
        text: text.into(),
    })
    .into()
}
