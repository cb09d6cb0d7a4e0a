//! Three servers that elect again and again. Nobody is repaired, or called lost, for that.

use std::time::{Duration, Instant};

use super::amnesia::{NAMES, agent, wait_all};
use super::{Scene, linger, wait_phase};
use crate::daemon::{Daemon, wait};
use crate::parts;
use crate::peer::consul::Cluster;

#[test]
fn the_leader_of_three_servers_is_killed_ten_times_and_nobody_is_touched_or_called_lost() {
    if !parts::consul() {
        return;
    }
    let mut cluster = Cluster::three();
    let scene = Scene::new(&NAMES);
    // Each at another server: whoever leads, somebody's own server dies each time.
    let _beacons: Vec<Daemon> = NAMES
        .iter()
        .zip(&cluster.servers)
        .map(|(name, server)| scene.beacon(name, &server.url(), "10s", "1s"))
        .collect();
    let agent = scene.start(&agent(&scene, &cluster.servers[0].url()));
    NAMES.iter().for_each(|name| wait_phase(&agent, name, "healthy"));
    let begun = Instant::now();
    for _ in 0..10 {
        let leader = cluster.wait_leader();
        cluster.kill(leader);
        let next = cluster.wait_leader();
        assert_ne!(next, leader);
        cluster.start(leader);
        wait("the killed server to answer", || cluster.servers[leader].client().leader().ok().flatten());
    }
    println!("ten elections in {:?}", begun.elapsed());
    wait_all(&agent, "ok");
    linger(&agent, Duration::from_secs(2));
    scene.assert_untouched();
    let story = scene.story();
    assert!(!story.contains("heartbeat is gone"), "{story}");
    NAMES.iter().for_each(|name| wait_phase(&agent, name, "healthy"));
}
