//! The file systems that are watched: those named in the settings, or every real local one of the machine.
//!
//! What is found is looked for again at every look. One that is gone for two looks is told once and no longer
//! watched, for a disk that is taken out is ordinary work; one that was named must be there. What cannot be
//! seen from a container is said as a fact, never as an alarm.

use std::collections::BTreeMap;
use std::time::Instant;

use super::advice;
use super::disk::Statvfs;
use super::gauge::Gauge;
use super::mounts::{self, Mount};
use super::proc::{self, Gap, Seen};
use super::settings::Settings;
use super::watched::{HOMES, Place, Tables, Watched};
use crate::clock::Clock;
use crate::core::rule::{Rule, Test};
use crate::core::signal::{Observation, Reading, Severity};
use crate::source::Kept;

/// File systems that are watched without being named.
pub const MOST: usize = 64;
/// Looks in a row in which a file system must be missing before it counts as gone: the table may be read in the
/// middle of a change.
const GONE: u32 = 2;
/// Names that are spelled out in a fact.
const SPELLED: usize = 8;

/// The mount tables of the machine and of our own.
struct Read {
    host: Seen<Vec<Mount>>,
    own: Seen<Vec<Mount>>,
}

/// All file systems that are watched.
pub struct Disks {
    statvfs: Statvfs,
    watched: Vec<Watched>,
    /// Tells of what came and went; none when no disk is watched at all.
    mounts: Option<Gauge>,
    /// Found, but not asked, by name: not mounted here.
    elsewhere: Vec<String>,
    /// Found, but more than are watched.
    beyond: usize,
    /// What is to be told at the end of this look.
    events: Vec<String>,
    read: Read,
}

impl Disks {
    /// The file systems that the settings name, and those that were found before, by what was kept of them.
    pub fn new(settings: &Settings, statvfs: Statvfs, kept: &Kept) -> Disks {
        let watches = settings.watches_disks();
        let named = settings.disk_paths.iter().filter(|_| watches);
        let mut watched: Vec<Watched> = named
            .map(|path| Watched::new(settings, path, settings.root.join(path.trim_start_matches('/')), true))
            .collect();
        let (known, same_boot) = (known(kept), kept.is_of_this_boot());
        for (name, place) in known {
            if let Some(named) = watched.iter_mut().find(|watched| watched.name == name) {
                named.remember(place, same_boot);
            } else if watches && settings.disk_paths.is_empty() && !place.named && watched.len() < MOST {
                let mut found = Watched::new(settings, &name, settings.root.clone(), false);
                found.remember(place, same_boot);
                watched.push(found);
            }
        }
        let event = Rule::at_once(Test::Event);
        let mounts =
            watches.then(|| Gauge::new("mounts", "file systems", Severity::Info, event).saying(&advice::MOUNTS));
        let read = Read { host: Err(Gap::Missing), own: Err(Gap::Missing) };
        Disks { statvfs, watched, mounts, elsewhere: Vec::new(), beyond: 0, events: Vec::new(), read }
    }

    /// True when /proc/meminfo is made by lxcfs, for a container with a memory of its own.
    pub fn has_made_up_memory(&self, settings: &Settings) -> bool {
        let meminfo = settings.proc.join("meminfo");
        let own = self.read.own.as_deref().unwrap_or_default();
        own.iter().any(|mount| mount.kind == "fuse.lxcfs" && meminfo.starts_with(&mount.point))
    }

    /// Reads the mount tables, finds what there is to watch and sends the questions out.
    pub fn ask(&mut self, settings: &Settings, once: bool) {
        self.read = Read::now(settings);
        if self.mounts.is_none() {
            return;
        }
        if settings.disk_paths.is_empty() {
            self.find(settings, once);
        }
        for watched in self.watched.iter_mut().filter(|watched| watched.missed == 0) {
            watched.ask(&self.statvfs);
        }
    }

    fn find(&mut self, settings: &Settings, once: bool) {
        let Ok(host) = self.read.host.as_ref().or(self.read.own.as_ref()) else { return };
        let own = self.read.own.as_deref().unwrap_or(host);
        let mut found = mounts::found(host, own, &settings.root, &settings.disk_exclude);
        self.elsewhere = found.iter().filter(|found| found.place.is_none()).map(|found| found.name.clone()).collect();
        found.retain(|found| found.place.is_some());
        self.beyond = found.len().saturating_sub(MOST);
        found.truncate(MOST);
        for watched in &mut self.watched {
            watched.missed = watched.missed.saturating_add(1);
        }
        for found in found {
            let Some(place) = found.place else { continue };
            let device = &found.mount.device;
            if let Some(known) = self.watched.iter_mut().find(|watched| watched.name == found.name) {
                known.found_at(place, device);
            } else {
                let mut new = Watched::new(settings, &found.name, place.clone(), false);
                new.found_at(place, device);
                self.watched.push(new);
            }
        }
        let enough = if once { 1 } else { GONE };
        for watched in self.watched.extract_if(.., |watched| watched.missed >= enough) {
            // What is mounted on demand goes when nobody needs it.
            let on_demand = host.iter().any(|mount| mount.kind == "autofs" && mount.point == watched.name);
            let excluded = settings.disk_exclude.contains(&watched.name);
            if !on_demand
                && !excluded
                && let Some(place) = &watched.place
            {
                let words = place.words();
                let words = format!("{} ({words}) is not mounted any more and no longer watched", watched.name);
                self.events.push(words);
            }
        }
        self.watched.sort_by(|a, b| a.name.cmp(&b.name));
    }

    /// What follows from the answers, for which this waits until `deadline` at most.
    pub fn take(&mut self, settings: &Settings, deadline: Instant, clock: &Clock) -> Vec<Observation> {
        let Some(gauge) = &mut self.mounts else { return Vec::new() };
        let (asked, missing): (Vec<_>, Vec<_>) = self.watched.iter_mut().partition(|watched| watched.missed == 0);
        let answers: Vec<_> = asked
            .into_iter()
            .map(|watched| {
                let answer = watched.take(deadline);
                (watched, answer)
            })
            .collect();
        // The answers speak of the table as it is now.
        self.read = Read::now(settings);
        let (host, own) = (&self.read.host, &self.read.own);
        let own = own.as_deref().unwrap_or_default();
        let tables = Tables { host: host.as_deref().unwrap_or_default(), own };
        let mut observations = Vec::new();
        let now = |clock: &Clock| clock.now().mono;
        for (watched, answer) in answers {
            observations.extend(watched.observe(answer, &tables, now(clock)));
            self.events.extend(watched.swapped.take());
        }
        for watched in missing {
            observations.extend(watched.missing(now(clock)));
        }
        let seen = match (&self.read.own, settings.disk_paths.is_empty()) {
            (Err(gap), true) => Err(match gap {
                Gap::Missing => {
                    Gap::Broken(format!("{} does not exist", settings.proc.join("self/mountinfo").display()))
                }
                Gap::Broken(why) => Gap::Broken(why.clone()),
            }),
            _ => Ok(tell(&mut self.events, &self.watched, &self.elsewhere, self.beyond)),
        };
        observations.extend(gauge.observe(seen, now(clock)));
        observations
    }
}

/// What was mounted when somebody looked last, by name.
fn known(kept: &Kept) -> BTreeMap<String, Place> {
    let mut known = BTreeMap::new();
    for home in HOMES {
        for (key, place) in kept.under::<Place>(home) {
            let name = key.as_str().strip_prefix(home).unwrap_or_default();
            known.entry(name.to_string()).or_insert(place);
        }
    }
    known
}

impl Read {
    /// The machine's table is that of process 1; through a machine's /proc, `self` is still ours.
    fn now(settings: &Settings) -> Read {
        let read = |name: &str| {
            let text = proc::text(&settings.proc, name)?;
            mounts::table(&text).ok_or_else(|| Gap::Broken(format!("{name} cannot be understood")))
        };
        Read { host: read("1/mountinfo"), own: read("self/mountinfo") }
    }
}

/// What came and went, or how things stand.
fn tell(events: &mut Vec<String>, watched: &[Watched], elsewhere: &[String], beyond: usize) -> (Reading, String) {
    let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
    if count > 0 {
        let (some, more) = events.split_at(events.len().min(SPELLED));
        let more = if more.is_empty() { String::new() } else { format!("; and {} more", more.len()) };
        let fact = some.join("; ") + &more;
        events.clear();
        return (Reading::Happened(count), fact);
    }
    let by =
        |which: &dyn Fn(&&Watched) -> bool| watched.iter().filter(which).map(|w| w.name.clone()).collect::<Vec<_>>();
    let judged = by(&|watched| !watched.hidden && !watched.image);
    let (images, hidden) = (by(&|watched| watched.image), by(&|watched| watched.hidden));
    let mut fact =
        if judged.is_empty() { "none can be checked".to_string() } else { format!("checked: {}", list(&judged)) };
    let more = [
        ("read-only, so not judged", images),
        ("not readable for this user", hidden),
        ("not visible from here (mount the machine's / read-only and set host.root)", elsewhere.to_vec()),
    ];
    for (why, names) in more.into_iter().filter(|(_, names)| !names.is_empty()) {
        fact = format!("{fact}; {why}: {}", list(&names));
    }
    if beyond > 0 {
        fact = format!(
            "{fact}; {beyond} more are not checked, {MOST} is the limit; name those that matter in host.disk_paths"
        );
    }
    (Reading::Happened(0), fact)
}

fn list(names: &[String]) -> String {
    let (some, more) = names.split_at(names.len().min(SPELLED));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    some.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;
    use crate::config::Config;
    use crate::core::signal::SignalKey;
    use crate::core::time::Mono;
    use crate::source::host::disk::Usage;
    use crate::source::host::settings;

    /// A machine with mount tables of its own and disks that answer as they are told.
    struct Machine {
        proc: tempfile::TempDir,
        settings: Settings,
        disks: Disks,
        answers: Arc<Mutex<BTreeMap<String, std::io::Result<Usage>>>>,
        kept: BTreeMap<String, String>,
    }

    /// A disk that is so many percent full, by the mount with this number.
    fn full(percent: u64, mount: u64) -> Usage {
        Usage {
            block: 4096,
            blocks: 100,
            free: 100 - percent,
            available: 100 - percent,
            inodes: 0,
            inodes_free: 0,
            read_only: false,
            mount: Some(mount),
            fsid: 0,
        }
    }

    impl Machine {
        fn new(toml: &str) -> Machine {
            let proc = tempfile::tempdir().unwrap();
            for name in ["1", "self"] {
                std::fs::create_dir(proc.path().join(name)).unwrap();
            }
            let toml = format!("[host]\nproc = \"{}\"\n{toml}", proc.path().display());
            let settings = settings::read(&Config::from_toml(&toml).unwrap()).unwrap();
            let answers: Arc<Mutex<BTreeMap<String, std::io::Result<Usage>>>> = Arc::default();
            let asked = Arc::clone(&answers);
            let call: Statvfs =
                Arc::new(move |path: &Path| match asked.lock().unwrap().get(&path.display().to_string()) {
                    Some(Ok(usage)) => Ok(*usage),
                    Some(Err(error)) => Err(error.kind().into()),
                    None => Err(std::io::ErrorKind::NotFound.into()),
                });
            let disks = Disks::new(&settings, call, &Kept::default());
            Machine { proc, settings, disks, answers, kept: BTreeMap::new() }
        }

        fn tables(&self, host: &str, own: &str) {
            std::fs::write(self.proc.path().join("1/mountinfo"), host).unwrap();
            std::fs::write(self.proc.path().join("self/mountinfo"), own).unwrap();
        }

        /// The program starts again with what was kept; `same_boot`: on the same boot of the machine.
        fn restart(&mut self, same_boot: bool) {
            let bodies = self.kept.iter().map(|(key, body)| (SignalKey::new(key), Arc::from(body.as_str()))).collect();
            let kept = Kept::new(bodies, Some(Mono(0)), same_boot);
            self.disks = Disks::new(&self.settings, Arc::clone(&self.disks.statvfs), &kept);
        }

        fn answers(&self, path: &str, answer: std::io::Result<Usage>) {
            self.answers.lock().unwrap().insert(path.to_string(), answer);
        }

        fn look(&mut self) -> BTreeMap<String, (Reading, String)> {
            let clock = Clock::system();
            self.disks.ask(&self.settings, false);
            let observations = self.disks.take(&self.settings, Instant::now() + Duration::from_secs(5), &clock);
            for seen in &observations {
                let keep = seen.more.as_ref().and_then(|more| more.keep.clone());
                self.kept.extend(keep.map(|keep| (seen.spec.key.to_string(), keep)));
            }
            observations.iter().map(|o| (o.spec.key.to_string(), (o.reading, o.fact.to_string()))).collect()
        }
    }

    const ROOT: &str = "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n";
    const DATA: &str = "21 20 8:17 / /data rw - xfs /dev/sdb1 rw\n";

    fn both(one: &str, two: &str) -> String {
        format!("{one}{two}")
    }

    #[test]
    fn every_real_file_system_is_checked_and_one_that_goes_is_told_once() {
        let mut machine = Machine::new("");
        machine.tables(&both(ROOT, DATA), &both(ROOT, DATA));
        machine.answers("/", Ok(full(50, 20)));
        machine.answers("/data", Ok(full(95, 21)));
        let seen = machine.look();
        assert_eq!(seen["host/disk:/data"].0, Reading::Value(95.0));
        assert_eq!(seen["host/mounts"], (Reading::Happened(0), "checked: /, /data".to_string()));
        assert_eq!(seen.len(), 5, "{seen:?}");
        // Unmounted: what lies beneath answers now.
        machine.tables(ROOT, ROOT);
        machine.answers("/data", Ok(full(50, 20)));
        let seen = machine.look();
        assert_eq!(seen["host/disk:/data"].0, Reading::Unknown, "{seen:?}");
        assert!(seen["host/disk:/data"].1.contains("nothing is mounted at /data any more"), "{seen:?}");
        let seen = machine.look();
        assert!(!seen.contains_key("host/disk:/data"));
        let gone = "/data (xfs on /dev/sdb1) is not mounted any more and no longer watched";
        assert_eq!(seen["host/mounts"], (Reading::Happened(1), gone.to_string()));
        assert_eq!(machine.look()["host/mounts"].0, Reading::Happened(0));
    }

    #[test]
    fn a_disk_that_is_unmounted_between_table_and_answer_is_not_judged_by_what_lies_beneath() {
        let mut machine = Machine::new("");
        machine.tables(&both(ROOT, DATA), &both(ROOT, DATA));
        machine.answers("/", Ok(full(50, 20)));
        machine.answers("/data", Ok(full(50, 20)));
        assert_eq!(machine.look()["host/disk:/data"].0, Reading::Unknown);
        machine.answers("/data", Ok(full(50, 99)));
        assert_eq!(machine.look()["host/disk:/data"].0, Reading::Unknown);
    }

    #[test]
    fn another_disk_at_the_same_place_is_told_once_and_judged() {
        for settings in ["", "disk_paths = [\"/data\"]"] {
            let mut machine = Machine::new(settings);
            machine.tables(&both(ROOT, DATA), &both(ROOT, DATA));
            machine.answers("/", Ok(full(50, 20)));
            machine.answers("/data", Ok(full(95, 21)));
            machine.look();
            let other = "30 20 8:33 / /data rw - ext4 /dev/sdc1 rw\n";
            machine.tables(&both(ROOT, other), &both(ROOT, other));
            machine.answers("/data", Ok(full(10, 30)));
            let seen = machine.look();
            let (reading, fact) = &seen["host/mounts"];
            assert_eq!(*reading, Reading::Happened(1), "{seen:?}");
            assert!(fact.contains("ext4 on /dev/sdc1, before it was xfs on /dev/sdb1"), "{fact}");
            assert_eq!(seen["host/disk:/data"].0, Reading::Value(10.0));
            assert_eq!(machine.look()["host/mounts"].0, Reading::Happened(0));
        }
    }

    #[test]
    fn a_named_disk_must_stay_mounted_also_for_paths_within_it() {
        for path in ["/data", "/data/deep/down"] {
            let mut machine = Machine::new(&format!("disk_paths = [\"{path}\"]"));
            let (disk, mount) = (format!("host/disk:{path}"), format!("host/mount:{path}"));
            machine.tables(&both(ROOT, DATA), &both(ROOT, DATA));
            machine.answers(path, Ok(full(95, 21)));
            let seen = machine.look();
            assert_eq!(seen[&mount], (Reading::Up, "xfs on /dev/sdb1, mounted at /data".to_string()));
            machine.tables(ROOT, ROOT);
            // The directory may be there beneath, or not.
            for answer in [Ok(full(10, 20)), Err(std::io::ErrorKind::NotFound.into())] {
                machine.answers(path, answer);
                let seen = machine.look();
                let gone = "nothing is mounted at /data any more; it was xfs on /dev/sdb1".to_string();
                assert_eq!(seen[&mount], (Reading::Down, gone.clone()), "{path}");
                assert_eq!(seen[&disk], (Reading::Unknown, gone), "{path}");
            }
            machine.tables(&both(ROOT, DATA), &both(ROOT, DATA));
            machine.answers(path, Ok(full(95, 21)));
            let seen = machine.look();
            assert_eq!((seen[&mount].0, seen[&disk].0), (Reading::Up, Reading::Value(95.0)));
            assert_eq!(seen["host/mounts"].0, Reading::Happened(0));
        }
    }

    #[test]
    fn a_path_that_cannot_be_found_for_another_reason_is_unknown() {
        let mut machine = Machine::new("disk_paths = [\"/data\"]");
        machine.tables(&both(ROOT, DATA), &both(ROOT, DATA));
        machine.answers("/data", Ok(full(95, 21)));
        machine.look();
        machine.answers("/data", Err(std::io::ErrorKind::NotFound.into()));
        let seen = machine.look();
        assert_eq!(seen["host/mount:/data"].0, Reading::Unknown, "{seen:?}");
        assert_eq!(seen["host/disk:/data"].0, Reading::Unknown);
    }

    #[test]
    fn what_was_read_only_from_the_start_is_no_fault_and_what_turns_read_only_is() {
        let mut machine = Machine::new("");
        // A container's read-only view of a writable disk, and an image on a disk of its own.
        let own = "40 1 0:99 / / rw - overlay overlay rw\n41 40 8:17 /db /srv ro - xfs /dev/sdb1 rw\n\
                   42 40 8:49 / /usr ro - ext4 /dev/sdd ro\n";
        let image = "22 20 8:49 / /usr ro - ext4 /dev/sdd ro\n";
        machine.tables(&(both(ROOT, DATA) + image), own);
        machine.answers("/srv", Ok(Usage { read_only: true, ..full(50, 41) }));
        machine.answers("/usr", Ok(Usage { read_only: true, ..full(100, 42) }));
        let seen = machine.look();
        assert_eq!(seen["host/readonly:/data"].0, Reading::Up, "{seen:?}");
        assert_eq!(seen["host/readonly:/usr"].0, Reading::Up, "{seen:?}");
        assert!(!seen.contains_key("host/disk:/usr"), "an image is full by design");
        let fact = &seen["host/mounts"].1;
        assert!(fact.contains("checked: /data; read-only, so not judged: /usr; not visible from here"), "{fact}");
        // The kernel turns the file system read-only, which the container's mount shows behind the dash.
        machine.tables(&both(ROOT, "21 20 8:17 / /data rw - xfs /dev/sdb1 ro\n"), &own.replace("sdb1 rw", "sdb1 ro"));
        let seen = machine.look();
        assert_eq!(seen["host/readonly:/data"].0, Reading::Down, "{seen:?}");
        assert!(seen["host/readonly:/data"].1.contains("turned read-only: xfs on /dev/sdb1"), "{seen:?}");
        // Somebody remounts the machine's mount, and not the file system.
        machine.tables(&both(ROOT, "21 20 8:17 / /data ro - xfs /dev/sdb1 rw\n"), own);
        let seen = machine.look();
        assert_eq!(
            seen["host/readonly:/data"],
            (Reading::Down, "it was remounted read-only: xfs on /dev/sdb1".to_string())
        );
        machine.tables(&both(ROOT, DATA), own);
        assert_eq!(machine.look()["host/readonly:/data"].0, Reading::Up);
    }

    #[test]
    fn a_container_that_sees_what_lies_beneath_or_what_the_machine_unmounted_is_told() {
        let mut machine = Machine::new("disk_paths = [\"/d\"]");
        let own = |device: &str, root: &str| format!("50 1 {device} {root} /d rw - ext4 /dev/x rw\n");
        // Bound before the disk was mounted: the container has the directory beneath.
        machine.tables(&both(ROOT, DATA), &own("8:1", "/data"));
        machine.answers("/d", Ok(full(10, 50)));
        let (reading, fact) = machine.look()["host/mount:/d"].clone();
        assert!(reading == Reading::Down && fact.contains("xfs on /dev/sdb1 at /data"), "{fact}");
        machine.tables(&both(ROOT, DATA), &own("8:17", "/"));
        assert_eq!(machine.look()["host/mount:/d"].0, Reading::Up);
        machine.tables(ROOT, &own("8:17", "/"));
        let seen = machine.look();
        assert!(seen["host/mount:/d"].1.contains("only this container still holds it"), "{seen:?}");
        assert_eq!((seen["host/mount:/d"].0, seen["host/disk:/d"].0), (Reading::Down, Reading::Unknown));
    }

    #[test]
    fn a_restart_knows_what_was_mounted_and_writable() {
        for same_boot in [true, false] {
            for settings in ["", "disk_paths = [\"/data\"]", "readonly = false", "disk_pct = 0\ninodes_pct = 90"] {
                let mut machine = Machine::new(settings);
                let named = settings.contains("paths");
                machine.tables(&both(ROOT, DATA), &both(ROOT, DATA));
                let usage = Usage { inodes: 10, inodes_free: 5, ..full(50, 21) };
                machine.answers("/", Ok(full(50, 20)));
                machine.answers("/data", Ok(usage));
                machine.look();
                let ro = "21 20 8:17 / /data rw - xfs /dev/sdb1 ro\n";
                machine.tables(&both(ROOT, ro), &both(ROOT, ro));
                machine.restart(same_boot);
                let seen = machine.look();
                if let Some((reading, fact)) = seen.get("host/readonly:/data") {
                    // What was mounted read-only by a boot is meant to be.
                    assert_eq!(*reading, if same_boot { Reading::Down } else { Reading::Up }, "{fact}");
                }
                machine.tables(ROOT, ROOT);
                machine.answers("/data", Ok(full(50, 20)));
                machine.restart(same_boot);
                let [first, second] = [machine.look(), machine.look()];
                if named {
                    assert_eq!(second["host/mount:/data"].0, Reading::Down, "{second:?}");
                    assert_eq!(second["host/disk:/data"].0, Reading::Unknown, "{second:?}");
                } else {
                    assert_eq!(first["host/mounts"].0, Reading::Happened(0), "{first:?}");
                    let (reading, fact) = &second["host/mounts"];
                    assert!(*reading == Reading::Happened(1) && fact.contains("/data (xfs on /dev/sdb1)"), "{fact}");
                }
                assert!(!second.values().any(|(reading, _)| *reading == Reading::Value(0.0)));
            }
        }
    }

    #[test]
    fn a_disk_that_got_another_number_by_a_boot_is_the_same() {
        let mut machine = Machine::new("");
        machine.tables(&both(ROOT, DATA), &both(ROOT, DATA));
        machine.answers("/", Ok(full(50, 20)));
        machine.answers("/data", Ok(full(50, 21)));
        machine.look();
        let renumbered = DATA.replace("8:17", "8:33");
        machine.tables(&both(ROOT, &renumbered), &both(ROOT, &renumbered));
        machine.restart(false);
        assert_eq!(machine.look()["host/mounts"].0, Reading::Happened(0));
        let other = renumbered.replace("sdb1", "sdc1");
        machine.tables(&both(ROOT, &other), &both(ROOT, &other));
        machine.restart(false);
        assert_eq!(machine.look()["host/mounts"].0, Reading::Happened(1));
    }

    #[test]
    fn what_cannot_be_asked_by_this_user_is_said_and_no_alarm() {
        let mut machine = Machine::new("");
        machine.tables(&both(ROOT, DATA), &both(ROOT, DATA));
        machine.answers("/", Ok(full(50, 20)));
        machine.answers("/data", Err(std::io::ErrorKind::PermissionDenied.into()));
        let seen = machine.look();
        assert!(!seen.contains_key("host/disk:/data"), "{seen:?}");
        assert_eq!(seen["host/mounts"].1, "checked: /; not readable for this user: /data");
        // Once it was seen, not seeing it is news.
        machine.answers("/data", Ok(full(50, 21)));
        machine.look();
        machine.answers("/data", Err(std::io::ErrorKind::PermissionDenied.into()));
        assert_eq!(machine.look()["host/disk:/data"].0, Reading::Unknown);
    }

    #[test]
    fn more_than_the_limit_are_counted() {
        let line = |n: usize| format!("{n} 1 9:{n} / /d{n:03} rw - ext4 /dev/md{n} rw\n");
        for (count, words) in [(MOST, None), (MOST + 3, Some("; 3 more are not checked, 64 is the limit"))] {
            let mut machine = Machine::new("");
            let table: String = (0..count).map(line).collect();
            machine.tables(&table, &table);
            for n in 0..count {
                machine.answers(&format!("/d{n:03}"), Ok(full(50, n as u64)));
            }
            let seen = machine.look();
            assert_eq!(seen.keys().filter(|key| key.starts_with("host/disk:")).count(), MOST);
            let fact = &seen["host/mounts"].1;
            assert!(fact.contains("and 56 more"), "{fact}");
            assert!(words.map_or(!fact.contains("limit"), |words| fact.contains(words)), "{fact}");
        }
    }

    #[test]
    fn tables_that_cannot_be_read_are_unknown_and_no_event() {
        let mut machine = Machine::new("");
        let seen = machine.look();
        assert_eq!(seen["host/mounts"].0, Reading::Unknown);
        assert!(seen["host/mounts"].1.contains("self/mountinfo does not exist"), "{seen:?}");
        machine.tables(ROOT, ROOT);
        machine.answers("/", Ok(full(50, 20)));
        machine.look();
        machine.tables("damaged", "damaged");
        let seen = machine.look();
        assert_eq!(seen["host/mounts"], (Reading::Unknown, "self/mountinfo cannot be understood".to_string()));
        assert_eq!(seen["host/disk:/"].0, Reading::Value(50.0));
        machine.tables(ROOT, ROOT);
        assert_eq!(machine.look()["host/mounts"].0, Reading::Happened(0));
    }
}
