//! What happened to the machine, in a few words, and what to do next: the one table of this source
//! (`adr/0035-advice-belongs-to-the-verdict.md`).
//!
//! What is always the same for a signal is made once, with its gauge; what needs a look at the machine (the largest
//! processes, how fast a disk fills up) is made only while something is wrong.

use std::collections::VecDeque;
use std::time::Duration;

use super::proc::Process;
use super::words::{bytes, kib};
use crate::core::about::Details;
use crate::core::reach::quoted;
use crate::core::time::{Mono, people};

/// What a signal is called, what happened when it fires, and what to do then.
pub struct Saying {
    /// The name that a person would use.
    pub name: &'static str,
    /// What happened.
    pub happened: &'static str,
    /// What to do next.
    pub advice: &'static str,
}

/// Memory in use.
pub const MEMORY: Saying = Saying {
    name: "memory",
    happened: "is nearly full",
    advice: "ps aux --sort=-rss | head; restart what leaks, or give it a limit",
};
/// Swap in use.
pub const SWAP: Saying =
    Saying { name: "swap", happened: "is nearly full", advice: "ps aux --sort=-rss | head; free -h; vmstat 5 3" };
/// Load per CPU.
pub const LOAD: Saying = Saying {
    name: "load",
    happened: "is high",
    advice: "top -b -n1 | head -n 20; processes in state D wait for disks: ps -eo stat,pid,comm | grep '^D'",
};
/// Waiting for memory.
pub const MEMORY_STALLS: Saying = Saying {
    name: "memory",
    happened: "is too short",
    advice: "ps aux --sort=-rss | head; stop something, or add memory",
};
/// Waiting for disks.
pub const IO_STALLS: Saying = Saying {
    name: "I/O",
    happened: "is stalling",
    advice: "iotop -obn3, or iostat -x 5 3; ps -eo stat,pid,comm | grep '^D'",
};
/// Waiting for CPUs.
pub const CPU_STALLS: Saying = Saying { name: "CPU", happened: "is overloaded", advice: "top -b -n1 | head -n 20" };
/// Open files of the machine.
pub const FILES: Saying = Saying {
    name: "open files",
    happened: "are nearly used up",
    advice: "lsof | awk '{print $1}' | sort | uniq -c | sort -n | tail; or raise fs.file-max",
};
/// Processes killed for lack of memory.
pub const OOM: Saying = Saying {
    name: "the kernel",
    happened: "killed a process (out of memory)",
    advice: "journalctl -k -g 'Out of memory|oom-kill'; raise the memory limit of what was killed, or find the leak",
};
/// A reboot.
pub const REBOOT: Saying = Saying {
    name: "the host",
    happened: "was rebooted",
    advice: "who or what did it? last -x | head; journalctl -b -1 -e",
};
/// File systems that came and went.
pub const MOUNTS: Saying =
    Saying { name: "file systems", happened: "have changed", advice: "findmnt; dmesg | tail -n 50" };

impl Saying {
    /// What is said when it fires.
    pub fn details(&self) -> Details {
        Details::new(self.happened, self.advice)
    }

    /// The same with the largest processes as evidence.
    pub fn with(&self, processes: &[Process]) -> Details {
        let one = |process: &Process| format!("{} (pid {}) {}", process.name, process.pid, kib(process.kib));
        let list: Vec<String> = processes.iter().map(one).collect();
        let line = if list.is_empty() { String::new() } else { format!("largest: {}", list.join(", ")) };
        self.details().with(line)
    }
}

/// A file system is nearly full.
pub fn disk(percent: f64, path: &str, growth: Option<String>) -> Details {
    let docker = if path == "/" || path.starts_with("/var") { "; docker system df" } else { "" };
    let advice = format!("du -xh --max-depth=2 {} | sort -h | tail{docker}", quoted(path));
    Details::new(format!("is {percent:.0} % full"), advice).with(growth.unwrap_or_default())
}

/// A file system has few inodes left.
pub fn inodes(path: &str) -> Details {
    Details::new("is running out of inodes", format!("du --inodes -xS {} | sort -n | tail", quoted(path)))
}

/// A file system turned read-only.
pub fn readonly(path: &str) -> Details {
    let advice = format!("back up what matters; dmesg | tail -n 50; findmnt {}; check the disk", quoted(path));
    Details::new("turned read-only", advice)
}

/// A file system is not mounted.
pub fn unmounted(path: &str) -> Details {
    let path = quoted(path);
    Details::new("is not mounted", format!("findmnt {path}; mount {path}; dmesg | tail -n 50"))
}

/// A file system does not answer, or cannot be looked at.
pub fn unseen(path: &str) -> Details {
    let path = quoted(path);
    Details::new("cannot be checked", format!("timeout 5 stat -f {path}; findmnt {path}; is its server reachable?"))
}

/// Nothing of the machine can be read.
pub fn blind() -> Details {
    let advice = "mount the machine's /proc read-only into the container and set host.proc: -v /proc:/host/proc:ro";
    Details::new("cannot be read", advice)
}

/// How much of a disk was in use over the last hour, a look a minute.
#[derive(Debug, Default)]
pub struct Growth {
    looks: VecDeque<(Mono, u64)>,
}

/// The time over which growth is told.
const HOUR: Duration = Duration::from_hours(1);
/// The distance of two looks that are kept.
const STEP: Duration = Duration::from_mins(1);
/// The least time over which growth says anything.
const LEAST: Duration = Duration::from_mins(10);

impl Growth {
    /// So many bytes are in use now.
    pub fn note(&mut self, at: Mono, used: u64) {
        if self.looks.back().is_some_and(|(last, _)| *last > at) {
            self.looks.clear();
        }
        if self.looks.back().is_none_or(|(last, _)| at.since(*last) >= STEP) {
            self.looks.push_back((at, used));
        }
        while self.looks.front().is_some_and(|(first, _)| at.since(*first) > HOUR) {
            self.looks.pop_front();
        }
    }

    /// How fast it fills up and when it is full, in words; `None` while nobody can tell, or while it does not grow.
    pub fn words(&self, at: Mono, used: u64, left: u64) -> Option<String> {
        let (first, before) = self.looks.front()?;
        let span = at.since(*first);
        let grown = used.checked_sub(*before).filter(|grown| *grown > 0)?;
        if span < LEAST {
            return None;
        }
        let full = Duration::try_from_secs_f64(span.as_secs_f64() * left as f64 / grown as f64).ok();
        let full = full.filter(|full| *full < Duration::from_hours(24 * 30));
        let full = full.map(|full| format!("; full in {} at this rate", people(full))).unwrap_or_default();
        Some(format!("grew {} in the last {}{full}", bytes(grown), people(span)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn growth_is_told_over_the_last_hour_with_the_time_until_it_is_full() {
        let mut growth = Growth::default();
        let at = |minute: i64| Mono(minute * 60_000);
        for minute in 0..=90 {
            growth.note(at(minute), u64::try_from(minute).unwrap() * 20 * MIB);
        }
        let words = growth.words(at(90), 1800 * MIB, 4 * 1200 * MIB).unwrap();
        assert_eq!(words, "grew 1.2 GiB in the last 1 h; full in 4 h at this rate");
        assert_eq!(growth.words(at(90), 600 * MIB, MIB), None, "it does not grow");
        let mut fresh = Growth::default();
        fresh.note(at(0), 0);
        assert_eq!(fresh.words(at(9), MIB, MIB), None, "too early to tell");
        fresh.note(at(-5), MIB);
        assert_eq!(fresh.looks.len(), 1, "a clock that went back begins anew");
        assert!(growth.looks.len() <= 61);
    }
}
