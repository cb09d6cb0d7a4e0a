//! The machine: memory, load, pressure, open files, kills for lack of memory, reboots, file systems.
//!
//! Reads a few files of /proc at every look and asks disks by statvfs in threads of their own, so a
//! hung mount costs no tick. What only some kernels offer is left out where it is missing; what every
//! kernel offers and cannot be read is unknown with its reason, and so is what was there and is not.
//! It measures and never judges: ceilings are in the specs.

mod advice;
mod disk;
mod disks;
mod gauge;
mod memory;
mod mounts;
mod proc;
mod settings;
mod watched;
mod words;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::advice::Saying;
use self::disk::LIMIT;
use self::disks::Disks;
use self::gauge::{Gauge, MARGIN};
use self::proc::{Gap, Seen};
use self::settings::Settings;
use super::{Ask, Entry, Outfit, Source};
use crate::client::shortage;
use crate::clock::Clock;
use crate::config::schema::Section;
use crate::config::{Config, ConfigError};
use crate::core::about::Details;
use crate::core::rule::{Rule, Test};
use crate::core::signal::{Observation, Reading, Report, Severity};
use crate::core::time::{Mono, people};

pub use self::disk::{Statvfs, Usage};

const SECTION: Section = Settings::section(settings::PATH);

/// The machine as a source.
pub const ENTRY: Entry = Entry { name: "host", advice: "", sections: &[SECTION], build };

/// A disk in good health answers at once; a look waits no longer than this for all of them.
const MOMENT: Duration = Duration::from_millis(250);
/// Part of its ceiling at which load and pressure count as good again.
const EASED: f64 = 0.8;

fn build(config: &Config, outfit: &Outfit) -> Result<Option<Box<dyn Source>>, ConfigError> {
    let settings = settings::read(config)?;
    if !settings.enabled {
        return Ok(None);
    }
    Ok(Some(Box::new(Host::new(settings, outfit, Arc::new(disk::statvfs)))))
}

/// The source over `config`, with this call to say how full a disk is: for those who have no full disk at hand.
///
/// # Errors
/// Settings that cannot be used.
pub fn over(config: &Config, outfit: &Outfit, call: Statvfs) -> Result<Box<dyn Source>, ConfigError> {
    Ok(Box::new(Host::new(settings::read(config)?, outfit, call)))
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
    disks: Disks,
}

impl Host {
    fn new(settings: Settings, outfit: &Outfit, statvfs: Statvfs) -> Host {
        use Severity::{Critical, Warning};
        let share = |name: &str, title: &str, severity, limit: f64, saying: &Saying| {
            let gauge = Gauge::above(name, title, severity, limit, limit - MARGIN);
            gauge.map(|gauge| gauge.saying(saying).knowing(&outfit.kept))
        };
        let eased = |name: &str, title: &str, severity, limit: f64, saying: &Saying| {
            let gauge = Gauge::above(name, title, severity, limit, limit * EASED);
            gauge.map(|gauge| gauge.saying(saying).knowing(&outfit.kept))
        };
        let (memory, io, cpu) = (settings.pressure_memory_pct, settings.pressure_io_pct, settings.pressure_cpu_pct);
        let pressure = [
            (
                eased("pressure:memory", "waiting for memory", Critical, memory, &advice::MEMORY_STALLS),
                "memory",
                "full",
            ),
            (eased("pressure:io", "waiting for disks", Warning, io, &advice::IO_STALLS), "io", "full"),
            (eased("pressure:cpu", "waiting for CPUs", Warning, cpu, &advice::CPU_STALLS), "cpu", "some"),
        ];
        let rises = Rule::at_once(Test::Increases { counter: true });
        let event =
            |name: &str, title: &str, severity, rule, saying| Gauge::new(name, title, severity, rule).saying(saying);
        Host {
            clock: outfit.clock.clone(),
            memory: share("memory", "memory in use", Critical, settings.memory_pct, &advice::MEMORY),
            swap: share("swap", "swap in use", Warning, settings.swap_pct, &advice::SWAP),
            load: eased("load", "load per CPU", Warning, settings.load_per_cpu, &advice::LOAD)
                .map(|gauge| gauge.counted_in(" for each CPU")),
            pressure: pressure.into_iter().filter_map(|(g, file, line)| Some((g?, file, line))).collect(),
            files: share("files", "open files", Critical, settings.files_pct, &advice::FILES),
            oom: settings.oom.then(|| {
                event("oom", "killed for lack of memory", Critical, rises, &advice::OOM).knowing(&outfit.kept)
            }),
            reboot: settings
                .reboot
                .then(|| event("reboot", "reboot", Warning, Rule::at_once(Test::Event), &advice::REBOOT)),
            boot: outfit.previous_boot.clone().filter(|boot| !boot.is_empty()),
            disks: Disks::new(&settings, statvfs, &outfit.kept),
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
        // Not every kernel offers these.
        if !self.pressure.is_empty() && self.settings.proc.join("pressure").exists() {
            what.push("pressure");
        }
        let kills = proc::text(&self.settings.proc, "vmstat").is_ok_and(|text| proc::oom_kills(&text).is_ok());
        what.extend((self.oom.is_some() && kills).then_some("OOM kills"));
        what.extend(self.reboot.as_ref().map(|_| "reboots"));
        what.extend(self.settings.watches_disks().then_some("file systems"));
        format!("{} of {}", what.join(", "), self.settings.proc.display())
    }

    fn observe(&mut self, ask: &Ask) -> Result<Report, String> {
        self.disks.ask(&self.settings, ask.once);
        let deadline = Instant::now() + if ask.once { LIMIT } else { MOMENT };
        let mut observations = self.read_proc()?;
        observations.extend(self.disks.take(&self.settings, deadline, &self.clock));
        Ok(Report { observations, complete: true, ..Report::default() })
    }

    fn patience(&self) -> Duration {
        LIMIT + Duration::from_secs(1)
    }

    fn advice(&self, _why: &str) -> Details {
        advice::blind()
    }
}

impl Host {
    fn read_proc(&mut self) -> Result<Vec<Observation>, String> {
        let proc = self.settings.proc.as_path();
        let (meminfo, vmstat) = (proc::promised(proc, "meminfo"), proc::promised(proc, "vmstat"));
        let (loadavg, stat) = (proc::promised(proc, "loadavg"), proc::promised(proc, "stat"));
        if [&meminfo, &vmstat, &loadavg, &stat].into_iter().all(Result::is_err) {
            if let Some(shortage) = shortage::behind_lookup() {
                return Err(format!("nothing can be read below {}: {shortage}", proc.display()));
            }
            return Err(format!("nothing can be read below {}; set host.proc to the machine's /proc", proc.display()));
        }
        let now = self.clock.now().mono;
        // A container's memory by lxcfs; the cache of ZFS is the machine's.
        let made_up = self.disks.has_made_up_memory(&self.settings);
        let memory = meminfo.and_then(|text| proc::memory(&text));
        let mut seen = Vec::new();
        let mut take = |gauge: &mut Option<Gauge>, read: &dyn Fn() -> Seen<(Reading, String)>| {
            seen.extend(gauge.as_mut().and_then(|gauge| gauge.observe(read(), now)));
        };
        take(&mut self.memory, &|| {
            let memory = memory.as_ref().map_err(Clone::clone)?;
            let arc = if made_up { Err(Gap::Missing) } else { proc::text(proc, "spl/kstat/zfs/arcstats") };
            memory::in_use(memory, &arc.and_then(|text| proc::arc(&text, memory.total)))
        });
        take(&mut self.swap, &|| memory.as_ref().map(memory::swap_in_use).map_err(Clone::clone));
        take(&mut self.load, &|| {
            let [_, five, _] = proc::load(loadavg.as_ref().map_err(Clone::clone)?)?;
            let cpus = proc::cpus(stat.as_ref().map_err(Clone::clone)?)?;
            let each = five / cpus as f64;
            Ok((Reading::Value(each), format!("5-minute load {five} on {cpus} CPUs ({each:.1} each)")))
        });
        take(&mut self.files, &|| {
            let (used, most) = proc::files(&proc::promised(proc, "sys/fs/file-nr")?)?;
            let percent = used as f64 / most as f64 * 100.0;
            Ok((Reading::Value(percent), format!("{percent:.0} % of the machine's open files: {used} of {most}")))
        });
        take(&mut self.oom, &|| {
            let kills = proc::oom_kills(vmstat.as_ref().map_err(Clone::clone)?)?;
            Ok((Reading::Value(kills as f64), format!("{kills} processes killed for lack of memory since boot")))
        });
        seen.extend(self.read_pressure(now));
        let proc = self.settings.proc.as_path();
        if let Some(gauge) = &mut self.reboot {
            let boot = proc::promised(proc, "sys/kernel/random/boot_id").and_then(|text| proc::boot(&text));
            let up = proc::text(proc, "uptime").and_then(|text| proc::uptime(&text)).ok();
            let told = gauge.observe(boot.map(|boot| reboots(boot, &mut self.boot, up)), now);
            let booted_at =
                up.and_then(|up| Duration::try_from_secs_f64(up).ok()).map(|up| self.clock.now().wall.minus(up));
            seen.extend(told.map(|told| match told.reading {
                Reading::Happened(1..) => told.since(booted_at),
                _ => told,
            }));
        }
        // The largest processes are looked for only while memory is short.
        if let Some(gauge) = &self.memory
            && let Some(full) = seen.iter_mut().find(|seen| seen.spec.key == *gauge.key())
            && gauge.is_bad(full.reading)
        {
            full.details = Some(Arc::new(advice::MEMORY.with(&proc::largest(proc))));
        }
        Ok(seen)
    }

    /// How long everything, or something, had to wait.
    fn read_pressure(&mut self, now: Mono) -> Vec<Observation> {
        let proc = self.settings.proc.as_path();
        let mut seen = Vec::new();
        for (gauge, file, line) in &mut self.pressure {
            let read = proc::text(proc, &format!("pressure/{file}")).and_then(|text| proc::pressure(&text, line));
            let who = if *line == "full" { "everything" } else { "something" };
            let what = match *file {
                "io" => "disks",
                "cpu" => "a CPU",
                other => other,
            };
            let told = read.map(|p| (Reading::Value(p), format!("{who} waited for {what} {p} % of the last minute")));
            let short_of_memory = *file == "memory" && told.as_ref().is_ok_and(|(reading, _)| gauge.is_bad(*reading));
            let details = short_of_memory.then(|| advice::MEMORY_STALLS.with(&proc::largest(proc)));
            seen.extend(gauge.observe(told, now).map(|seen| seen.with_some(details)));
        }
        seen
    }
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Condvar, Mutex};

    use super::*;
    use crate::core::time::{Mono, Now};
    use crate::wake::Waker;

    const USAGE: Usage = Usage {
        block: 4096,
        blocks: 1000,
        free: 20,
        available: 20,
        inodes: 100,
        inodes_free: 1,
        read_only: false,
        mount: None,
        fsid: 0,
    };

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
        let mut host = host("[host]\ndisk_paths = [\"/dead\", \"/\"]\ninodes_pct = 98", call);
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
            if dead.fact.contains("does not answer") {
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
    fn a_disk_that_turns_read_only_fires() {
        let read_only = Arc::new(AtomicUsize::new(0));
        let state = Arc::clone(&read_only);
        let call: Statvfs =
            Arc::new(move |_: &Path| Ok(Usage { read_only: state.load(Ordering::SeqCst) == 1, ..USAGE }));
        let mut host = host("[host]\ndisk_paths = [\"/\"]", call);
        let report = look(&mut host);
        let disk = seen(&report, "host/disk:/");
        assert_eq!(disk.fact, "98 % used (warning at 90 %, critical at 97 %), 80 KiB free");
        assert_eq!(disk.spec.severity, Severity::Critical);
        assert_eq!(seen(&report, "host/readonly:/").reading, Reading::Up);
        read_only.store(1, Ordering::SeqCst);
        let report = look(&mut host);
        let readonly = seen(&report, "host/readonly:/");
        assert_eq!((readonly.reading, readonly.spec.severity), (Reading::Down, Severity::Critical));
        assert!(readonly.fact.contains("turned read-only"), "{}", readonly.fact);
    }

    #[test]
    fn a_disk_that_cannot_be_asked_is_unknown() {
        let call: Statvfs = Arc::new(|_: &Path| Err(std::io::ErrorKind::PermissionDenied.into()));
        let report = look(&mut host("[host]\ndisk_paths = [\"/\"]", call));
        for key in ["host/disk:/", "host/readonly:/"] {
            let disk = seen(&report, key);
            assert_eq!(
                (disk.reading, disk.fact.as_ref()),
                (Reading::Unknown, "it cannot be checked: permission denied")
            );
        }
    }

    #[test]
    fn disks_that_are_switched_off_are_left_alone() {
        let call: Statvfs = Arc::new(|_: &Path| panic!("asked"));
        let report = look(&mut host("[host]\ndisk_pct = 0\nreadonly = false", call));
        let is_disk = |o: &Observation| o.spec.key.as_str().contains(':') && !o.spec.key.as_str().contains("pressure");
        assert!(!report.observations.iter().any(is_disk));
        assert!(report.complete);
    }
}
