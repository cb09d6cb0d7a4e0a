//! The machine: memory, load, pressure, open files, kills for lack of memory, reboots, disks.
//!
//! Reads a few files of /proc at every look and asks disks by statvfs in threads of their own, so a
//! hung mount costs no tick. What a kernel does not offer is left out; what was offered and no longer
//! is turns unknown, never zero. It measures and never judges: ceilings are in the specs.

mod disk;
mod proc;
mod settings;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::disk::{Asked, Disk, LIMIT, Statvfs, Usage};
use self::proc::{Gap, Seen};
use self::settings::Settings;
use super::{Ask, Entry, Outfit, Source};
use crate::client::shortage;
use crate::clock::Clock;
use crate::config::schema::Section;
use crate::config::{Config, ConfigError};
use crate::core::rule::{Rule, Test};
use crate::core::signal::{Observation, Reading, Report, Severity, SignalKey, Spec};
use crate::core::time::{Mono, people};

const SECTION: Section = Settings::section(settings::PATH);

/// The machine as a source.
pub const ENTRY: Entry = Entry { name: "host", advice: "", sections: &[SECTION], build };

/// A disk in good health answers at once; a look waits no longer than this for all of them.
const MOMENT: Duration = Duration::from_millis(250);
/// Percent below its ceiling at which a share counts as good again.
const MARGIN: f64 = 5.0;
/// Part of its ceiling at which load and pressure count as good again.
const EASED: f64 = 0.8;

fn build(config: &Config, outfit: &Outfit) -> Result<Option<Box<dyn Source>>, ConfigError> {
    let settings = settings::read(config)?;
    if !settings.enabled {
        return Ok(None);
    }
    Ok(Some(Box::new(Host::new(settings, outfit, Arc::new(disk::statvfs)))))
}

/// Where the machine's /sys is.
///
/// # Errors
/// Settings that cannot be used.
pub fn sys(config: &Config) -> Result<PathBuf, ConfigError> {
    Ok(settings::read(config)?.sys)
}

struct Host {
    clock: Clock,
    settings: Settings,
    memory: Option<Gauge>,
    swap: Option<Gauge>,
    load: Option<Gauge>,
    /// Each with its file and the line in it.
    pressure: Vec<(Gauge, &'static str, &'static str)>,
    files: Option<Gauge>,
    oom: Option<Gauge>,
    reboot: Option<Gauge>,
    /// The boot seen last, by this run or an earlier one.
    boot: Option<String>,
    statvfs: Statvfs,
    disks: Vec<Watched>,
}

/// One signal and whether it was ever measured.
struct Gauge {
    spec: Arc<Spec>,
    measured: bool,
}

impl Gauge {
    fn new(name: &str, title: &str, severity: Severity, rule: Rule) -> Gauge {
        let (key, title) = (SignalKey::new(&format!("host/{name}")), Arc::from(title));
        Gauge { spec: Arc::new(Spec::new(key, title, severity, rule)), measured: false }
    }

    /// A gauge with a ceiling; `None` when the ceiling is 0.
    fn above(name: &str, title: &str, severity: Severity, limit: f64, clear: f64) -> Option<Gauge> {
        let rule = Rule::counted(Test::Above { limit, clear: clear.max(0.0) });
        (limit > 0.0).then(|| Gauge::new(name, title, severity, rule))
    }

    /// The observation that follows from what was read; none for what this machine does not offer.
    fn observe(&mut self, seen: Seen<(Reading, String)>, seen_at: Mono) -> Option<Observation> {
        let (reading, fact) = match seen {
            Ok(measured) => {
                self.measured = true;
                measured
            }
            Err(Gap::Missing) if self.measured => (Reading::Unknown, "it is no longer available".to_string()),
            Err(Gap::Missing) => return None,
            Err(Gap::Broken(why)) => (Reading::Unknown, why),
        };
        Some(Observation::new(&self.spec, seen_at, reading, fact))
    }
}

/// One disk and its signals.
struct Watched {
    disk: Disk,
    space: Option<Gauge>,
    inodes: Option<Gauge>,
    /// It was seen writable.
    writable: bool,
    /// What was seen when it last answered.
    last: Vec<Observation>,
}

impl Host {
    fn new(settings: Settings, outfit: &Outfit, statvfs: Statvfs) -> Host {
        use Severity::{Critical, Warning};
        let share =
            |name: &str, title: &str, severity, limit: f64| Gauge::above(name, title, severity, limit, limit - MARGIN);
        let eased =
            |name: &str, title: &str, severity, limit: f64| Gauge::above(name, title, severity, limit, limit * EASED);
        let pressure = [
            (eased("pressure:memory", "waiting for memory", Critical, settings.pressure_memory_pct), "memory", "full"),
            (eased("pressure:io", "waiting for disks", Warning, settings.pressure_io_pct), "io", "full"),
            (eased("pressure:cpu", "waiting for CPUs", Warning, settings.pressure_cpu_pct), "cpu", "some"),
        ];
        let watched = |path: &String| Watched {
            disk: Disk::new(&settings.root, path),
            space: share(&format!("disk:{path}"), &format!("disk {path}"), Critical, settings.disk_pct),
            inodes: share(&format!("inodes:{path}"), &format!("inodes of {path}"), Critical, settings.inodes_pct),
            writable: false,
            last: Vec::new(),
        };
        let rises = Rule::at_once(Test::Increases { counter: true });
        Host {
            clock: outfit.clock.clone(),
            memory: share("memory", "memory in use", Critical, settings.memory_pct),
            swap: share("swap", "swap in use", Warning, settings.swap_pct),
            load: eased("load", "load per CPU", Warning, settings.load_per_cpu),
            pressure: pressure.into_iter().filter_map(|(g, file, line)| Some((g?, file, line))).collect(),
            files: share("files", "open files", Critical, settings.files_pct),
            oom: settings.oom.then(|| Gauge::new("oom", "killed for lack of memory", Critical, rises)),
            reboot: settings.reboot.then(|| Gauge::new("reboot", "reboot", Warning, Rule::at_once(Test::Event))),
            boot: outfit.previous_boot.clone().filter(|boot| !boot.is_empty()),
            statvfs,
            disks: if settings.watches_disks() {
                settings.disk_paths.iter().map(watched).collect()
            } else {
                Vec::new()
            },
            settings,
        }
    }
}

impl Source for Host {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn describe(&self) -> String {
        let gauges =
            [(&self.memory, "memory"), (&self.swap, "swap"), (&self.load, "load"), (&self.files, "open files")];
        let mut what: Vec<&str> = gauges.iter().filter(|(gauge, _)| gauge.is_some()).map(|(_, name)| *name).collect();
        if !self.pressure.is_empty() {
            what.push("pressure");
        }
        what.extend(["OOM kills", "reboots"]);
        what.extend(self.disks.first().map(|_| "disks"));
        format!("{} of {}", what.join(", "), self.settings.proc.display())
    }

    fn observe(&mut self, ask: &Ask) -> Result<Report, String> {
        for watched in &mut self.disks {
            watched.disk.ask(&self.statvfs);
        }
        let deadline = Instant::now() + if ask.once { LIMIT } else { MOMENT };
        let mut observations = self.read_proc()?;
        for watched in &mut self.disks {
            let asked = watched.disk.take(deadline);
            observations.extend(watched.observe(asked, self.clock.now().mono));
        }
        Ok(Report { observations, complete: true, ..Report::default() })
    }

    fn patience(&self) -> Duration {
        LIMIT + Duration::from_secs(1)
    }
}

impl Host {
    fn read_proc(&mut self) -> Result<Vec<Observation>, String> {
        let proc = self.settings.proc.as_path();
        let (meminfo, vmstat) = (proc::text(proc, "meminfo"), proc::text(proc, "vmstat"));
        let (loadavg, stat) = (proc::text(proc, "loadavg"), proc::text(proc, "stat"));
        if [&meminfo, &vmstat, &loadavg, &stat].into_iter().all(Result::is_err) {
            if let Some(shortage) = shortage::behind_lookup() {
                return Err(format!("nothing can be read below {}: {shortage}", proc.display()));
            }
            return Err(format!("nothing can be read below {}; set host.proc to the machine's /proc", proc.display()));
        }
        let now = self.clock.now().mono;
        let memory = meminfo.and_then(|text| proc::memory(&text));
        let mut seen = Vec::new();
        let mut take = |gauge: &mut Option<Gauge>, read: &dyn Fn() -> Seen<(Reading, String)>| {
            seen.extend(gauge.as_mut().and_then(|gauge| gauge.observe(read(), now)));
        };
        take(&mut self.memory, &|| memory_in_use(memory.as_ref().map_err(Clone::clone)?));
        take(&mut self.swap, &|| memory.as_ref().map(swap_in_use).map_err(Clone::clone));
        take(&mut self.load, &|| {
            let [_, five, _] = proc::load(loadavg.as_ref().map_err(Clone::clone)?)?;
            let cpus = proc::cpus(stat.as_ref().map_err(Clone::clone)?)?;
            let each = five / cpus as f64;
            Ok((Reading::Value(each), format!("5-minute load {five} on {cpus} CPUs ({each:.1} each)")))
        });
        take(&mut self.files, &|| {
            let (used, most) = proc::files(&proc::text(proc, "sys/fs/file-nr")?)?;
            let percent = used as f64 / most as f64 * 100.0;
            Ok((Reading::Value(percent), format!("{percent:.0} % of the machine's open files: {used} of {most}")))
        });
        take(&mut self.oom, &|| {
            let kills = proc::oom_kills(vmstat.as_ref().map_err(Clone::clone)?)?;
            Ok((Reading::Value(kills as f64), format!("{kills} processes killed for lack of memory since boot")))
        });
        for (gauge, file, line) in &mut self.pressure {
            let read = proc::text(proc, &format!("pressure/{file}")).and_then(|text| proc::pressure(&text, line));
            let who = if *line == "full" { "everything" } else { "something" };
            let told = read.map(|p| (Reading::Value(p), format!("{who} waited {p} % of the last minute")));
            seen.extend(gauge.observe(told, now));
        }
        if let Some(gauge) = &mut self.reboot {
            let boot = proc::text(proc, "sys/kernel/random/boot_id").and_then(|text| proc::boot(&text));
            let up = proc::text(proc, "uptime").and_then(|text| proc::uptime(&text)).ok();
            seen.extend(gauge.observe(boot.map(|boot| reboots(boot, &mut self.boot, up)), now));
        }
        Ok(seen)
    }
}

fn memory_in_use(memory: &proc::Memory) -> Seen<(Reading, String)> {
    let available = memory.available.ok_or(Gap::Missing)?.min(memory.total);
    let percent = (memory.total - available) as f64 / memory.total as f64 * 100.0;
    Ok((
        Reading::Value(percent),
        format!("{percent:.0} % in use, {} of {} available", kib(available), kib(memory.total)),
    ))
}

fn swap_in_use(memory: &proc::Memory) -> (Reading, String) {
    if memory.swap_total == 0 {
        // Swap that was switched off holds nothing back.
        return (Reading::Value(0.0), "no swap".to_string());
    }
    let free = memory.swap_free.min(memory.swap_total);
    let percent = (memory.swap_total - free) as f64 / memory.swap_total as f64 * 100.0;
    (Reading::Value(percent), format!("{percent:.0} % in use, {} of {} free", kib(free), kib(memory.swap_total)))
}

/// Tells of a boot that is not the one seen last, once.
fn reboots(boot: String, last: &mut Option<String>, up: Option<f64>) -> (Reading, String) {
    let up = up.map(|seconds| people(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)));
    let again = last.as_ref().is_some_and(|last| *last != boot);
    *last = Some(boot);
    match (again, up) {
        (true, Some(up)) => (Reading::Happened(1), format!("the machine started again {up} ago")),
        (true, None) => (Reading::Happened(1), "the machine started again".to_string()),
        (false, Some(up)) => (Reading::Happened(0), format!("up for {up}")),
        (false, None) => (Reading::Happened(0), "up".to_string()),
    }
}

impl Watched {
    fn observe(&mut self, asked: Asked, seen_at: Mono) -> Vec<Observation> {
        let unknown = |watched: &mut Watched, why: &str| {
            let gauges = [watched.space.as_mut(), watched.inodes.as_mut()].into_iter().flatten();
            // A disk that never had a number of inodes does not get the signal by hanging.
            let gauges = gauges.filter(|gauge| gauge.measured || !gauge.spec.key.as_str().contains("/inodes:"));
            gauges.filter_map(|gauge| gauge.observe(Err(Gap::Broken(why.to_string())), seen_at)).collect()
        };
        match asked {
            Asked::Usage(usage) => {
                self.last = self.measure(&usage, seen_at);
                self.last.clone()
            }
            Asked::Waiting if !self.last.is_empty() => self.last.clone(),
            Asked::Waiting => unknown(self, "statvfs has not answered yet"),
            Asked::Hangs => unknown(self, "statvfs hangs; the disk or its server does not answer"),
            Asked::Failed(why) => unknown(self, &format!("statvfs failed: {why}")),
        }
    }

    fn measure(&mut self, usage: &Usage, seen_at: Mono) -> Vec<Observation> {
        let mode = match (usage.read_only, self.writable) {
            (true, true) => "; remounted read-only, which often means disk errors",
            (true, false) => "; mounted read-only",
            (false, _) => "",
        };
        self.writable |= !usage.read_only;
        let space = usage.percent().ok_or(Gap::Missing).map(|percent| {
            (Reading::Value(percent), format!("{percent:.0} % used, {} left{mode}", bytes(usage.left())))
        });
        let inodes = usage.inodes_percent().ok_or(Gap::Missing).map(|percent| {
            let (left, all) = (usage.inodes_free, usage.inodes);
            (Reading::Value(percent), format!("{percent:.0} % used, {left} of {all} left"))
        });
        let pairs = [(self.space.as_mut(), space), (self.inodes.as_mut(), inodes)];
        pairs.into_iter().filter_map(|(gauge, seen)| gauge?.observe(seen, seen_at)).collect()
    }
}

fn kib(count: u64) -> String {
    bytes(count.saturating_mul(1024))
}

/// A size for people, in the unit in which it has one to four digits.
fn bytes(count: u64) -> String {
    let mut size = count as f64;
    let mut units = ["bytes", "KiB", "MiB", "GiB", "TiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for next in units {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = next;
    }
    if size < 10.0 && unit != "bytes" { format!("{size:.1} {unit}") } else { format!("{size:.0} {unit}") }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Condvar, Mutex};

    use super::*;
    use crate::core::time::Now;
    use crate::wake::Waker;

    const USAGE: Usage =
        Usage { block: 4096, blocks: 1000, free: 20, available: 20, inodes: 100, inodes_free: 1, read_only: false };

    fn host(toml: &str, call: Statvfs) -> Host {
        let config = Config::from_toml(toml).unwrap();
        let outfit = Outfit {
            clock: Clock::system(),
            waker: Waker::new(),
            timeout: Duration::from_secs(5),
            tick: Duration::from_secs(15),
            previous_boot: None,
            seen_before: Arc::default(),
            kept: crate::source::Kept::default(),
        };
        Host::new(settings::read(&config).unwrap(), &outfit, call)
    }

    fn look(host: &mut Host) -> Report {
        host.observe(&Ask { now: Now::default(), fresh_since: Mono(0), hurry_since: Mono(i64::MIN), once: false })
            .unwrap()
    }

    fn seen<'a>(report: &'a Report, key: &str) -> &'a Observation {
        report.observations.iter().find(|o| o.spec.key.as_str() == key).unwrap()
    }

    #[test]
    fn a_hung_disk_costs_no_look_and_is_not_asked_again() {
        let gate = Arc::new((Mutex::new(true), Condvar::new()));
        let calls = Arc::new(AtomicUsize::new(0));
        let (shut, counted) = (Arc::clone(&gate), Arc::clone(&calls));
        let call: Statvfs = Arc::new(move |path: &Path| {
            if path == Path::new("/dead") {
                counted.fetch_add(1, Ordering::SeqCst);
                let hung = shut.0.lock().unwrap();
                drop(shut.1.wait_while(hung, |hung| *hung).unwrap());
            }
            Ok(USAGE)
        });
        let mut host = host("[host]\ndisk_paths = [\"/dead\", \"/\"]\ndisk_pct = 97\ninodes_pct = 98", call);
        let began = Instant::now();
        let mut looks = 0_u32;
        let hangs = loop {
            let asked = Instant::now();
            let report = look(&mut host);
            looks += 1;
            assert!(asked.elapsed() < Duration::from_secs(1), "a look took {:?}", asked.elapsed());
            // The healthy disk behind the dead one is measured at every look.
            assert_eq!(seen(&report, "host/disk:/").reading, Reading::Value(98.0));
            assert_eq!(seen(&report, "host/inodes:/").reading, Reading::Value(99.0));
            let dead = seen(&report, "host/disk:/dead");
            assert_eq!(dead.reading, Reading::Unknown);
            if dead.fact.contains("hangs") {
                break began.elapsed();
            }
            assert!(dead.fact.contains("not answered yet"), "{}", dead.fact);
            assert!(began.elapsed() < LIMIT * 3, "never called hanging");
        };
        assert!(hangs >= LIMIT && looks > 3, "{hangs:?} in {looks} looks");
        let quick = Instant::now();
        for _ in 0..20 {
            look(&mut host);
        }
        assert!(quick.elapsed() < Duration::from_secs(1), "a disk known to hang is waited for");
        assert_eq!(calls.load(Ordering::SeqCst), 1);

        *gate.0.lock().unwrap() = false;
        gate.1.notify_all();
        let deadline = Instant::now() + LIMIT;
        while seen(&look(&mut host), "host/disk:/dead").reading == Reading::Unknown {
            assert!(Instant::now() < deadline, "never seen again");
        }
    }

    #[test]
    fn a_disk_that_turns_read_only_is_told_in_the_fact() {
        let read_only = Arc::new(AtomicUsize::new(0));
        let state = Arc::clone(&read_only);
        let call: Statvfs =
            Arc::new(move |_: &Path| Ok(Usage { read_only: state.load(Ordering::SeqCst) == 1, ..USAGE }));
        let mut host = host("[host]\ndisk_pct = 97", call);
        assert_eq!(seen(&look(&mut host), "host/disk:/").fact, "98 % used, 80 KiB left");
        read_only.store(1, Ordering::SeqCst);
        let fact = seen(&look(&mut host), "host/disk:/").fact.clone();
        assert!(fact.contains("remounted read-only"), "{fact}");
    }

    #[test]
    fn a_disk_that_cannot_be_asked_is_unknown() {
        let call: Statvfs = Arc::new(|_: &Path| Err(std::io::ErrorKind::PermissionDenied.into()));
        let report = look(&mut host("[host]\ndisk_pct = 97", call));
        let disk = seen(&report, "host/disk:/");
        assert_eq!((disk.reading, disk.fact.as_ref()), (Reading::Unknown, "statvfs failed: permission denied"));
    }

    #[test]
    fn disks_are_left_alone_unless_asked_for() {
        let call: Statvfs = Arc::new(|_: &Path| panic!("asked"));
        let report = look(&mut host("", call));
        assert!(report.observations.iter().all(|o| !o.spec.key.as_str().starts_with("host/disk")));
        assert!(report.complete);
    }

    #[test]
    fn sizes_are_short() {
        for (count, text) in
            [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (20 << 30, "20 GiB"), (u64::MAX, "16777216 TiB")]
        {
            assert_eq!(bytes(count), text);
        }
    }
}
