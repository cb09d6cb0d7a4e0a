//! The gate: may a machine be touched now? One pure function over named facts.
//!
//! Every fact has to hold; each that does not is a reason by name. There is no other way to a
//! request that takes a machine down. See `adr/0021-the-gate.md`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What has to be known before a machine is touched. Each is true when it speaks for acting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The node was seen alive at least once.
    pub was_alive: bool,
    /// We can see: Consul and its leader, the provider's API, and at least one reference.
    pub observer_sees: bool,
    /// No more nodes are ill than may be at once.
    pub few_are_ill: bool,
    /// There is room among the repairs under way, in all and in the node's failure domain.
    pub has_room: bool,
    /// The budget of the hour and of the day is not spent.
    pub has_budget: bool,
    /// Every evidence signal says down, freshly, and there is one where one is required.
    pub evidence_agrees: bool,
    /// The provider says that the machine runs.
    pub is_running: bool,
    /// We hold the lease.
    pub holds_lease: bool,
    /// Nobody has paused repairs.
    pub is_unpaused: bool,
    /// We have looked without a break for as long as it takes to call a node lost.
    pub is_warm: bool,
    /// What we do is written to a file that works.
    pub is_durable: bool,
    /// The node has attempts left.
    pub has_attempts: bool,
    /// It is not the machine that we run on, as far as its heartbeat tells (F79).
    pub is_elsewhere: bool,
    /// Nobody silenced it, and no planned work covers it, for as long as it takes to call a node lost.
    pub is_heard: bool,
}

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
            Blocked::BudgetSpent => "time must pass, or recovery.max_per_hour or max_per_day be raised",
            Blocked::EvidenceDisagrees => {
                "every signal named in its evidence must be down; with one or two nodes there must be one"
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

/// Every reason not to act; none means go.
pub fn gate(facts: Facts) -> Vec<Blocked> {
    let holds = [
        (facts.was_alive, Blocked::NeverSeen),
        (facts.observer_sees, Blocked::ObserverBlind),
        (facts.few_are_ill, Blocked::TooManyMissing),
        (facts.has_room, Blocked::InFlight),
        (facts.has_budget, Blocked::BudgetSpent),
        (facts.evidence_agrees, Blocked::EvidenceDisagrees),
        (facts.is_running, Blocked::NotRunning),
        (facts.holds_lease, Blocked::NotLeader),
        (facts.is_unpaused, Blocked::Paused),
        (facts.is_warm, Blocked::WarmingUp),
        (facts.is_durable, Blocked::NoStateFile),
        (facts.has_attempts, Blocked::AttemptsExhausted),
        (facts.is_elsewhere, Blocked::OwnMachine),
        (facts.is_heard, Blocked::Silenced),
    ];
    holds.into_iter().filter(|(holds, _)| !holds).map(|(_, reason)| reason).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The facts whose bits are set in `bits`, in the order of [`Blocked::ALL`].
    fn facts(bits: u16) -> Facts {
        let holds = |n: u16| bits & (1 << n) != 0;
        Facts {
            was_alive: holds(0),
            observer_sees: holds(1),
            few_are_ill: holds(2),
            has_room: holds(3),
            has_budget: holds(4),
            evidence_agrees: holds(5),
            is_running: holds(6),
            holds_lease: holds(7),
            is_unpaused: holds(8),
            is_warm: holds(9),
            is_durable: holds(10),
            has_attempts: holds(11),
            is_elsewhere: holds(12),
            is_heard: holds(13),
        }
    }

    #[test]
    fn of_all_16384_combinations_one_opens_the_gate_and_each_missing_fact_is_named() {
        let mut open = 0;
        for bits in 0..1_u16 << Blocked::ALL.len() {
            let blocked = gate(facts(bits));
            let missing: Vec<Blocked> =
                (0_u16..).zip(Blocked::ALL).filter(|(n, _)| bits & (1 << n) == 0).map(|(_, reason)| reason).collect();
            assert_eq!(blocked, missing, "{bits:014b}");
            open += usize::from(blocked.is_empty());
        }
        assert_eq!(open, 1);
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
