//! Reads the few files of /proc that speak of the whole machine.
//!
//! Parsers take bytes as they come and ignore lines and fields they do not know: kernels differ. A
//! file or key that is not there is [`Gap::Missing`] ("not available", never zero); one that is there
//! but says nothing is [`Gap::Broken`]. Nothing here judges, and no content can cause a panic.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use rustix::io::Errno;

use crate::client::shortage;

/// Bytes of one file; /proc/stat of a machine with hundreds of CPUs stays far below.
const LIMIT: u64 = 4 * 1024 * 1024;

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gap {
    /// This kernel or container does not offer it.
    Missing,
    /// It is offered but cannot be read or understood; the reason in words.
    Broken(String),
}

/// A value, or why there is none.
pub type Seen<T> = Result<T, Gap>;

/// Reads `<proc>/<name>` as text.
pub fn text(proc: &Path, name: &str) -> Seen<String> {
    let mut bytes = Vec::new();
    let read = File::open(proc.join(name)).and_then(|file| file.take(LIMIT + 1).read_to_end(&mut bytes));
    match read {
        Ok(read) if read as u64 > LIMIT => Err(Gap::Broken(format!("{name} is larger than 4 MiB"))),
        Ok(_) if bytes.is_empty() => Err(Gap::Broken(format!("{name} is empty"))),
        Ok(_) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => Err(gap(name, &error)),
    }
}

/// Reads a file that every kernel has: one that is not there is a fault, whose reason this is.
pub fn promised(proc: &Path, name: &str) -> Seen<String> {
    let missing = || Gap::Broken(format!("{} does not exist", proc.join(name).display()));
    text(proc, name).map_err(|gap| if gap == Gap::Missing { missing() } else { gap })
}

/// Pressure files exist where the kernel has them built in but switched off, and then refuse to be read.
fn gap(name: &str, error: &io::Error) -> Gap {
    let off = Errno::from_io_error(error) == Some(Errno::OPNOTSUPP);
    if off || matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
        Gap::Missing
    } else {
        Gap::Broken(format!("{name} cannot be read: {}", shortage::words(error)))
    }
}

fn broken<T>(name: &str) -> Seen<T> {
    Err(Gap::Broken(format!("{name} cannot be understood")))
}

/// Memory of the machine, in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// The kernel's estimate of what new programs can get without swapping (since 3.14).
    pub available: Option<u64>,
    /// The same as older kernels let it be estimated (Documentation/filesystems/proc.rst): what is free and what the
    /// caches hold, without shared memory, which is counted among them but is not given back.
    pub estimate: Option<u64>,
    /// All swap; 0 without swap.
    pub swap_total: u64,
    /// Free swap.
    pub swap_free: u64,
}

/// `/proc/meminfo`.
pub fn memory(text: &str) -> Seen<Memory> {
    let key = |name: &str| {
        text.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| *key == name)
            .and_then(|(_, value)| value.split_whitespace().next()?.parse::<u64>().ok())
    };
    match key("MemTotal") {
        Some(total) if total > 0 => Ok(Memory {
            total,
            available: key("MemAvailable"),
            estimate: estimate(&key),
            swap_total: key("SwapTotal").unwrap_or(0),
            swap_free: key("SwapFree").unwrap_or(0),
        }),
        _ => broken("meminfo"),
    }
}

fn estimate(key: &impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let caches = key("Buffers")?.saturating_add(key("Cached")?).saturating_add(key("SReclaimable").unwrap_or(0));
    Some(key("MemFree")?.saturating_add(caches.saturating_sub(key("Shmem").unwrap_or(0))))
}

/// What the cache of ZFS would give back, in KiB, from `/proc/spl/kstat/zfs/arcstats`: its size above its least size.
/// Nothing when it is larger than all memory, `total` KiB, for then the two files speak of different machines.
pub fn arc(text: &str, total: u64) -> Seen<u64> {
    let key = |name: &str| {
        let mut fields = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        fields.find_map(|fields| match fields.as_slice() {
            [key, _, value] if *key == name => value.parse::<u64>().ok(),
            _ => None,
        })
    };
    match (key("size"), key("c_min")) {
        (Some(size), Some(_)) if size / 1024 > total => Err(Gap::Missing),
        (Some(size), Some(least)) => Ok(size.saturating_sub(least) / 1024),
        _ => broken("arcstats"),
    }
}

/// The 1, 5 and 15 minute load of `/proc/loadavg`.
pub fn load(text: &str) -> Seen<[f64; 3]> {
    let mut numbers = text.split_whitespace().map(number);
    match (numbers.next().flatten(), numbers.next().flatten(), numbers.next().flatten()) {
        (Some(one), Some(five), Some(fifteen)) => Ok([one, five, fifteen]),
        _ => broken("loadavg"),
    }
}

/// CPUs that are online: the `cpuN` lines of `/proc/stat`.
pub fn cpus(text: &str) -> Seen<usize> {
    let is_cpu = |line: &&str| {
        line.split_whitespace()
            .next()
            .and_then(|word| word.strip_prefix("cpu"))
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    match text.lines().filter(is_cpu).count() {
        0 => broken("stat"),
        count => Ok(count),
    }
}

/// The `avg60` of the line `kind` (`some` or `full`) of a pressure file, in percent.
pub fn pressure(text: &str, kind: &str) -> Seen<f64> {
    let mut of_kind = text.lines().filter_map(|line| line.strip_prefix(kind)?.strip_prefix(' '));
    let Some(line) = of_kind.next() else {
        // Older kernels have no `full` for the CPU, and interrupts have no `some`.
        return if text.starts_with("some ") || text.starts_with("full ") {
            Err(Gap::Missing)
        } else {
            broken("pressure")
        };
    };
    let average = line.split_whitespace().find_map(|field| number(field.strip_prefix("avg60=")?));
    average.filter(|percent| (0.0..=100.0).contains(percent)).map_or_else(|| broken("pressure"), Ok)
}

/// Processes killed for lack of memory since boot: `oom_kill` of `/proc/vmstat` (since 4.13).
pub fn oom_kills(text: &str) -> Seen<u64> {
    let mut values = text.lines().filter_map(|line| line.strip_prefix("oom_kill ")).map(|n| n.trim().parse());
    match values.next() {
        Some(Ok(count)) => Ok(count),
        None if text.starts_with("nr_") => Err(Gap::Missing),
        Some(Err(_)) | None => broken("vmstat"),
    }
}

/// Open files of the machine: those in use and the ceiling, from `/proc/sys/fs/file-nr`. A ceiling
/// that no machine can reach is none ([`Gap::Missing`]).
pub fn files(text: &str) -> Seen<(u64, u64)> {
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(allocated)), Some(Ok(free)), Some(Ok(most))) => match most {
            0 => broken("file-nr"),
            most if most >= i64::MAX as u64 => Err(Gap::Missing),
            most => Ok((allocated.saturating_sub(free), most)),
        },
        _ => broken("file-nr"),
    }
}

/// One process, by its resident memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The kernel's name for it: no argument, which may be a secret.
    pub name: String,
    /// Its number.
    pub pid: u32,
    /// Resident memory in KiB.
    pub kib: u64,
}

/// Processes looked at, at most, to find the largest.
const PROCESSES: usize = 10_000;
/// The largest that are told.
const LARGEST: usize = 3;

/// The three processes with the most resident memory, the largest first; fewer where fewer can be read.
pub fn largest(proc: &Path) -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir(proc) else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).take(PROCESSES);
    let mut all: Vec<Process> =
        pids.filter_map(|pid| process(pid, &text(proc, &format!("{pid}/status")).ok()?)).collect();
    all.sort_by_key(|process| (std::cmp::Reverse(process.kib), process.pid));
    all.truncate(LARGEST);
    all
}

/// `/proc/<pid>/status`; `None` for a thread of the kernel, which has no memory.
fn process(pid: u32, text: &str) -> Option<Process> {
    let key = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let kib = key("VmRSS")?.split_whitespace().next()?.parse().ok()?;
    Some(Process { name: key("Name")?.to_string(), pid, kib })
}

/// Seconds since boot, from `/proc/uptime`.
pub fn uptime(text: &str) -> Seen<f64> {
    text.split_whitespace().next().and_then(number).map_or_else(|| broken("uptime"), Ok)
}

/// The name of this boot, from `/proc/sys/kernel/random/boot_id`.
pub fn boot(text: &str) -> Seen<String> {
    let id = text.trim();
    let plausible = id.len() == 36 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    if plausible { Ok(id.to_string()) } else { broken("boot_id") }
}

fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_switched_off_pressure_file_is_missing_and_a_forbidden_one_is_broken() {
        assert_eq!(gap("p", &Errno::OPNOTSUPP.into()), Gap::Missing);
        assert_eq!(gap("p", &Errno::NOENT.into()), Gap::Missing);
        assert!(matches!(gap("p", &Errno::ACCESS.into()), Gap::Broken(why) if why.contains("p cannot be read")));
    }

    #[test]
    fn old_kernels_leave_lines_out() {
        assert_eq!(pressure("some avg10=0.00 avg60=1.50 avg300=0.00 total=0\n", "some"), Ok(1.5));
        assert_eq!(pressure("some avg10=0.00 avg60=1.50 avg300=0.00 total=0\n", "full"), Err(Gap::Missing));
        assert_eq!(oom_kills("nr_free_pages 5\n"), Err(Gap::Missing));
        let old = memory("MemTotal: 8 kB\nMemFree: 2 kB\nBuffers: 1 kB\nCached: 3 kB\nShmem: 1 kB\n").unwrap();
        assert_eq!((old.available, old.estimate), (None, Some(5)));
        assert_eq!(memory("MemTotal: 8 kB\nMemFree: 2 kB\n").unwrap().estimate, None);
        for text in ["", "some", "some avg60=", "some avg60=x", "some avg60=1e9", "full avg10=1", "nonsense"] {
            assert!(pressure(text, "some").is_err(), "{text}");
        }
    }

    #[test]
    fn a_ceiling_that_nobody_reaches_is_none() {
        assert_eq!(files("1000\t0\t2000\n"), Ok((1000, 2000)));
        for none in ["1\t0\t9223372036854775807\n", "1\t0\t18446744073709551615\n"] {
            assert_eq!(files(none), Err(Gap::Missing));
        }
        for wrong in ["", "1\t0", "1 0 x", "1 0 0", "1 0 99999999999999999999", "-1 0 5"] {
            assert!(matches!(files(wrong), Err(Gap::Broken(_))), "{wrong}");
        }
    }

    #[test]
    fn only_online_cpus_count() {
        let many = (0..256).map(|n| format!("cpu{n} 1 2 3\n")).collect::<Vec<_>>().concat();
        assert_eq!(cpus(&format!("cpu  1 2 3\n{many}intr 5\ncpuidle 4\n")), Ok(256));
        assert!(cpus("cpu  1 2 3\n").is_err());
    }

    const TOKENS: &[&str] = &[
        "MemTotal:",
        "MemAvailable:",
        "MemFree:",
        "Cached:",
        "Buffers:",
        "size 4 ",
        "c_min 4 ",
        "SwapTotal:",
        " kB",
        "some ",
        "full ",
        "avg60=",
        "oom_kill ",
        "nr_",
        "cpu",
        "0",
        "17",
        "1.5",
        "-1",
        "1e999",
        "NaN",
        "inf",
        "18446744073709551615",
        "99999999999999999999",
        " ",
        "\t",
        "\n",
        "ü",
        "\u{0}",
        "\u{fffd}",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn no_content_causes_a_panic(picks in prop::collection::vec(0..TOKENS.len(), 0..20)) {
            let text: String = picks.into_iter().map(|pick| TOKENS[pick]).collect();
            let _ = (arc(&text, 17), super::super::mounts::table(&text));
            let _ = (memory(&text), load(&text), cpus(&text), oom_kills(&text), files(&text), uptime(&text), boot(&text));
            for kind in ["some", "full"] {
                if let Ok(percent) = pressure(&text, kind) {
                    prop_assert!((0.0..=100.0).contains(&percent));
                }
            }
        }
    }
}
