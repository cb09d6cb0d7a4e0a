//! One file system that is watched: how full it is, whether it can be written, whether it is still there.
//!
//! What is looked at has an identity, the file system that is mounted there. Where another one is seen, its
//! figures say nothing about the one that was watched: a path under which nothing is mounted any more is
//! unknown and told, never judged by what lies beneath. Read-only is a fault only for what was writable.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::advice::{self, Growth};
use super::disk::{Asked, Disk, Statvfs, Usage};
use super::gauge::{Gauge, Stepped};
use super::mounts::{Mount, on_host};
use super::proc::{Gap, Seen};
use super::settings::Settings;
use super::words::bytes;
use crate::core::about::About;
use crate::core::rule::{Rule, Test};
use crate::core::signal::{More, Observation, Reading, Severity, SignalKey};
use crate::core::time::Mono;

/// Both mount tables, as they were when the disks had answered.
pub struct Tables<'a> {
    /// The machine's; empty where it cannot be read.
    pub host: &'a [Mount],
    /// Ours; empty where it cannot be read.
    pub own: &'a [Mount],
}

/// Beginnings of the signals with which it is remembered what is mounted; the first that exists is taken.
pub const HOMES: [&str; 4] = ["host/mount:", "host/readonly:", "host/disk:", "host/inodes:"];

/// What is mounted somewhere, as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Place {
    /// Where it is mounted, in our own table.
    point: String,
    #[serde(default)]
    device: String,
    /// The file system's own number; 0 where it has none.
    #[serde(default)]
    fsid: u64,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    source: String,
    /// The file system was seen writable.
    #[serde(default)]
    disk_writable: bool,
    /// The machine's mount of it was seen writable.
    #[serde(default)]
    mount_writable: bool,
    /// The machine had it mounted.
    #[serde(default)]
    on_host: bool,
    /// It was named in the settings, not found.
    #[serde(default)]
    pub named: bool,
}

impl Place {
    fn new(mount: &Mount, fsid: u64, named: bool) -> Place {
        Place {
            point: mount.point.clone(),
            device: mount.device.clone(),
            fsid,
            kind: mount.kind.clone(),
            source: mount.source.clone(),
            named,
            ..Place::default()
        }
    }

    /// `ext4 on /dev/sda1`.
    pub fn words(&self) -> String {
        format!("{} on {}", self.kind, self.source)
    }

    /// Device numbers hold for one boot of the machine; after it, either of the names is enough.
    fn is_same(&self, other: &Place, same_boot: bool) -> bool {
        if same_boot {
            (&self.device, self.fsid) == (&other.device, other.fsid)
        } else {
            self.kind == other.kind && (self.source == other.source || (self.fsid != 0 && self.fsid == other.fsid))
        }
    }

    /// True when `self` is mounted further down than `other`, on the way to the same path: what was there is gone.
    fn is_below(&self, other: &Place) -> bool {
        self.point != other.point && Path::new(&self.point).starts_with(&other.point)
    }
}

/// What is seen of the file system that is watched.
enum Sight {
    /// The one that is watched, or whatever there is, where nobody can tell.
    Same,
    /// Not there; the reason in words.
    Gone(String),
}

/// One file system and its signals.
pub struct Watched {
    /// The path, or the device, that its signals are called by.
    pub name: String,
    /// Named in the settings; otherwise it was found in the machine's mount table.
    pub named: bool,
    /// Its device number, where it was found in the table.
    pub device: String,
    disk: Disk,
    space: Option<Stepped>,
    inodes: Option<Gauge>,
    readonly: Option<Gauge>,
    /// Whether it is still there; only for those named.
    mount: Option<Gauge>,
    /// What is mounted there.
    pub place: Option<Place>,
    same_boot: bool,
    /// What was seen when it last answered.
    last: Vec<Observation>,
    /// It cannot be asked for lack of rights, and never could.
    pub hidden: bool,
    /// It was read-only from the start, and so cannot fill up.
    pub image: bool,
    /// Looks in a row in which it was not in the table.
    pub missed: u32,
    /// Another file system took its place, to be told.
    pub swapped: Option<String>,
    /// How fast it fills up.
    growth: Growth,
}

impl Watched {
    /// Watches the file system at `path`, or the one found under the name `name` and asked at `path`.
    pub fn new(settings: &Settings, name: &str, path: PathBuf, named: bool) -> Watched {
        use Severity::Critical;
        let at_once = Rule::at_once(Test::Verdict);
        // One device that fails is one trouble, however many of its figures say so.
        let disk: Arc<str> = format!("disk {name}").into();
        let about = About { name: Arc::clone(&disk), cause: Arc::clone(&disk), ..About::default() };
        let mount = named.then(|| {
            let gauge = Gauge::new(&format!("mount:{name}"), &format!("mount {name}"), Critical, at_once);
            gauge.known_as(about.clone())
        });
        let space = Stepped::new(
            &format!("disk:{name}"),
            &disk,
            settings.disk_pct,
            settings.disk_critical_pct,
            mount.as_ref(),
            about.clone(),
        );
        let limit = settings.inodes_pct;
        let title = format!("inodes of {name}");
        let inodes = Gauge::above(&format!("inodes:{name}"), &title, Critical, limit, limit - super::gauge::MARGIN);
        let title = format!("{name} writable");
        let readonly = settings.readonly.then(|| Gauge::new(&format!("readonly:{name}"), &title, Critical, at_once));
        Watched {
            name: name.to_string(),
            named,
            device: String::new(),
            disk: Disk::new(path),
            space,
            inodes: inodes.map(|gauge| gauge.below(mount.as_ref()).known_as(about.clone())),
            readonly: readonly.map(|gauge| gauge.below(mount.as_ref()).known_as(about)),
            mount,
            place: None,
            same_boot: true,
            last: Vec::new(),
            hidden: false,
            image: false,
            missed: 0,
            swapped: None,
            growth: Growth::default(),
        }
    }

    /// What an earlier run knew of it. `same_boot`: the machine has not booted since.
    pub fn remember(&mut self, place: Place, same_boot: bool) {
        self.same_boot = same_boot;
        self.place = Some(place);
    }

    /// It is asked here from now on.
    pub fn found_at(&mut self, place: PathBuf, device: &str) {
        self.disk.move_to(place);
        self.device = device.to_string();
        self.missed = 0;
    }

    /// Sends the question out, unless one is out already.
    pub fn ask(&mut self, call: &Statvfs) {
        self.disk.ask(call);
    }

    /// Waits for the answer until `deadline`.
    pub fn take(&mut self, deadline: std::time::Instant) -> Asked {
        self.disk.take(deadline)
    }

    /// What follows from the answer, and with it what is to be remembered.
    pub fn observe(&mut self, asked: Asked, tables: &Tables<'_>, seen_at: Mono) -> Vec<Observation> {
        let mut observations = self.answered(asked, tables, seen_at);
        let home = self.home().cloned();
        if let Some(observation) = observations.iter_mut().find(|seen| Some(&seen.spec.key) == home.as_ref()) {
            let keep = self.place.as_ref().and_then(|place| serde_json::to_string(place).ok());
            observation.more = Some(Box::new(More { keep, ..More::default() }));
        }
        observations
    }

    /// The signal with which it is remembered what is mounted there, in the order of [`HOMES`].
    fn home(&self) -> Option<&SignalKey> {
        let signals = [
            self.mount.as_ref().map(Gauge::key),
            self.readonly.as_ref().map(Gauge::key),
            self.space.as_ref().map(Stepped::key),
            self.inodes.as_ref().map(Gauge::key),
        ];
        signals.into_iter().flatten().next()
    }

    fn answered(&mut self, asked: Asked, tables: &Tables<'_>, seen_at: Mono) -> Vec<Observation> {
        self.hidden = false;
        match asked {
            Asked::Usage(usage) => {
                self.last = self.judge(&usage, tables, seen_at);
                self.last.clone()
            }
            Asked::Waiting if !self.last.is_empty() => self.last.clone(),
            Asked::Waiting => self.unknown("it has not answered yet", seen_at),
            Asked::Hangs => {
                self.unknown("it does not answer (statvfs hangs): the disk or its server is stuck", seen_at)
            }
            Asked::Failed(std::io::ErrorKind::PermissionDenied, _) if !self.named && self.last.is_empty() => {
                self.hidden = true;
                Vec::new()
            }
            Asked::Failed(kind, why) => {
                // A directory that was on the disk went away with it.
                let left = self.place.as_ref().filter(|place| {
                    kind == std::io::ErrorKind::NotFound
                        && !tables.own.is_empty()
                        && !tables.own.iter().any(|mount| mount.point == place.point)
                });
                match left.map(gone) {
                    Some(gone) => self.lost(&gone, seen_at),
                    None => self.unknown(&format!("it cannot be checked: {why}"), seen_at),
                }
            }
        }
    }

    /// It is not in the machine's mount table any more, which may be a moment of the table only.
    pub fn missing(&mut self, seen_at: Mono) -> Vec<Observation> {
        let why = self.place.as_ref().map_or_else(|| "nothing is mounted there any more".to_string(), gone);
        self.last.clear();
        self.unknown(&why, seen_at)
    }

    fn judge(&mut self, usage: &Usage, tables: &Tables<'_>, seen_at: Mono) -> Vec<Observation> {
        let own = usage.mount.and_then(|id| tables.own.iter().find(|mount| mount.id == id));
        if usage.mount.is_some() && own.is_none() && !tables.own.is_empty() {
            return self.unknown("its mount changed while it was checked", seen_at);
        }
        if let Some(own) = own
            && !self.named
            && own.device != self.device
        {
            // The place it was asked at was unmounted since the table was read.
            return self.missing(seen_at);
        }
        let theirs = own.and_then(|own| on_host(self.disk.place(), own, tables.host));
        if let Some(own) = own
            && let Sight::Gone(why) = self.sight(own, usage.fsid, theirs.as_ref())
        {
            return self.lost(&why, seen_at);
        }
        let mut observations = Vec::new();
        let words = self.place.as_ref().map_or_else(|| "mounted".to_string(), Place::words);
        let point = self.place.as_ref().map_or(String::new(), |place| format!(", mounted at {}", place.point));
        let here = own.map(|_| (Reading::Up, format!("{words}{point}"))).ok_or(Gap::Missing);
        observations.extend(self.mount.as_mut().and_then(|gauge| gauge.observe(here, seen_at)));
        observations.extend(self.writable(usage, own, theirs.map(|(_, mount)| mount), seen_at));
        observations.extend(self.measure(usage, seen_at));
        observations
    }

    /// Is it still what was watched?
    fn sight(&mut self, own: &Mount, fsid: u64, theirs: Option<&(PathBuf, &Mount)>) -> Sight {
        if let Some((path, over)) = theirs
            && over.device != own.device
        {
            let (new, path) = (over.words(), path.display());
            return Sight::Gone(format!(
                "the machine has mounted {new} at {path} since, which cannot be seen from here; restart this container"
            ));
        }
        let now = Place::new(own, fsid, self.named);
        let Some(known) = self.place.as_ref().filter(|place| !place.point.is_empty()) else {
            // What was seen without a mount table says only whether it was writable.
            let before = self.place.take().unwrap_or_default();
            let (disk_writable, mount_writable) = (before.disk_writable, before.mount_writable);
            self.place = Some(Place { disk_writable, mount_writable, on_host: theirs.is_some(), ..now });
            return Sight::Same;
        };
        if known.is_below(&now) {
            return Sight::Gone(gone(known));
        }
        if known.is_same(&now, self.same_boot) {
            if known.on_host && self.same_boot && theirs.is_none() {
                return Sight::Gone(format!(
                    "the machine does not have {} mounted any more; only this container still holds it",
                    known.words()
                ));
            }
            let writable = self.same_boot && known.disk_writable;
            let mount_writable = self.same_boot && known.mount_writable;
            let on_host = theirs.is_some();
            self.place = Some(Place { disk_writable: writable, mount_writable, on_host, ..now });
        } else {
            let words = format!(
                "another file system is mounted at {}: {}, before it was {}",
                self.name,
                now.words(),
                known.words()
            );
            self.swapped = Some(words);
            self.place = Some(Place { on_host: theirs.is_some(), ..now });
        }
        self.same_boot = true;
        Sight::Same
    }

    /// Is it writable, as it was?
    fn writable(
        &mut self,
        usage: &Usage,
        own: Option<&Mount>,
        host: Option<&Mount>,
        seen_at: Mono,
    ) -> Option<Observation> {
        // A container's mount may be read-only by intention; the machine's own says more.
        let disk = own.map_or(usage.read_only, |own| own.disk_read_only);
        let mount = host.or(own).map_or(usage.read_only, |mount| mount.read_only);
        let place = self.place.get_or_insert_default();
        place.named = self.named;
        place.disk_writable |= !disk;
        place.mount_writable |= !mount;
        self.image = disk && !place.disk_writable && !self.named;
        let words = if place.kind.is_empty() { String::new() } else { format!(": {}", place.words()) };
        let (reading, fact) = if disk && place.disk_writable {
            let fact = format!("the file system turned read-only{words}; the usual cause is disk errors");
            (Reading::Down, fact)
        } else if mount && place.mount_writable {
            (Reading::Down, format!("it was remounted read-only{words}"))
        } else if disk || mount {
            (Reading::Up, format!("read-only since it was first checked{words}"))
        } else {
            (Reading::Up, format!("writable{words}"))
        };
        let details = (reading == Reading::Down).then(|| advice::readonly(&self.name));
        let seen = self.readonly.as_mut()?.observe(Ok((reading, fact)), seen_at);
        seen.map(|seen| seen.with_some(details))
    }

    fn measure(&mut self, usage: &Usage, seen_at: Mono) -> Vec<Observation> {
        if self.image {
            return Vec::new();
        }
        let (used, left) = (usage.used(), usage.left());
        self.growth.note(seen_at, used);
        let space = usage.percent().ok_or(Gap::Missing);
        let limits = self.space.as_ref().map(Stepped::limits).unwrap_or_default();
        let is_full = |percent: &f64| self.space.as_ref().is_some_and(|gauge| gauge.is_bad(*percent));
        let full = space.as_ref().ok().copied().filter(is_full);
        let details = full.map(|percent| advice::disk(percent, &self.name, self.growth.words(seen_at, used, left)));
        let space: Seen<(f64, String)> =
            space.map(|percent| (percent, format!("{percent:.0} % used ({limits}), {} free", bytes(left))));
        let inodes = usage.inodes_percent().ok_or(Gap::Missing).map(|percent| {
            let (left, all) = (usage.inodes_free, usage.inodes);
            (Reading::Value(percent), format!("{percent:.0} % of the inodes used, {left} of {all} free"))
        });
        let space = self.space.as_mut().and_then(|gauge| gauge.observe(space, seen_at));
        let space = space.map(|seen| seen.with_some(details));
        let few = inodes.as_ref().is_ok_and(|(reading, _)| self.inodes.as_ref().is_some_and(|g| g.is_bad(*reading)));
        let details = few.then(|| advice::inodes(&self.name));
        let inodes = self.inodes.as_mut().and_then(|gauge| gauge.observe(inodes, seen_at));
        let inodes = inodes.map(|seen| seen.with_some(details));
        space.into_iter().chain(inodes).collect()
    }

    /// What was watched is not there.
    fn lost(&mut self, why: &str, seen_at: Mono) -> Vec<Observation> {
        let down = Ok((Reading::Down, why.to_string()));
        let mount = self.mount.as_mut().and_then(|gauge| gauge.observe(down, seen_at));
        let mut observations: Vec<_> = mount.into_iter().map(|seen| seen.with(advice::unmounted(&self.name))).collect();
        observations.extend(self.blind(why, seen_at));
        self.last.clone_from(&observations);
        observations
    }

    fn unknown(&mut self, why: &str, seen_at: Mono) -> Vec<Observation> {
        let blind = Err(Gap::Broken(why.to_string()));
        let mount = self.mount.as_mut().filter(|gauge| gauge.measured).and_then(|gauge| gauge.observe(blind, seen_at));
        mount.into_iter().chain(self.blind(why, seen_at)).collect()
    }

    fn blind(&mut self, why: &str, seen_at: Mono) -> Vec<Observation> {
        let broken = || Err(Gap::Broken(why.to_string()));
        let mut seen = Vec::new();
        if !self.image {
            seen.extend(
                self.space.as_mut().and_then(|gauge| gauge.observe(Err(Gap::Broken(why.to_string())), seen_at)),
            );
        }
        // A disk that never had a number of inodes does not get the signal by hanging.
        let inodes = self.inodes.as_mut().filter(|gauge| gauge.measured);
        seen.extend(inodes.and_then(|gauge| gauge.observe(broken(), seen_at)));
        seen.extend(self.readonly.as_mut().and_then(|gauge| gauge.observe(broken(), seen_at)));
        let details = Arc::new(advice::unseen(&self.name));
        seen.iter_mut().for_each(|seen| seen.details = Some(Arc::clone(&details)));
        seen
    }
}

fn gone(place: &Place) -> String {
    format!("nothing is mounted at {} any more; it was {}", place.point, place.words())
}
