//! What is told of the machine: the real source reads a tree of /proc that is changed, and asks disks that answer as they
//! are told.

use std::path::Path;
use std::sync::{Arc, Mutex};

use watchdog::clock::Clock;
use watchdog::config::Config;
use watchdog::core::edge::EdgeKind;
use watchdog::core::time::{Mono, Now};
use watchdog::source::host::{self, Statvfs, Usage};
use watchdog::source::{Ask, Kept, Outfit, Source};

use super::{Chapter, Scene, TICK, outfit, read};

const GIB: u64 = 1 << 30;
const MOUNTS: &str = "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n21 20 8:17 / /data rw - xfs /dev/sdb1 rw\n";

/// A machine, the source that looks at it, and the core.
struct Rig {
    proc: tempfile::TempDir,
    hand: Arc<Mutex<Now>>,
    source: Box<dyn Source>,
    scene: Scene,
    data: Arc<Mutex<std::io::Result<Usage>>>,
}

/// The disk /data, of 60 GiB, with so much in use.
fn used(gib: u64) -> Usage {
    let free = (60 - gib) * GIB / 4096;
    Usage {
        block: 4096,
        blocks: 60 * GIB / 4096,
        free,
        available: free,
        inodes: 1_000_000,
        inodes_free: 900_000,
        read_only: false,
        mount: Some(21),
        fsid: 7,
    }
}

impl Rig {
    fn new(keys: &str) -> Rig {
        let proc = tempfile::tempdir().unwrap();
        let scene = Scene::new();
        let (clock, hand) = Clock::by_hand(scene.world.now);
        let data: Arc<Mutex<std::io::Result<Usage>>> = Arc::new(Mutex::new(Ok(used(30))));
        let answers = Arc::clone(&data);
        let call: Statvfs = Arc::new(move |path: &Path| {
            if path == Path::new("/") {
                return Ok(Usage { mount: Some(20), fsid: 1, ..used(20) });
            }
            match &*answers.lock().unwrap() {
                Ok(usage) => Ok(*usage),
                Err(error) => Err(error.kind().into()),
            }
        });
        let config = Config::from_toml(&format!("[host]\nproc = \"{}\"\n{keys}", proc.path().display())).unwrap();
        let boot = Some("00000000-0000-4000-8000-000000000000".to_string());
        let outfit = Outfit { clock, previous_boot: boot, kept: Kept::default(), ..outfit() };
        let source = host::over(&config, &outfit, call).unwrap();
        let rig = Rig { proc, hand, source, scene, data };
        for (name, text) in [
            ("meminfo", "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n"),
            ("loadavg", "1.00 1.00 1.00 1/100 1\n"),
            ("stat", "cpu 0 0\ncpu0 0 0\ncpu1 0 0\ncpu2 0 0\ncpu3 0 0\n"),
            ("vmstat", "nr_free_pages 1\noom_kill 2\n"),
            ("uptime", "3600.0 1.0\n"),
            ("sys/kernel/random/boot_id", "00000000-0000-4000-8000-000000000000\n"),
            ("sys/fs/file-nr", "1000 0 100000\n"),
            ("pressure/memory", "some avg10=0 avg60=0 avg300=0 total=0\nfull avg10=0 avg60=0 avg300=0 total=0\n"),
            ("pressure/io", "some avg10=0 avg60=0 avg300=0 total=0\nfull avg10=0 avg60=0 avg300=0 total=0\n"),
            ("1/mountinfo", MOUNTS),
            ("self/mountinfo", MOUNTS),
            ("812/status", "Name:\tpostgres\nVmRSS:\t 6291456 kB\n"),
            ("1033/status", "Name:\tjava\nVmRSS:\t 5242880 kB\n"),
            ("77/status", "Name:\tredis-server\nVmRSS:\t 524288 kB\n"),
            ("78/status", "Name:\tsshd\nVmRSS:\t 6144 kB\n"),
        ] {
            rig.write(name, text);
        }
        rig
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.proc.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// One look; what is told of it, as it is read.
    fn look(&mut self) -> Option<(Vec<EdgeKind>, String)> {
        let next = self.scene.world.now.mono.plus(TICK);
        *self.hand.lock().unwrap() = Now { mono: next, ..self.scene.world.now };
        let ask = Ask { now: self.scene.world.now, fresh_since: Mono(0), hurry_since: Mono(0), once: true };
        let outcome = self.source.observe(&ask);
        let details = outcome.as_ref().err().map(|why| self.source.advice(why));
        let edges = self.scene.look_with("host", outcome, details);
        let kinds: Vec<EdgeKind> = edges.iter().map(|edge| edge.kind).collect();
        let text = read(edges, self.scene.world.now).replace(&self.proc.path().display().to_string(), "/proc");
        (!kinds.is_empty()).then_some((kinds, text))
    }

    fn until(&mut self, kind: EdgeKind) -> String {
        for _ in 0..super::LOOKS {
            if let Some((kinds, text)) = self.look()
                && kinds.contains(&kind)
            {
                return text;
            }
        }
        panic!("nothing of the kind {kind:?}");
    }

    /// So many looks of which nothing is told.
    fn calm(&mut self, looks: u32) {
        for _ in 0..looks {
            assert_eq!(self.look(), None);
        }
    }
}

#[test]
fn what_is_told_of_the_host() {
    let mut chapter = Chapter::new("Host");
    memory(&mut chapter);
    machine(&mut chapter);
    disks(&mut chapter);
    chapter.check();
}

fn memory(chapter: &mut Chapter) {
    let mut rig = Rig::new("");
    rig.calm(1);
    rig.write("meminfo", "MemTotal: 16777216 kB\nMemAvailable: 1153434 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n");
    chapter.show("memory", &rig.until(EdgeKind::Alert));
    rig.write("meminfo", "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n");
    chapter.show("memory: it is over", &rig.until(EdgeKind::Recovery));
    let mut rig = Rig::new("swap_pct = 80");
    rig.write(
        "meminfo",
        "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\nSwapTotal: 2097152 kB\nSwapFree: 104857 kB\n",
    );
    chapter.show("swap", &rig.until(EdgeKind::Alert));
    let mut rig = Rig::new("");
    rig.calm(1);
    rig.write("vmstat", "nr_free_pages 1\noom_kill 3\n");
    chapter.show("a process was killed (out of memory)", &rig.until(EdgeKind::Alert));
    rig.write(
        "pressure/memory",
        "some avg10=0 avg60=80.0 avg300=0 total=0\nfull avg10=0 avg60=34.1 avg300=0 total=0\n",
    );
    chapter.show("pressure: memory", &rig.until(EdgeKind::Alert));
}

fn machine(chapter: &mut Chapter) {
    let mut rig = Rig::new("");
    rig.write("pressure/io", "some avg10=0 avg60=80.0 avg300=0 total=0\nfull avg10=0 avg60=41.5 avg300=0 total=0\n");
    chapter.show("pressure: I/O", &rig.until(EdgeKind::Alert));
    let mut rig = Rig::new("pressure_cpu_pct = 50");
    rig.write("pressure/cpu", "some avg10=0 avg60=81.2 avg300=0 total=0\n");
    chapter.show("pressure: CPU", &rig.until(EdgeKind::Alert));
    let mut rig = Rig::new("");
    rig.write("loadavg", "30.00 24.80 9.00 1/100 1\n");
    chapter.show("load", &rig.until(EdgeKind::Alert));
    let mut rig = Rig::new("");
    rig.write("sys/fs/file-nr", "95000 0 100000\n");
    chapter.show("open files", &rig.until(EdgeKind::Alert));
    let mut rig = Rig::new("");
    rig.write("sys/kernel/random/boot_id", "11111111-0000-4000-8000-000000000000\n");
    rig.write("uptime", "95.0 1.0\n");
    chapter.show("reboot", &rig.until(EdgeKind::Alert));
    let mut rig = Rig::new("");
    for name in ["meminfo", "loadavg", "stat", "vmstat"] {
        std::fs::remove_file(rig.proc.path().join(name)).unwrap();
    }
    chapter.show("source/host: nothing can be read", &rig.until(EdgeKind::Alert));
    let mut rig = Rig::new("");
    rig.calm(1);
    std::fs::remove_file(rig.proc.path().join("pressure/io")).unwrap();
    chapter.show("a figure is no longer available", &rig.until(EdgeKind::Unknown));
}

fn disks(chapter: &mut Chapter) {
    let mut rig = Rig::new("");
    rig.calm(1);
    // 20 MiB more at each look.
    let mut step = 0;
    let mut grow = |rig: &mut Rig| {
        step += 1;
        let free = used(53).free - step * 5_120;
        *rig.data.lock().unwrap() = Ok(Usage { free, available: free, ..used(53) });
        rig.look().map(|(_, text)| text)
    };
    let mut told = std::iter::from_fn(|| Some(grow(&mut rig))).take(super::LOOKS).flatten();
    chapter.show("disk: warning", &told.next().unwrap());
    chapter.show("disk: it became critical", &told.next().unwrap());
    drop(told);
    *rig.data.lock().unwrap() = Ok(used(30));
    chapter.show("disk: it is over", &rig.until(EdgeKind::Recovery));
    *rig.data.lock().unwrap() = Ok(Usage { read_only: true, ..used(30) });
    let table = MOUNTS.replace("/dev/sdb1 rw", "/dev/sdb1 ro");
    rig.write("1/mountinfo", &table);
    rig.write("self/mountinfo", &table);
    chapter.show("a file system turned read-only", &rig.until(EdgeKind::Alert));
    let mut rig = Rig::new("inodes_pct = 90");
    *rig.data.lock().unwrap() = Ok(Usage { inodes_free: 40_000, ..used(30) });
    chapter.show("inodes", &rig.until(EdgeKind::Alert));
    let mut rig = Rig::new("disk_paths = [\"/data\"]");
    rig.calm(1);
    let root = MOUNTS.lines().next().unwrap();
    rig.write("1/mountinfo", root);
    rig.write("self/mountinfo", root);
    *rig.data.lock().unwrap() = Ok(Usage { mount: Some(20), fsid: 1, ..used(20) });
    chapter.show("nothing is mounted", &rig.until(EdgeKind::Alert));
    let mut rig = Rig::new("");
    rig.calm(1);
    rig.write("1/mountinfo", root);
    rig.write("self/mountinfo", root);
    chapter.show("a file system went away", &rig.until(EdgeKind::Alert));
    let mut rig = Rig::new("disk_paths = [\"/data\"]");
    rig.calm(1);
    *rig.data.lock().unwrap() = Err(std::io::ErrorKind::PermissionDenied.into());
    chapter.show("a disk cannot be asked", &rig.until(EdgeKind::Unknown));
}
