//! What this machine has to offer: the socket of Docker, /proc, a place for the state file, a clock that is right.

use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, access, statfs};

use super::Finding;
use crate::client::docker::Docker;
use crate::clock::Clock;
use crate::config::Config;
use crate::core::time::people;

/// `TMPFS_MAGIC` and `RAMFS_MAGIC`: gone with the machine, or with the container.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
/// Less room than this for a state file is soon none.
const ROOM: u64 = 32 * 1024 * 1024;
/// A clock that is off by more than this confuses people and certificates.
const SKEW: Duration = Duration::from_secs(30);
/// 2024-01-01: a clock that shows an earlier date was never set.
const SET: i64 = 1_704_067_200_000;

fn setting(config: &Config, section: &str, name: &str, default: &str) -> String {
    let written = config.value(section, name).and_then(serde_json::Value::as_str);
    written.map(str::trim).filter(|text| !text.is_empty()).unwrap_or(default).to_string()
}

/// The socket of Docker: is it there, may we use it, does an engine answer.
pub fn docker(config: &Config) -> Vec<Finding> {
    let written = setting(config, "docker", "socket", "/var/run/docker.sock");
    let path = PathBuf::from(written.strip_prefix("unix://").unwrap_or(&written));
    let enabled =
        config.value("docker", "enabled").map(|value| value.as_str().map_or(value.to_string(), str::to_string));
    if enabled.as_deref() == Some("false") {
        return vec![Finding::off("docker", "off (docker.enabled = false)")];
    }
    let wished = config.is_set("docker");
    vec![match fs::metadata(&path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            let fact = format!("{} is not there", path.display());
            let finding = if wished { Finding::wrong("docker", fact) } else { Finding::off("docker", fact) };
            finding
                .so(format!("in a container, mount it: -v {0}:{0}", path.display()))
                .so("or write docker.socket, or docker.enabled = false where there is no Docker")
        }
        Err(error) => Finding::wrong("docker", format!("{}: {error}", path.display())),
        Ok(meta) if !meta.file_type().is_socket() => {
            let what = if meta.is_dir() {
                "a directory: the engine was not running when it was mounted"
            } else {
                "not a socket"
            };
            Finding::wrong("docker", format!("{} is {what}", path.display()))
        }
        Ok(meta) => engine(config, &path, &meta),
    }]
}

fn engine(config: &Config, path: &Path, meta: &Metadata) -> Finding {
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return denied(path, meta),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            return Finding::wrong("docker", format!("{} is there, and no engine listens", path.display()))
                .so("systemctl status docker");
        }
        Err(error) => return Finding::wrong("docker", format!("{}: {error}", path.display())),
        Ok(_) => {}
    }
    let listed = Docker::new(path).and_then(|mut docker| {
        let containers = docker.list(config.root().timeout.0)?;
        Ok((containers.len(), docker.version().map(|version| version.to_string()).unwrap_or_default()))
    });
    match listed {
        Ok((count, version)) => {
            let containers = if count == 1 { "1 container".to_string() } else { format!("{count} containers") };
            Finding::fine("docker", format!("{}: {containers}, API {version}", path.display()))
        }
        Err(error) => Finding::wrong("docker", error.to_string()).so("systemctl status docker; docker ps"),
    }
}

/// The socket is there and belongs to others.
fn denied(path: &Path, meta: &Metadata) -> Finding {
    let (gid, shown) = (meta.gid(), path.display());
    let group = group(gid).map(|name| format!(" ({name})")).unwrap_or_default();
    let fact = format!("{shown} belongs to group {gid}{group}, and this process (uid {}) is not in it", rustix_uid());
    let finding = Finding::wrong("docker", fact)
        .so(format!("with compose:   DOCKER_GID=$(stat -c %g {shown}) docker compose up -d"))
        .so(format!("with docker run: --group-add $(stat -c %g {shown})"));
    match self::group(gid) {
        Some(name) if !in_container() => {
            finding.so(format!("on the host:     sudo usermod -aG {name} $USER, then log in again"))
        }
        _ => finding,
    }
}

fn rustix_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The name of a group in /etc/group.
fn group(gid: u32) -> Option<String> {
    let text = fs::read_to_string("/etc/group").ok()?;
    text.lines().find_map(|line| {
        let mut parts = line.split(':');
        let name = parts.next()?;
        (parts.nth(1)?.parse() == Ok(gid)).then(|| name.to_string())
    })
}

fn in_container() -> bool {
    Path::new("/.dockerenv").exists() || Path::new("/run/.containerenv").exists()
}

/// The machine's /proc.
pub fn proc(config: &Config) -> Finding {
    if config.value("host", "enabled").and_then(serde_json::Value::as_bool) == Some(false) {
        return Finding::off("proc", "off (host.enabled = false)");
    }
    let proc = PathBuf::from(setting(config, "host", "proc", "/proc"));
    let unreadable: Vec<String> = ["meminfo", "loadavg", "stat", "vmstat"]
        .into_iter()
        .filter_map(|name| fs::read(proc.join(name)).err().map(|error| format!("{name}: {error}")))
        .collect();
    if unreadable.len() == 4 {
        return Finding::wrong("proc", format!("nothing can be read below {}", proc.display()))
            .so("in a container: -v /proc:/host/proc:ro, and host.proc = \"/host/proc\"");
    }
    if let [first, ..] = unreadable.as_slice() {
        return Finding::wrong("proc", format!("{}: {first}", proc.display()));
    }
    if in_container() && proc == Path::new("/proc") {
        return Finding::off(
            "proc",
            "the container's own /proc: memory and load are the machine's, file systems are not seen",
        )
        .so("-v /proc:/host/proc:ro, and host.proc = \"/host/proc\"");
    }
    Finding::fine("proc", format!("{} can be read", proc.display()))
}

/// A place for the state file: writable, on a disk, with room.
pub fn state(config: &Config) -> Finding {
    let path = PathBuf::from(&config.root().state);
    if path.as_os_str().is_empty() {
        return Finding::off("state", "not set: what was told is forgotten with a restart")
            .so("state = \"/var/lib/watchdog/state.db\"");
    }
    let shown = path.display();
    // What is there to be written to: the file, or the nearest directory in which it could be made.
    let mut there: &Path = &path;
    while !there.exists() {
        there = match there.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
    }
    let wanted = if there.is_dir() { Access::WRITE_OK | Access::EXEC_OK } else { Access::WRITE_OK | Access::READ_OK };
    if let Err(error) = access(there, wanted) {
        let why = std::io::Error::from(error);
        return Finding::wrong("state", format!("{shown}: {} may not be written to: {why}", there.display()))
            .so(format!("chown {} {}", rustix_uid(), there.display()))
            .so("in a container, mount a volume there");
    }
    let Ok(found) = statfs(there) else {
        return Finding::off("state", format!("{shown} can be written to; how much room there is cannot be told"));
    };
    if IN_MEMORY.iter().any(|magic| u64::try_from(found.f_type).ok() == Some(*magic)) {
        return Finding::wrong("state", format!("{shown} is on a file system in memory: it is gone with a restart"))
            .so("mount a volume, or choose a place on a disk");
    }
    let block = u64::try_from(found.f_bsize).unwrap_or(0);
    let free = found.f_bavail.saturating_mul(block);
    let room = format!("{} MiB free", free / (1024 * 1024));
    if free < ROOM {
        return Finding::wrong("state", format!("{shown}: {room}, at least {} MiB are needed", ROOM / (1024 * 1024)))
            .so(format!("df -h {}", there.display()));
    }
    Finding::fine("state", format!("{shown} can be written to, {room}"))
}

/// Is the clock right? `date` is what somebody else says that it is.
pub fn clock(clock: &Clock, date: Option<&str>) -> Finding {
    let now = clock.now().wall;
    if now.0 < SET {
        return Finding::wrong("clock", format!("it is not {}: the clock was never set", now.date()))
            .so("timedatectl set-ntp true");
    }
    let theirs = date.and_then(|date| httpdate::parse_http_date(date).ok());
    let theirs = theirs.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    let theirs = theirs.and_then(|since| i64::try_from(since.as_millis()).ok());
    if let Some(theirs) = theirs {
        let ahead = now.0.saturating_sub(theirs);
        let span = Duration::from_millis(ahead.unsigned_abs());
        if span > SKEW {
            let way = if ahead > 0 { "ahead of" } else { "behind" };
            return Finding::wrong("clock", format!("{} {way} Telegram's", people(span)))
                .so("timedatectl set-ntp true; timedatectl");
        }
    }
    let right = if theirs.is_some() { "as Telegram's" } else { "" };
    match keeper(Path::new("/run")) {
        Some(keeper) => {
            let right = if right.is_empty() { String::new() } else { format!("{right}, ") };
            Finding::fine("clock", format!("{right}kept by {keeper}"))
        }
        None if theirs.is_some() => Finding::fine("clock", right),
        None => Finding::off("clock", "nothing here says that it is kept right; in a container the host keeps it")
            .so("on the host: timedatectl"),
    }
}

/// Who keeps the clock right, as far as its traces below `run` tell.
fn keeper(run: &Path) -> Option<&'static str> {
    let traces = [
        ("systemd/timesync/synchronized", "systemd-timesyncd"),
        ("chrony/chronyd.pid", "chrony"),
        ("chronyd.pid", "chrony"),
        ("ntpd.pid", "ntpd"),
    ];
    traces.into_iter().find(|(trace, _)| run.join(trace).exists()).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_may_not_open_the_socket_is_told_the_line_to_type() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let finding = denied(&path, &fs::metadata(&path).unwrap());
        let wanted = format!("DOCKER_GID=$(stat -c %g {}) docker compose up -d", path.display());
        assert!(finding.advice.iter().any(|line| line.contains(&wanted)), "{finding:?}");
        assert!(finding.fact.contains("belongs to group "), "{finding:?}");
    }

    #[test]
    fn a_clock_is_measured_by_the_date_of_an_answer() {
        let (clock, hand) = Clock::by_hand(Clock::system().now());
        let date = clock.now().wall.http_date();
        let finding = |date: &str| super::clock(&clock, Some(date));
        assert_ne!(finding(&date).mark, super::super::Mark::Wrong);
        hand.lock().unwrap().wall.0 += 90_000;
        let ahead = finding(&date);
        assert!(
            ahead.mark == super::super::Mark::Wrong
                && (ahead.fact.starts_with("1 min 3") || ahead.fact.starts_with("1 min 29 s"))
                && ahead.fact.contains("ahead of"),
            "{ahead:?}"
        );
        hand.lock().unwrap().wall.0 = 5;
        assert!(super::clock(&clock, None).fact.contains("was never set"));
    }

    #[test]
    fn the_keeper_of_the_clock_is_known_by_its_traces() {
        let run = tempfile::tempdir().unwrap();
        assert_eq!(keeper(run.path()), None);
        fs::create_dir_all(run.path().join("systemd/timesync")).unwrap();
        fs::write(run.path().join("systemd/timesync/synchronized"), "").unwrap();
        assert_eq!(keeper(run.path()), Some("systemd-timesyncd"));
    }
}
