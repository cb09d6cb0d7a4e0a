//! Tokens that are revoked, narrowed and rotated: what is hidden is not missing.

use std::time::Duration;

use super::{Scene, linger, wait_phase};
use crate::daemon::wait;
use crate::parts;
use crate::peer::consul::{Consul, Dev};
use crate::peer::oci::Kind;
use crate::repair::Beat;
use crate::setup::{ALONE, Setup};

const RULES: &str = "session_prefix \"\" { policy = \"write\" } key_prefix \"watchdog/\" { policy = \"write\" }";

fn with_token(scene: &Scene, consul: &Consul, token: &str) -> Setup {
    let file = scene.home.path().join("token");
    std::fs::write(&file, token).unwrap();
    let setup = scene.agent(&consul.url()).node("n1", ALONE);
    setup.set("consul.token_file", file.display().to_string())
}

#[test]
fn a_revoked_token_makes_blind_and_a_rotated_one_heals() {
    if !parts::consul() {
        return;
    }
    let (scene, consul) = (Scene::new(&["n1"]), Consul::dev(Dev { acl: true, ..Dev::default() }));
    let beat = Beat::start(&consul, "n1", "boot-1");
    let token = consul.make_token("agent", RULES);
    let agent = scene.start(&with_token(&scene, &consul, &token.secret));
    wait_phase(&agent, "n1", "healthy");
    agent.wait_state("node/n1", "ok");
    consul.revoke(&token);
    agent.wait_state("source/consul", "firing");
    scene.wait_told("source consul");
    agent.wait_state("node/n1", "unknown");
    linger(&agent, Duration::from_secs(3));
    scene.assert_untouched();
    let next = consul.make_token("agent-2", RULES);
    std::fs::write(scene.home.path().join("token.new"), &next.secret).unwrap();
    std::fs::rename(scene.home.path().join("token.new"), scene.home.path().join("token")).unwrap();
    agent.wait_state("source/consul", "ok");
    agent.wait_state("node/n1", "ok");
    scene.assert_untouched();
    // With the new token everything works again, the lease too.
    beat.dies();
    scene.wait_started(1);
    let _beat = Beat::start(&consul, "n1", "boot-2");
    wait_phase(&agent, "n1", "healthy");
    scene.assert_repaired_once("n1");
    let log = format!("{}{}", agent.stdout(), agent.stderr());
    assert!(!log.contains(&token.secret) && !log.contains(&next.secret), "{log}");
}

/// Lists come back empty and with a good status: Consul 1.8 says nothing about what it hides.
#[test]
fn keys_that_are_hidden_from_us_are_not_missing() {
    if !parts::consul() {
        return;
    }
    let (scene, consul) = (Scene::new(&["n1"]), Consul::dev(Dev { acl: true, ..Dev::default() }));
    let _beat = Beat::start(&consul, "n1", "boot-1");
    let token = consul.make_token("agent", RULES);
    let agent = scene.start(&with_token(&scene, &consul, &token.secret));
    wait_phase(&agent, "n1", "healthy");
    for (what, rules) in [
        ("everything", "session_prefix \"\" { policy = \"write\" }".to_string()),
        ("the nodes", format!("{RULES} key_prefix \"watchdog/nodes\" {{ policy = \"deny\" }}")),
    ] {
        policy(&consul, &rules);
        agent.wait_state("source/consul", "firing");
        linger(&agent, Duration::from_secs(4));
        scene.assert_untouched();
        assert!(scene.oci.asked(Kind::Get).is_empty(), "{what}: nothing was even considered");
        assert!(!scene.story().contains("heartbeat is gone"), "{what}: {}", scene.story());
        policy(&consul, RULES);
        agent.wait_state("source/consul", "ok");
        agent.wait_state("node/n1", "ok");
    }
    scene.assert_untouched();
}

/// Changes what the agent's token may do.
fn policy(consul: &Consul, rules: &str) {
    let (_, list) = consul.api("GET", "/v1/acl/policies", "").unwrap();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let found = list.as_array().unwrap().iter().find(|policy| policy["Name"] == "agent").unwrap();
    let body = serde_json::json!({ "Name": "agent", "Rules": rules }).to_string();
    wait("the policy to be taken", || {
        let path = format!("/v1/acl/policy/{}", found["ID"].as_str().unwrap());
        let (status, _) = consul.api("PUT", &path, &body)?;
        (status == 200).then_some(())
    });
}
