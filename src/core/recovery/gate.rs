//! The gate: may a target be touched now? One pure function over a list of named facts.
//!
//! Every fact has to hold; each that does not is a reason by name. There is no other way to a
//! request that takes a machine down. See `adr/0021-the-gate.md`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing that has to be known before a target is touched: whether it speaks for acting, and what stands in the way
/// where it does not.
pub type Fact = (bool, Blocked);

/// Why a machine is not touched; the words of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blocked {
    /// Nobody has ever seen the node alive.
    NeverSeen,
    /// We cannot see well enough.
    ObserverBlind,
    /// So many are missing that the fault is rather ours, or everybody's.
    TooManyMissing,
    /// Another repair is under way.
    InFlight,
    /// As many repairs as may be were begun in the last hour or day.
    BudgetSpent,
    /// Something says that the node is alive, or cannot tell, or there is nothing to ask.
    EvidenceDisagrees,
    /// The provider does not say that the machine runs.
    NotRunning,
    /// Another agent holds the lease, or nobody does.
    NotLeader,
    /// Repairs are paused by configuration.
    Paused,
    /// We have not looked for long enough since a start or a gap.
    WarmingUp,
    /// There is no state file, or it fails.
    NoStateFile,
    /// Every attempt was used.
    AttemptsExhausted,
    /// It is the machine that we run on.
    OwnMachine,
    /// A person silenced it, or planned work is going on.
    Silenced,
}

impl Blocked {
    /// Reasons that hold for every kind of target.
    pub const GENERIC: [Blocked; 12] = [
        Blocked::NeverSeen,
        Blocked::ObserverBlind,
        Blocked::TooManyMissing,
        Blocked::InFlight,
        Blocked::BudgetSpent,
        Blocked::EvidenceDisagrees,
        Blocked::NotLeader,
        Blocked::Paused,
        Blocked::WarmingUp,
        Blocked::NoStateFile,
        Blocked::AttemptsExhausted,
        Blocked::Silenced,
    ];

    /// Reasons that hold for machines.
    pub const OF_MACHINES: [Blocked; 2] = [Blocked::NotRunning, Blocked::OwnMachine];

    /// Every reason, in the order in which they are told.
    pub const ALL: [Blocked; 14] = [
        Blocked::NeverSeen,
        Blocked::ObserverBlind,
        Blocked::TooManyMissing,
        Blocked::InFlight,
        Blocked::BudgetSpent,
        Blocked::EvidenceDisagrees,
        Blocked::NotRunning,
        Blocked::NotLeader,
        Blocked::Paused,
        Blocked::WarmingUp,
        Blocked::NoStateFile,
        Blocked::AttemptsExhausted,
        Blocked::OwnMachine,
        Blocked::Silenced,
    ];

    /// The word of the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Blocked::NeverSeen => "never-seen",
            Blocked::ObserverBlind => "observer-blind",
            Blocked::TooManyMissing => "too-many-missing",
            Blocked::InFlight => "in-flight",
            Blocked::BudgetSpent => "budget-spent",
            Blocked::EvidenceDisagrees => "evidence-disagrees",
            Blocked::NotRunning => "not-running",
            Blocked::NotLeader => "not-leader",
            Blocked::Paused => "paused",
            Blocked::WarmingUp => "warming-up",
            Blocked::NoStateFile => "no-state-file",
            Blocked::AttemptsExhausted => "attempts-exhausted",
            Blocked::OwnMachine => "own-machine",
            Blocked::Silenced => "silenced",
        }
    }

    /// What would have to change, for people.
    pub fn to_change(self) -> &'static str {
        match self {
            Blocked::NeverSeen => "its heartbeat must be seen once",
            Blocked::ObserverBlind => "Consul with a leader, the provider's API and a reference must answer",
            Blocked::TooManyMissing => "fewer nodes must be ill, for five minutes",
            Blocked::InFlight => "the repair under way must end",
            Blocked::BudgetSpent => "time must pass, or recovery.max_per_hour, max_per_day or max_per_node be raised",
            Blocked::EvidenceDisagrees => {
                "all signals named in its evidence must be failing, too; a fleet of one or two nodes needs such a signal"
            }
            Blocked::NotRunning => {
                "the provider must say RUNNING; a machine that somebody stopped is left alone (when_stopped)"
            }
            Blocked::NotLeader => "this agent must hold the lease",
            Blocked::Paused => "recovery.paused must be false",
            Blocked::WarmingUp => "the watchdog must have looked without a break for as long as `after`",
            Blocked::NoStateFile => "`state` must name a file that can be written",
            Blocked::AttemptsExhausted => "it must be healthy for attempts_reset_after, or be repaired by hand",
            Blocked::OwnMachine => {
                "this agent runs on it and would take itself down: an agent elsewhere must repair it, or a person"
            }
            Blocked::Silenced => {
                "its silence or maintenance window must end (watchdog silences), and `after` must pass once more"
            }
        }
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Every reason not to act, in the order in which they are told; none means go. A fact that was not asked for is one
/// that this kind of target does not need.
pub fn gate(facts: &[Fact]) -> Vec<Blocked> {
    let mut blocked: Vec<Blocked> = facts.iter().filter(|(holds, _)| !holds).map(|(_, reason)| *reason).collect();
    blocked.sort_unstable();
    blocked.dedup();
    blocked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_all_16384_combinations_one_opens_the_gate_and_each_missing_fact_is_named() {
        let mut open = 0;
        for bits in 0..1_u16 << Blocked::ALL.len() {
            let facts: Vec<Fact> =
                (0_u16..).zip(Blocked::ALL).map(|(n, reason)| (bits & (1 << n) != 0, reason)).collect();
            let blocked = gate(&facts);
            let missing: Vec<Blocked> =
                (0_u16..).zip(Blocked::ALL).filter(|(n, _)| bits & (1 << n) == 0).map(|(_, reason)| reason).collect();
            assert_eq!(blocked, missing, "{bits:014b}");
            open += usize::from(blocked.is_empty());
        }
        assert_eq!(open, 1);
    }

    #[test]
    fn every_reason_is_of_all_or_of_a_kind() {
        let mut all = [&Blocked::GENERIC[..], &Blocked::OF_MACHINES[..]].concat();
        all.sort_unstable();
        assert_eq!(all, Blocked::ALL);
    }

    #[test]
    fn a_fact_that_is_not_asked_for_keeps_nobody_back_and_one_asked_for_twice_is_told_once() {
        assert_eq!(gate(&[]), []);
        let twice = [
            (false, Blocked::Paused),
            (true, Blocked::NeverSeen),
            (false, Blocked::InFlight),
            (false, Blocked::Paused),
        ];
        assert_eq!(gate(&twice), [Blocked::InFlight, Blocked::Paused]);
    }

    #[test]
    fn every_reason_has_the_word_of_the_contract() {
        let words: Vec<&str> = Blocked::ALL.into_iter().map(Blocked::as_str).collect();
        assert_eq!(
            words.join(" "),
            "never-seen observer-blind too-many-missing in-flight budget-spent evidence-disagrees not-running \
             not-leader paused warming-up no-state-file attempts-exhausted own-machine silenced"
        );
        for reason in Blocked::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }
}
