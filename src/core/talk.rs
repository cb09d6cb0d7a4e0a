//! A conversation with a person about one trouble: its incident, when it began, what was said last.
//!
//! Two may run about one signal: that it is bad, and that nobody can see it. Whether something is
//! said now is [`decide`](super::decide)'s to answer; this file only remembers what was said, and
//! carries it across a restart (F5): instants of another boot mean nothing on this one's clock.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::decide::Said;
use super::edge::{EdgeKind, Incident};
use super::signal::{Severity, SignalKey};
use super::time::{Mono, Now, Wall};

/// What a conversation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// The signal is bad.
    Bad,
    /// Nobody can see it.
    Blind,
}

impl Topic {
    /// The kind of edge that opens the conversation.
    pub fn opens(self) -> EdgeKind {
        match self {
            Topic::Bad => EdgeKind::Alert,
            Topic::Blind => EdgeKind::Unknown,
        }
    }

    /// The kind of edge that says it again.
    pub fn repeats(self) -> EdgeKind {
        match self {
            Topic::Bad => EdgeKind::Realert,
            Topic::Blind => EdgeKind::Unknown,
        }
    }

    /// The kind of edge that ends it.
    pub fn closes(self) -> EdgeKind {
        match self {
            Topic::Bad => EdgeKind::Recovery,
            Topic::Blind => EdgeKind::Seen,
        }
    }

    /// Why the conversation ends when its subject is no longer watched.
    pub fn removed(self) -> &'static str {
        match self {
            Topic::Bad => "it was failing until then",
            Topic::Blind => "nobody could see it before",
        }
    }
}

/// A conversation with a person about one trouble.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Talk {
    /// Its incident.
    pub incident: Incident,
    /// What was said last, and when.
    pub said: Said,
    /// The same instant by the wall clock, to bridge a reboot.
    pub said_wall: Wall,
    /// When the trouble began.
    pub since: Mono,
    /// The same by the wall clock.
    pub since_wall: Wall,
    /// When the trouble was noticed, where its source knew that it had begun materially earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noticed: Option<Wall>,
    /// It was told that the signal is flapping, which is told once.
    #[serde(default)]
    pub flapping: bool,
    /// Reminders sent so far.
    #[serde(default)]
    pub reminders: u32,
    /// The fact that was told last.
    #[serde(default)]
    pub was: String,
    /// The worst severity that it was told with; unknown in what earlier versions kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst: Option<Severity>,
    /// The milder severity that it was told to have now, because somebody meant what is bad about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turned: Option<Severity>,
}

/// When a trouble began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Began {
    /// When it began: as its source knows it, else when it was noticed.
    pub since: Now,
    /// When it was noticed, where that was materially later.
    pub noticed: Option<Wall>,
}

impl Began {
    /// It began and was noticed at `now`.
    pub fn noticed(now: Now) -> Began {
        Began { since: now, noticed: None }
    }

    /// It was noticed at `now` and happened at `happened`, by a clock that need not be ours: an instant in
    /// the future or before 2020 is not believed. The duration counts from there by our own clock, so that
    /// since and for how long agree with each other.
    pub fn happened(happened: Option<Wall>, now: Now) -> Began {
        let Some(at) = happened.filter(|at| *at < now.wall && at.0 >= YEAR_2020) else { return Began::noticed(now) };
        let ago = now.wall.since(at);
        let since = Now { wall: at, mono: now.mono.minus(ago), awake: now.awake.minus(ago) };
        Began { since, noticed: (ago >= MATERIAL).then_some(now.wall) }
    }
}

/// Between what happened and its being noticed a minute or more is said.
const MATERIAL: Duration = Duration::from_mins(1);
/// 2020-01-01T00:00:00Z. A clock that shows an earlier date was never set.
const YEAR_2020: i64 = 1_577_836_800_000;

impl Talk {
    /// A conversation that opens now about a trouble that began as `began` says.
    pub fn open(incident: Incident, began: Began, now: Now) -> Talk {
        Talk {
            incident,
            said: Said { at: now.mono },
            said_wall: now.wall,
            since: began.since.mono,
            since_wall: began.since.wall,
            noticed: began.noticed,
            flapping: false,
            reminders: 0,
            was: String::new(),
            worst: None,
            turned: None,
        }
    }

    /// True when what is seen is worse than what was told: of this `severity` (none when nothing bad is seen), or
    /// flapping, which is told once also to whoever knows that it is bad. What is `meant` is news also when it is
    /// milder: whoever was woken by worse is told that somebody is at it.
    pub fn is_news(&self, severity: Option<Severity>, flapping: bool, meant: bool) -> bool {
        let told = self.turned.or(self.worst);
        let other = |now: Severity| told.is_some_and(|told| now < told || (meant && now > told));
        (flapping && !self.flapping) || severity.is_some_and(other)
    }

    /// It is told with this severity; true when that is another than before, and so no reminder.
    pub fn tell(&mut self, severity: Severity, meant: bool) -> bool {
        let told = self.turned.or(self.worst);
        let is_worse = told.is_some_and(|told| severity < told);
        let is_milder = meant && told.is_some_and(|told| severity > told);
        if is_worse || is_milder {
            self.turned = is_milder.then_some(severity);
        }
        self.worst = Some(self.worst.map_or(severity, |worst| worst.min(severity)));
        is_worse || is_milder
    }

    /// The same, told with this severity where an earlier version did not keep it.
    #[must_use]
    pub fn told_as(self, severity: Severity) -> Talk {
        Talk { worst: self.worst.or(Some(severity)), ..self }
    }

    /// The conversation as an earlier run left it. Its instants hold when this is the same boot and
    /// they are past; otherwise the wall clock bridges the gap, bounded to between nothing and one
    /// cooldown, so that no clock can silence a reminder for longer than that.
    #[must_use]
    pub fn carried(mut self, now: Now, same_boot: bool, cooldown: Duration) -> Talk {
        if !same_boot || self.said.at > now.mono {
            self.said.at = now.mono.minus(now.wall.since(self.said_wall).min(cooldown));
            self.since = now.mono.minus(now.wall.since(self.since_wall)).min(self.said.at);
        }
        self
    }
}

/// Names incidents: six letters or digits, no two alike within one run (28⁶ = 482 million names),
/// the same for the same history.
#[derive(Debug, Clone, Default)]
pub struct Namer {
    next: Option<u64>,
}

/// How many names there are.
const NAMES: u64 = 28u64.pow(6);
/// Coprime to [`NAMES`] (neither even nor a multiple of seven), so that stepping by it visits every
/// name once before any comes again; large, so that neighbours look unlike.
const STRIDE: u64 = 297_871_277;

impl Namer {
    /// A new name for an incident of this signal that begins now.
    pub fn name(&mut self, key: &SignalKey, now: Now) -> Incident {
        // No vowels, no look-alikes: names that can be read aloud and never spell a word.
        const LETTERS: &[u8; 28] = b"23456789bcdfghjkmnpqrstvwxyz";
        let mut rest = self.next.unwrap_or_else(|| beginning(key, now));
        self.next = Some((rest + STRIDE) % NAMES);
        let mut name = String::with_capacity(6);
        for _ in 0..6 {
            let letter = LETTERS.get((rest % 28) as usize).copied().unwrap_or(b'x');
            name.push(char::from(letter));
            rest /= 28;
        }
        Incident(name)
    }
}

/// Where a run begins among the names: elsewhere than the run before, by the hash (FNV-1a) of its
/// first incident.
fn beginning(key: &SignalKey, now: Now) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in key.as_str().bytes().chain(now.wall.0.to_le_bytes()).chain(now.mono.0.to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // The low bits mix poorly for short inputs; fold the high ones in.
    (hash ^ (hash >> 29)) % NAMES
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    const MINUTE: i64 = 60_000;

    #[test]
    fn a_cooldown_survives_a_restart_within_nothing_and_one_cooldown() {
        let now = |wall: i64, mono: i64| Now { wall: Wall(wall * MINUTE), mono: Mono(mono * MINUTE), awake: Mono(0) };
        let talk = Talk::open(Incident("k3f9".to_string()), Began::noticed(now(1_000, 500)), now(1_010, 510));
        // Same boot or another, and where both clocks stand; then how long ago it was said, in minutes.
        let table = [
            (true, now(1_040, 540), 30),
            (true, now(999_999, 540), 30),
            (true, now(0, 540), 30),
            (true, now(1_040, 3), 30),
            (false, now(1_040, 3), 30),
            (false, now(1_040, 900), 30),
            (false, now(999_999, 3), 60),
            (false, now(0, 3), 0),
            (false, now(0, 900), 0),
        ];
        for (same_boot, now, minutes) in table {
            let carried = talk.clone().carried(now, same_boot, HOUR);
            assert_eq!(now.mono.0 - carried.said.at.0, minutes * MINUTE, "{same_boot} {now:?}");
            assert!(carried.since <= carried.said.at);
        }
    }

    #[test]
    fn an_instant_of_another_clock_is_believed_only_where_it_can_be_true() {
        let now = Now { wall: Wall(1_767_225_600_000), mono: Mono(500_000), awake: Mono(400_000) };
        let half_an_hour = now.wall.minus(Duration::from_mins(30));
        let began = Began::happened(Some(half_an_hour), now);
        assert_eq!((began.since.wall, began.noticed), (half_an_hour, Some(now.wall)));
        assert_eq!(now.mono.since(began.since.mono), Duration::from_mins(30), "both clocks say the same");
        let close = now.wall.minus(Duration::from_secs(59));
        assert_eq!(Began::happened(Some(close), now).noticed, None);
        assert_eq!(Began::happened(Some(close), now).since.wall, close);
        let nonsense = [now.wall, now.wall.plus(Duration::from_secs(1)), Wall(i64::MAX), Wall(i64::MIN), Wall(0)];
        for at in nonsense.map(Some).into_iter().chain([None, Some(Wall(YEAR_2020 - 1))]) {
            assert_eq!(Began::happened(at, now), Began::noticed(now), "{at:?}");
        }
    }

    #[test]
    fn no_two_incidents_of_a_run_share_a_name() {
        let (mut namer, now) = (Namer::default(), Now::default());
        let key = SignalKey::new("container/web");
        let names: BTreeSet<Incident> = (0..20_000).map(|_| namer.name(&key, now)).collect();
        assert_eq!(names.len(), 20_000);
        assert!(names.iter().all(|name| name.0.len() == 6 && name.0.bytes().all(|b| b.is_ascii_alphanumeric())));
        // Every name comes once before any comes again.
        let gcd = |mut a: u64, mut b: u64| {
            while b != 0 {
                (a, b) = (b, a % b);
            }
            a
        };
        assert_eq!(gcd(STRIDE, NAMES), 1);
    }
}
