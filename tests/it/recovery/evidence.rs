//! What counts as evidence: a signal that fires by its last look, and does not flap.

use std::time::Duration;

use watchdog::core::rule::{Rule, Test};
use watchdog::core::signal::{Reading, State};

use crate::world::{World, full, policy, saw, spec};

#[test]
fn a_signal_that_still_fires_is_bad_only_by_its_last_look_and_only_while_it_does_not_flap() {
    let (mut world, spec) = (World::new(policy()), spec("probe/n1", Rule::counted(Test::Verdict)));
    // How it stands after one more look, and whether it counts.
    let mut see = |reading| {
        world.pass_time(Duration::from_secs(15));
        let at = world.now.mono;
        world.pass(vec![full("eye", at, vec![saw(&spec, at, reading)])]);
        let standing = world.watch.standings().find(|standing| standing.key == spec.key);
        (standing.unwrap().state, world.watch.is_bad(&spec.key))
    };
    see(Reading::Up);
    assert_eq!([Reading::Down; 4].map(&mut see).map(|(_, is_bad)| is_bad), [false, false, true, true]);
    assert_eq!(see(Reading::Up), (State::Firing, false), "it is about to recover");
    assert_eq!(see(Reading::Down), (State::Firing, true));
    for _ in 0..8 {
        see(Reading::Up);
        see(Reading::Down);
    }
    assert_eq!(see(Reading::Down), (State::Firing, false), "it flaps");
}
