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
    /// The machine: memory, load, pressure, open files, kills for lack of memory, reboots, disks.
    pub struct Settings {
        /// false: the machine is not observed.
        enabled: bool = true,
        /// Where the machine's /proc is; /host/proc where it is mounted into a container.
        proc: PathBuf = PathBuf::from("/proc"),
        /// Where the machine's /sys is. It says whether this machine is one of Oracle Cloud's; of those, an agent never
        /// repairs the one that it runs on.
        sys: PathBuf = PathBuf::from("/sys"),
        /// Where the machine's / is, put before every disk path; /host where it is mounted into a container.
        root: PathBuf = PathBuf::from("/"),
        /// Percent of memory in use (by MemAvailable) above which host/memory fires; 0 = off.
        memory_pct: f64 = 90.0,
        /// Percent of swap in use above which host/swap fires; 0 = off. Full swap alone is no trouble.
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
        /// Paths whose disks are watched once disk_pct or inodes_pct is set.
        disk_paths: Vec<String> = vec!["/".to_string()],
        /// Percent of a disk in use, as df counts it, above which host/disk:<path> fires; 0 = off. 97 is usual.
        disk_pct: f64 = 0.0,
        /// Percent of a disk's inodes in use above which host/inodes:<path> fires; 0 = off.
        inodes_pct: f64 = 0.0,
    }
}

impl Settings {
    /// True when some disk is to be looked at.
    pub fn watches_disks(&self) -> bool {
        self.disk_pct > 0.0 || self.inodes_pct > 0.0
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
        ("inodes_pct", settings.inodes_pct),
    ] {
        if !(0.0..100.0).contains(&percent) {
            refuse(field, format!("{percent} is no ceiling in percent; write 1 to 99, or 0 for off"));
        }
    }
    if settings.load_per_cpu < 0.0 {
        refuse("load_per_cpu", "must not be negative".to_string());
    }
    for (field, path) in [("proc", &settings.proc), ("sys", &settings.sys), ("root", &settings.root)] {
        if !path.is_absolute() {
            refuse(field, format!("\"{}\" is not a path from the root", path.display()));
        }
    }
    if settings.disk_paths.len() > PATHS {
        refuse("disk_paths", format!("at most {PATHS} paths can be watched"));
    }
    for (index, path) in settings.disk_paths.iter().enumerate() {
        if !path.starts_with('/') || path.len() > 256 || path.chars().any(char::is_control) {
            refuse("disk_paths", format!("\"{}\" is not a path from the root", path.escape_debug()));
        } else if settings
            .disk_paths
            .iter()
            .take(index)
            .any(|other| other.trim_end_matches('/') == path.trim_end_matches('/'))
        {
            refuse("disk_paths", format!("\"{path}\" is listed twice; keep one"));
        }
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
