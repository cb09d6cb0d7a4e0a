//! The settings of the host source, and the check of what they say.
//!
//! Owns the section `host`. Every ceiling is off at 0. Checks ranges only; whether a path exists is
//! seen when it is looked at, for mounts come and go.

use std::path::PathBuf;

use crate::config::{Config, ConfigError, Problem};

/// The section's name.
pub const PATH: &str = "host";
/// Paths that may be watched.
const PATHS: usize = 64;

crate::settings! {
    /// The machine: memory, load, pressure, open files, kills for lack of memory, reboots, file systems.
    pub struct Settings {
        /// false: the machine is not observed.
        enabled: bool = true,
        /// Where the machine's /proc is; /host/proc where it is mounted into a container.
        proc: PathBuf = PathBuf::from("/proc"),
        /// Where the machine's /sys is. It says whether this machine is one of Oracle Cloud's; of those, an agent never
        /// repairs the one that it runs on.
        sys: PathBuf = PathBuf::from("/sys"),
        /// Where the machine's / is, put before every disk path; /host where it is mounted into a container. Without
        /// it, a container checks those file systems of the machine of which it has any part mounted.
        root: PathBuf = PathBuf::from("/"),
        /// Percent of memory in use (by MemAvailable and what the cache of ZFS gives back) above which host/memory fires;
        /// 0 = off.
        memory_pct: f64 = 90.0,
        /// Percent of swap in use above which host/swap fires; 0 = off. Full swap alone is not a problem.
        swap_pct: f64 = 0.0,
        /// 5-minute load per CPU above which host/load fires; 0 = off.
        load_per_cpu: f64 = 4.0,
        /// Percent of time in which everything waited for memory, over a minute, above which
        /// host/pressure:memory fires; 0 = off.
        pressure_memory_pct: f64 = 10.0,
        /// Percent of time in which everything waited for disks, over a minute, above which
        /// host/pressure:io fires; 0 = off.
        pressure_io_pct: f64 = 30.0,
        /// Percent of time in which something waited for a CPU, over a minute, above which
        /// host/pressure:cpu fires; 0 = off.
        pressure_cpu_pct: f64 = 0.0,
        /// Percent of the machine's open files above which host/files fires; 0 = off.
        files_pct: f64 = 90.0,
        /// Tell of processes that the kernel killed for lack of memory (host/oom).
        oom: bool = true,
        /// Tell of a reboot since this program ran last (host/reboot); needs `state`.
        reboot: bool = true,
        /// Paths whose file systems are watched. None: every real local file system of the machine, by its mount table;
        /// those of the network, in memory and read-only images are left out. One that is named must stay mounted
        /// (host/mount:<path>).
        disk_paths: Vec<String> = Vec::new(),
        /// Mount points that are left out when disk_paths names none.
        disk_exclude: Vec<String> = Vec::new(),
        /// Percent of a disk in use, as df counts it, above which host/disk:<path> is a warning; 0 = off.
        disk_pct: f64 = 90.0,
        /// Percent of a disk in use above which host/disk:<path> is critical; 0 = never. Where disk_pct is not below
        /// it, host/disk:<path> is critical at once.
        disk_critical_pct: f64 = 97.0,
        /// Tell of a file system that was writable and turned read-only (host/readonly:<path>), as after disk errors.
        readonly: bool = true,
        /// Percent of a disk's inodes in use above which host/inodes:<path> fires; 0 = off.
        inodes_pct: f64 = 0.0,
    }
}

impl Settings {
    /// True when some disk is to be looked at.
    pub fn watches_disks(&self) -> bool {
        self.disk_pct > 0.0 || self.inodes_pct > 0.0 || self.readonly
    }
}

/// Reads and checks the section; every problem is named by its key.
pub fn read(config: &Config) -> Result<Settings, ConfigError> {
    let settings: Settings = config.section(PATH)?;
    let mut problems: Vec<Problem> = Vec::new();
    let mut refuse = |field: &str, what: String| {
        problems.extend(config.error(&format!("{PATH}.{field}"), what).problems);
    };
    for (field, percent) in [
        ("memory_pct", settings.memory_pct),
        ("swap_pct", settings.swap_pct),
        ("pressure_memory_pct", settings.pressure_memory_pct),
        ("pressure_io_pct", settings.pressure_io_pct),
        ("pressure_cpu_pct", settings.pressure_cpu_pct),
        ("files_pct", settings.files_pct),
        ("disk_pct", settings.disk_pct),
        ("disk_critical_pct", settings.disk_critical_pct),
        ("inodes_pct", settings.inodes_pct),
    ] {
        if !(0.0..100.0).contains(&percent) {
            refuse(field, format!("{percent} is not a limit in percent; write 1 to 99, or 0 for off"));
        }
    }
    if settings.load_per_cpu < 0.0 {
        refuse("load_per_cpu", "must not be negative".to_string());
    }
    for (field, path) in [("proc", &settings.proc), ("sys", &settings.sys), ("root", &settings.root)] {
        if !path.is_absolute() {
            refuse(field, format!("\"{}\" is not an absolute path", path.display()));
        }
    }
    for (field, paths) in [("disk_paths", &settings.disk_paths), ("disk_exclude", &settings.disk_exclude)] {
        if paths.len() > PATHS {
            refuse(field, format!("{} paths are too many, {PATHS} is the limit", paths.len()));
        }
        for (index, path) in paths.iter().enumerate() {
            if !path.starts_with('/') || path.len() > 256 || path.chars().any(char::is_control) {
                refuse(field, format!("\"{}\" is not an absolute path", path.escape_debug()));
            } else if paths.iter().take(index).any(|other| other.trim_end_matches('/') == path.trim_end_matches('/')) {
                refuse(field, format!("\"{path}\" is listed twice; keep one"));
            }
        }
    }
    if !settings.disk_paths.is_empty() && !settings.disk_exclude.is_empty() {
        refuse("disk_exclude", "has no effect beside disk_paths; leave one of them out".to_string());
    }
    if problems.is_empty() { Ok(settings) } else { Err(ConfigError { problems }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ceiling_that_could_never_be_reached_is_refused() {
        for (key, value) in [
            ("memory_pct", "100"),
            ("disk_pct", "-1"),
            ("disk_critical_pct", "100"),
            ("disk_exclude", "[\"data\"]"),
            ("disk_exclude", "[\"/boot\"]\ndisk_paths = [\"/\"]"),
            ("load_per_cpu", "-0.5"),
            ("proc", "\"proc\""),
            ("disk_paths", "[\"data\"]"),
            ("disk_paths", "[\"/\", \"/\"]"),
            ("disk_paths", "[\"/a\\nb\"]"),
        ] {
            let config = Config::from_toml(&format!("[host]\n{key} = {value}\n")).unwrap();
            let error = read(&config).unwrap_err();
            assert_eq!(error.problems[0].key, format!("host.{key}"), "{error}");
        }
        let config = Config::from_toml("[host]\nmemory_pct = 99.5\nswap_pct = 0\n").unwrap();
        assert_eq!(read(&config).unwrap().memory_pct, 99.5);
    }
}
