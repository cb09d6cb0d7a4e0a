//! The host source on sample trees of /proc: what old, odd, cut and healthy machines look like, and
//! what the core says when they change.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on says so by a panic")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use watchdog::clock::Clock;
use watchdog::config::Config;
use watchdog::core::edge::EdgeKind;
use watchdog::core::signal::{Answer, Observation, Reading, Report, SignalKey, State};
use watchdog::core::time::{Mono, Now, Wall};
use watchdog::core::watch::{Cooldowns, Policy, Watch};
use watchdog::source::{Ask, Kept, Outfit, Source, host};
use watchdog::wake::Waker;

const TICK: Duration = Duration::from_secs(15);
/// No disks: what a sample tree says of mounts would not be those of this machine.
const NO_DISKS: &str = "disk_pct = 0\nreadonly = false\n";
const EVERYTHING: &str = "swap_pct = 80\npressure_cpu_pct = 50\ndisk_pct = 0\nreadonly = false\n";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures").join(format!("proc-{name}"))
}

/// A copy of a sample tree that may be changed.
fn copy(name: &str) -> tempfile::TempDir {
    fn walk(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            if from.is_dir() {
                walk(&from, &to);
            } else {
                std::fs::copy(from, to).unwrap();
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    walk(&fixture(name), dir.path());
    dir
}

fn source(proc: &Path, settings: &str, previous_boot: Option<&str>, clock: &Clock) -> Box<dyn Source> {
    let config = Config::from_toml(&format!("[host]\nproc = \"{}\"\n{settings}", proc.display())).unwrap();
    let outfit = Outfit {
        clock: clock.clone(),
        waker: Waker::new(),
        timeout: Duration::from_secs(5),
        tick: TICK,
        previous_boot: previous_boot.map(str::to_string),
        seen_before: Arc::default(),
        kept: watchdog::source::Kept::default(),
    };
    (host::ENTRY.build)(&config, &outfit).unwrap().unwrap()
}

fn look(source: &mut dyn Source) -> Result<Report, String> {
    source.observe(&Ask { now: Now::default(), fresh_since: Mono(0), hurry_since: Mono(i64::MIN), once: false })
}

fn readings(report: &Report) -> BTreeMap<&str, (Reading, &str)> {
    report.observations.iter().map(|o| (o.spec.key.as_str(), (o.reading, o.fact.as_ref()))).collect()
}

fn keys(report: &Report) -> Vec<&str> {
    readings(report).into_keys().collect()
}

#[test]
fn a_healthy_machine_is_read_whole() {
    let report = look(&mut *source(&fixture("plain"), EVERYTHING, None, &Clock::system())).unwrap();
    let expected = BTreeMap::from([
        ("host/files", (Reading::Value(1.0), "1 % of the machine's open files: 1000 of 100000; alert above 90 %")),
        ("host/load", (Reading::Value(1.5), "5-minute load 6 on 4 CPUs (1.5 each); alert above 4 for each CPU")),
        ("host/memory", (Reading::Value(75.0), "75 % in use, 3.9 GiB of 16 GiB available; alert above 90 %")),
        ("host/oom", (Reading::Value(2.0), "2 processes killed for lack of memory since boot")),
        (
            "host/pressure:cpu",
            (Reading::Value(12.5), "something waited for a CPU 12.5 % of the last minute; alert above 50 %"),
        ),
        (
            "host/pressure:io",
            (Reading::Value(4.0), "everything waited for disks 4 % of the last minute; alert above 30 %"),
        ),
        (
            "host/pressure:memory",
            (Reading::Value(1.25), "everything waited for memory 1.25 % of the last minute; alert above 10 %"),
        ),
        ("host/reboot", (Reading::Happened(0), "up for 3 d 4 h")),
        ("host/swap", (Reading::Value(50.0), "50 % in use, 1000 MiB of 2.0 GiB free; alert above 80 %")),
    ]);
    assert_eq!(readings(&report), expected);
    assert!(report.complete && report.blind.is_none());
}

#[test]
fn what_an_old_kernel_does_not_offer_is_left_out() {
    let report = look(&mut *source(&fixture("old"), EVERYTHING, None, &Clock::system())).unwrap();
    assert_eq!(keys(&report), ["host/load", "host/memory", "host/reboot", "host/swap"]);
    assert_eq!(readings(&report)["host/swap"], (Reading::Value(0.0), "no swap; alert above 80 %"));
    assert!(report.complete);
}

#[test]
fn many_cpus_and_an_endless_ceiling_are_understood() {
    let report = look(&mut *source(&fixture("many-cpus"), "", None, &Clock::system())).unwrap();
    let seen = readings(&report);
    assert_eq!(seen["host/load"].0, Reading::Value(2.0));
    assert!(!seen.contains_key("host/files"), "the largest number is not a ceiling");
}

#[test]
fn cut_and_empty_files_are_unknown_and_nothing_else() {
    let report = look(&mut *source(&fixture("cut"), EVERYTHING, None, &Clock::system())).unwrap();
    for (key, (reading, fact)) in readings(&report) {
        assert!(reading == Reading::Unknown || key == "host/swap", "{key} is {reading:?}");
        assert!(!fact.is_empty(), "{key}");
    }
    let expected =
        ["files", "load", "memory", "oom", "pressure:cpu", "pressure:io", "pressure:memory", "reboot", "swap"];
    assert_eq!(keys(&report), expected.map(|key| format!("host/{key}")));
}

#[test]
fn what_was_there_and_is_gone_is_unknown() {
    let proc = copy("plain");
    let mut source = source(proc.path(), "", None, &Clock::system());
    look(&mut *source).unwrap();
    std::fs::remove_dir_all(proc.path().join("pressure")).unwrap();
    std::fs::write(proc.path().join("meminfo"), "MemTotal: 16 kB\n").unwrap();
    let report = look(&mut *source).unwrap();
    for key in ["host/pressure:io", "host/pressure:memory"] {
        assert_eq!(readings(&report)[key], (Reading::Unknown, "no longer available"), "{key}");
    }
    assert_eq!(readings(&report)["host/memory"].0, Reading::Unknown);
}

#[test]
fn every_prefix_of_every_file_is_survived() {
    let proc = copy("plain");
    let mut source = source(proc.path(), EVERYTHING, None, &Clock::system());
    for name in
        ["meminfo", "loadavg", "stat", "vmstat", "uptime", "pressure/io", "sys/fs/file-nr", "sys/kernel/random/boot_id"]
    {
        let whole = std::fs::read(fixture("plain").join(name)).unwrap();
        for end in (0..=whole.len()).rev() {
            std::fs::write(proc.path().join(name), &whole[..end]).unwrap();
            look(&mut *source).unwrap();
        }
        std::fs::write(proc.path().join(name), &whole).unwrap();
    }
}

#[test]
fn a_directory_without_proc_is_an_error_that_says_what_to_do() {
    let empty = tempfile::tempdir().unwrap();
    let error = look(&mut *source(empty.path(), "", None, &Clock::system())).unwrap_err();
    assert!(error.contains("set host.proc"), "{error}");
}

#[test]
fn this_machine_can_be_read() {
    let report = look(&mut *source(Path::new("/proc"), "inodes_pct = 97", None, &Clock::system())).unwrap();
    let seen = readings(&report);
    for key in ["host/memory", "host/load"] {
        assert!(matches!(seen[key].0, Reading::Value(v) if v >= 0.0), "{key}: {:?}", seen[key]);
    }
    assert!(matches!(seen["host/mounts"].0, Reading::Happened(0)), "{:?}", seen["host/mounts"]);
    let named = look(&mut *source(Path::new("/proc"), "disk_paths = [\"/\"]", None, &Clock::system())).unwrap();
    let seen = readings(&named);
    assert!(matches!(seen["host/disk:/"].0, Reading::Value(v) if v >= 0.0), "{seen:?}");
    assert_eq!(seen["host/mount:/"].0, Reading::Up, "{seen:?}");
}

#[test]
fn disks_mounted_elsewhere_keep_their_own_names() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("data")).unwrap();
    let settings =
        format!("root = \"{}\"\ndisk_pct = 97\ndisk_paths = [\"/\", \"/data\", \"/gone\"]", root.path().display());
    let report = look(&mut *source(&fixture("plain"), &settings, None, &Clock::system())).unwrap();
    let seen = readings(&report);
    assert!(matches!(seen["host/disk:/data"].0, Reading::Value(_)), "{seen:?}");
    assert!(matches!(seen["host/disk:/"].0, Reading::Value(_)));
    assert_eq!(seen["host/disk:/gone"].0, Reading::Unknown);
    assert!(seen["host/disk:/gone"].1.contains("No such file"), "{seen:?}");
}

#[test]
fn the_source_can_be_switched_off_and_single_signals_too() {
    let outfit = Outfit {
        clock: Clock::system(),
        waker: Waker::new(),
        timeout: TICK,
        tick: TICK,
        previous_boot: None,
        seen_before: Arc::default(),
        kept: watchdog::source::Kept::default(),
    };
    let off = Config::from_toml("[host]\nenabled = false").unwrap();
    assert!((host::ENTRY.build)(&off, &outfit).unwrap().is_none());
    let few =
        "memory_pct = 0\nload_per_cpu = 0\npressure_memory_pct = 0\npressure_io_pct = 0\noom = false\nreboot = false\n";
    let few = format!("{few}{NO_DISKS}");
    let report = look(&mut *source(&fixture("plain"), &few, None, &Clock::system())).unwrap();
    assert_eq!(keys(&report), ["host/files"]);
}

#[test]
fn memory_kills_and_a_reboot_are_told_as_they_should() {
    let proc = copy("plain");
    let write = |name: &str, text: &str| std::fs::write(proc.path().join(name), text).unwrap();
    let memory = |available: u32| write("meminfo", &format!("MemTotal: 1000 kB\nMemAvailable: {available} kB\n"));
    let start = Now { wall: Wall(1_750_000_000_000), mono: Mono(1_000_000), awake: Mono(1_000_000) };
    let (clock, hand) = Clock::by_hand(start);
    let mut source = source(proc.path(), NO_DISKS, Some("0b1e6c4a-92f0-4a57-9f3e-000000000000"), &clock);
    let policy =
        Policy { cooldown: Cooldowns::all(Duration::from_hours(1)), tick: TICK, warm_up: true, confirm_at_once: false };
    let mut watch = Watch::new(policy);
    let mut tick = |watch: &mut Watch| {
        let mut now = *hand.lock().unwrap();
        now = Now { wall: Wall(now.wall.0 + 15_000), mono: now.mono.plus(TICK), awake: now.awake.plus(TICK) };
        *hand.lock().unwrap() = now;
        let report =
            source.observe(&Ask { now, fresh_since: watch.fresh_since(), hurry_since: Mono(i64::MIN), once: false });
        let edges = watch
            .tick(now, vec![Answer { source: Arc::from("host"), at: now.mono, outcome: report, details: None }])
            .edges;
        edges.into_iter().map(|e| (e.kind, e.key.to_string(), e.fact)).collect::<Vec<_>>()
    };
    let edge = |kind, key: &str, fact: &str| vec![(kind, key.to_string(), fact.to_string())];

    memory(500);
    let first: Vec<_> = (0..3).flat_map(|_| tick(&mut watch)).collect();
    assert_eq!(first, edge(EdgeKind::Alert, "host/reboot", "the machine started again 3 d 4 h ago"));

    write("vmstat", "nr_free_pages 5\noom_kill 5\n");
    let killed = "5 processes killed for lack of memory since boot (rose from 2 to 5)";
    assert_eq!(tick(&mut watch), edge(EdgeKind::Alert, "host/oom", killed));
    assert_eq!(tick(&mut watch), []);

    memory(50);
    assert_eq!([tick(&mut watch), tick(&mut watch)], [[], []]);
    assert_eq!(
        tick(&mut watch),
        edge(EdgeKind::Alert, "host/memory", "95 % in use, 50 KiB of 1000 KiB available; alert above 90 %")
    );
    memory(120);
    assert_eq!([tick(&mut watch), tick(&mut watch), tick(&mut watch)], [[], [], []], "88 % is not yet well");
    memory(150);
    assert_eq!(tick(&mut watch), []);
    assert_eq!(
        tick(&mut watch),
        edge(EdgeKind::Recovery, "host/memory", "85 % in use, 150 KiB of 1000 KiB available; alert above 90 %")
    );
    assert!(watch.standings().all(|s| matches!(s.state, State::Ok)), "{:?}", watch.standings().collect::<Vec<_>>());
}

fn reading_of(report: &Report, key: &str) -> (Reading, String) {
    let seen = readings(report);
    let (reading, fact) = seen.get(key).unwrap_or_else(|| panic!("no {key}: {seen:?}"));
    (*reading, (*fact).to_string())
}

#[test]
fn the_zfs_cache_counts_as_available() {
    let proc = copy("plain");
    std::fs::write(proc.path().join("meminfo"), "MemTotal: 65780832 kB\nMemAvailable: 2903212 kB\n").unwrap();
    let arc = |size: &str, least: &str| {
        std::fs::create_dir_all(proc.path().join("spl/kstat/zfs")).unwrap();
        let text = format!("13 1 0x01 3 816 1 2\nname type data\nhits 4 1\nc_min 4 {least}\nsize 4 {size}\n");
        std::fs::write(proc.path().join("spl/kstat/zfs/arcstats"), text).unwrap();
    };
    let mut source = source(proc.path(), "", None, &Clock::system());
    let mut percent = || match reading_of(&look(&mut *source).unwrap(), "host/memory") {
        (Reading::Value(percent), fact) => (percent.round(), fact),
        other => panic!("{other:?}"),
    };
    assert_eq!(percent().0, 96.0);
    arc("40000000000", "2100000000");
    let (used, fact) = percent();
    assert_eq!(used, 39.0, "{fact}");
    assert!(fact.contains("ZFS"), "{fact}");
    // At its least, it gives nothing back; and what is larger than all memory belongs to another machine's.
    arc("2000000000", "2100000000");
    assert_eq!(percent().0, 96.0);
    arc("99999999999999", "0");
    assert_eq!(percent().0, 96.0);
    arc("nonsense", "0");
    let (used, fact) = percent();
    assert!(used == 96.0 && fact.contains("cannot be understood"), "{fact}");
}

#[test]
fn the_zfs_cache_of_the_machine_is_not_the_memory_of_a_container() {
    let proc = copy("plain");
    std::fs::create_dir_all(proc.path().join("spl/kstat/zfs")).unwrap();
    std::fs::write(proc.path().join("spl/kstat/zfs/arcstats"), "c_min 4 0\nsize 4 9000000000\n").unwrap();
    let line = format!("50 1 0:50 /proc/meminfo {}/meminfo rw - fuse.lxcfs lxcfs rw\n", proc.path().display());
    std::fs::create_dir_all(proc.path().join("self")).unwrap();
    std::fs::write(proc.path().join("self/mountinfo"), line).unwrap();
    let report = look(&mut *source(proc.path(), "", None, &Clock::system())).unwrap();
    assert_eq!(reading_of(&report, "host/memory").0, Reading::Value(75.0));
}

#[test]
fn what_every_kernel_offers_and_cannot_be_read_is_unknown_with_the_reason() {
    for (name, keys) in [
        ("meminfo", ["host/memory", "host/swap"].as_slice()),
        ("loadavg", &["host/load"]),
        ("stat", &["host/load"]),
        ("vmstat", &["host/oom"]),
        ("sys/fs/file-nr", &["host/files"]),
        ("sys/kernel/random/boot_id", &["host/reboot"]),
    ] {
        let proc = copy("plain");
        let file = proc.path().join(name);
        std::fs::remove_file(&file).unwrap();
        let unknown = |why: &str| {
            let report = look(&mut *source(proc.path(), EVERYTHING, None, &Clock::system())).unwrap();
            for key in keys {
                let (reading, fact) = reading_of(&report, key);
                assert_eq!(reading, Reading::Unknown, "{key} without {name}");
                let short = name.rsplit('/').next().unwrap();
                assert!(fact.contains(short) && fact.contains(why), "{key}: {fact}");
            }
        };
        unknown("does not exist");
        std::fs::write(&file, "x".repeat(4 * 1024 * 1024 + 1)).unwrap();
        unknown("larger than 4 MiB");
    }
}

#[test]
fn an_old_kernels_available_memory_is_estimated_as_the_kernel_says() {
    let proc = copy("plain");
    let write = |text: &str| std::fs::write(proc.path().join("meminfo"), text).unwrap();
    let mut source = source(proc.path(), "", None, &Clock::system());
    write("MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 50 kB\nCached: 250 kB\nSReclaimable: 40 kB\nShmem: 40 kB\n");
    let (reading, fact) = reading_of(&look(&mut *source).unwrap(), "host/memory");
    assert_eq!(reading, Reading::Value(60.0), "{fact}");
    assert!(fact.contains("estimated"), "{fact}");
    // Without the figures that an estimate takes there is none.
    write("MemTotal: 1000 kB\nMemFree: 100 kB\n");
    let (reading, fact) = reading_of(&look(&mut *source).unwrap(), "host/memory");
    assert!(reading == Reading::Unknown && fact.contains("MemAvailable"), "{fact}");
}

#[test]
fn what_was_there_before_a_restart_and_is_gone_is_unknown_until_the_machine_boots() {
    let proc = copy("plain");
    let config = Config::from_toml(&format!("[host]\nproc = \"{}\"\n{NO_DISKS}", proc.path().display())).unwrap();
    let outfit = |kept: Kept| Outfit {
        clock: Clock::system(),
        waker: Waker::new(),
        timeout: TICK,
        tick: TICK,
        previous_boot: None,
        seen_before: Arc::default(),
        kept,
    };
    let mut before = (host::ENTRY.build)(&config, &outfit(Kept::default())).unwrap().unwrap();
    let keep = |o: &Observation| Some((o.spec.key.clone(), Arc::from(o.more.as_ref()?.keep.as_deref()?)));
    let bodies: BTreeMap<SignalKey, Arc<str>> =
        look(&mut *before).unwrap().observations.iter().filter_map(keep).collect();
    std::fs::remove_dir_all(proc.path().join("pressure")).unwrap();
    for same_boot in [true, false] {
        let kept = Kept::new(bodies.clone(), Some(Mono(0)), same_boot);
        let mut after = (host::ENTRY.build)(&config, &outfit(kept)).unwrap().unwrap();
        let report = look(&mut *after).unwrap();
        let seen = readings(&report).get("host/pressure:io").map(|(reading, _)| *reading);
        assert_eq!(seen, same_boot.then_some(Reading::Unknown));
    }
}

#[test]
fn a_reboot_happened_when_the_machine_started() {
    let proc = copy("plain");
    let uptime = std::fs::read_to_string(proc.path().join("uptime")).unwrap();
    let up = Duration::from_secs_f64(uptime.split_whitespace().next().unwrap().parse().unwrap());
    let start = Now { wall: Wall(1_750_000_000_000), mono: Mono(1_000_000), awake: Mono(1_000_000) };
    for (previous, happened) in [("0b1e6c4a-92f0-4a57-9f3e-000000000000", Some(start.wall.minus(up))), ("", None)] {
        let mut source = source(proc.path(), NO_DISKS, Some(previous), &Clock::by_hand(start).0);
        let report = look(&mut *source).unwrap();
        let seen = report.observations.iter().find(|o| o.spec.key.as_str() == "host/reboot").unwrap();
        assert_eq!(seen.more.as_deref().and_then(|more| more.happened_at), happened, "{seen:?}");
    }
}
