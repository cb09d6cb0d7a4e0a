//! How long to wait before trying again: longer each time, up to a limit, and never all at once.
//!
//! The spread is worked out from a name, so that the same history gives the same waits (A8) and two
//! machines do not ask at the same instants.

use std::time::Duration;

/// The wait before try number `tries` (from 1): `first`, doubled each time, at most `limit`, less up
/// to a quarter by which `name` spreads it. Try 0 waits for nothing.
pub fn wait(tries: u32, first: Duration, limit: Duration, name: &str) -> Duration {
    if tries == 0 {
        return Duration::ZERO;
    }
    let doubled = first.saturating_mul(1_u32.checked_shl(tries - 1).unwrap_or(u32::MAX)).min(limit);
    let mut hash: u32 = 0x811c_9dc5;
    for byte in name.bytes().chain(tries.to_le_bytes()) {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    // Divided first: the longest span there is must not overflow (C1).
    doubled.saturating_sub(doubled / 4 / 0x1_0000 * (hash >> 16))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(5);
    const LIMIT: Duration = Duration::from_mins(1);

    #[test]
    fn waits_double_up_to_the_limit_and_are_spread_by_a_quarter_at_most() {
        assert_eq!(wait(0, FIRST, LIMIT, "n1"), Duration::ZERO);
        for (tries, full) in [(1, 5), (2, 10), (3, 20), (4, 40), (5, 60), (33, 60), (u32::MAX, 60)] {
            for name in ["n1", "n2", ""] {
                let waited = wait(tries, FIRST, LIMIT, name);
                let full = Duration::from_secs(full);
                assert!(waited <= full && waited >= full * 3 / 4, "{tries} {name} {waited:?}");
            }
        }
        assert_ne!(wait(3, FIRST, LIMIT, "n1"), wait(3, FIRST, LIMIT, "n2"));
        assert!(wait(5, Duration::MAX, Duration::MAX, "n1").as_secs() > 0);
    }
}
