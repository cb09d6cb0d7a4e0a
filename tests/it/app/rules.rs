//! `[[app.rule]]`: what every kind of rule makes of what the application reports, and how a wrong one is named.

use super::*;

#[test]
fn each_failed_job_is_told_and_a_stuck_agent_once() {
    let peer = Peer::new(vec![json(ENVELOPE)]);
    let mut world = World::new(&peer.url(), JOB_AND_AGENT);
    let mut at = 1_750_000_000.0;
    let mut pass = |world: &mut World, failed, agents: &[(&str, u32)]| {
        at += 15.0;
        peer.say(envelope(at, failed, agents));
        world.tick()
    };
    for ticks in [100, 101, 102] {
        assert_eq!(pass(&mut world, 0, &[("a1", ticks), ("b2", ticks)]), []);
    }
    let edges = pass(&mut world, 2, &[("a1", 103), ("b2", 103)]);
    assert_eq!(told(&edges), [(EdgeKind::Alert, "app/job-failed", "/queue/counts/failed is 2 (rose from 0 to 2)")]);
    let edges = pass(&mut world, 3, &[("a1", 104), ("b2", 104)]);
    assert_eq!(told(&edges), [(EdgeKind::Alert, "app/job-failed", "/queue/counts/failed is 3 (rose from 2 to 3)")]);
    // A count that is cleared away is not a failure.
    assert_eq!(pass(&mut world, 0, &[("a1", 105), ("b2", 105)]), []);

    // a1 stands still, b2 works: ten minutes are forty looks.
    let mut edges = Vec::new();
    for look in 0..60 {
        edges.extend(pass(&mut world, 0, &[("a1", 105), ("b2", 106 + look)]));
        if look < 38 {
            assert_eq!(edges, [], "look {look}");
        }
    }
    assert_eq!(
        told(&edges),
        [(EdgeKind::Alert, "app/agent-stuck/a1", "cpu_ticks is 105, unchanged for 10 min (limit 10 min)")]
    );
    assert_eq!(world.states()["app/agent-stuck/b2"], State::Ok);

    // It ends: what was open about it is closed, and the other one goes without a word.
    let edges = pass(&mut world, 0, &[]);
    assert_eq!(told(&edges), [(EdgeKind::Removed, "app/agent-stuck/a1", "removed, no longer watched")]);
    assert!(!world.states().keys().any(|key| key.starts_with("app/agent-stuck")));
}

#[test]
fn a_metrics_page_feeds_thresholds_rises_and_absence() {
    let rules = r#"
[[app.rule]]
name = "errors"
value = 'http_requests_total{code="500",method!="GET"}'
when = "increases"
[[app.rule]]
name = "latency"
value = "latency_seconds{quantile='0.99'}"
when = ">= 0.5"
[[app.rule]]
name = "worker"
value = "worker_up"
when = "absent"
"#;
    let page = |errors: u32, latency: &str, worker: &str| {
        metrics(&format!(
            "# TYPE http_requests_total counter\nhttp_requests_total{{code=\"500\",method=\"POST\"}} {errors}\n\
             http_requests_total{{code=\"500\",method=\"PUT\",}} 7 1700000000000\n\
             http_requests_total{{code=\"500\",method=\"GET\"}} 1e9\nhttp_requests_total{{code=\"200\",method=\"POST\"}} 5\n\
             latency_seconds{{quantile=\"0.5\"}} 9\nlatency_seconds{{quantile=\"0.99\"}} {latency}\n{worker}"
        ))
    };
    let peer = Peer::new(vec![page(1, "0.1", "worker_up 1\n")]);
    let mut world = World::new(&peer.url(), rules);
    assert_eq!(world.ticks(2), []);
    assert!(peer.asked()[0].to_lowercase().contains("accept: text/plain;version=0.0.4"), "{}", peer.asked()[0]);

    peer.say(page(3, "0.5", "worker_up 0\n"));
    let edges = world.tick();
    let sum = "http_requests_total{code=\"500\",method!=\"GET\"} is 10 (the sum of 2 series) (rose from 8 to 10)";
    let slow = "latency_seconds{quantile='0.99'} is 0.5, alert at 0.5 or more";
    assert_eq!(told(&edges), [(EdgeKind::Alert, "app/errors", sum), (EdgeKind::Alert, "app/latency", slow)]);

    // A restart sets the counter back: what it counts from there is a rise. A quantile of nothing says nothing.
    peer.say(page(0, "NaN", ""));
    let edges = world.tick();
    let restarted = "http_requests_total{code=\"500\",method!=\"GET\"} is 7 (the sum of 2 series) (rose from 0 to 7)";
    assert_eq!(
        told(&edges),
        [(EdgeKind::Alert, "app/errors", restarted), (EdgeKind::Alert, "app/worker", "worker_up is not reported")]
    );
    assert_eq!(world.states()["app/latency"], State::Firing);
    peer.say(page(0, "0.4999", "worker_up 1\n"));
    let edges = world.ticks(2);
    let over: Vec<_> = edges.iter().map(|e| (e.kind, e.key.as_str())).collect();
    assert_eq!(over, [(EdgeKind::Recovery, "app/latency"), (EdgeKind::Recovery, "app/worker")]);
}

#[test]
fn a_series_that_goes_away_is_no_restart_of_the_counter() {
    let rule = "[[app.rule]]\nname = \"errors\"\nvalue = \"errors_total\"\nwhen = \"increases\"";
    let peer = Peer::new(vec![metrics("errors_total{pod=\"a\"} 5\nerrors_total{pod=\"b\"} 7\n")]);
    let mut world = World::new(&peer.url(), rule);
    assert_eq!(world.ticks(2), []);
    peer.say(metrics("errors_total{pod=\"b\"} 7\n"));
    assert_eq!(world.ticks(2), []);
    peer.say(metrics("errors_total{pod=\"b\"} 8\n"));
    assert_eq!(world.tick().len(), 1);
}

#[test]
fn every_condition_judges_every_kind_of_value() {
    use State::{Firing as Bad, Ok as Good, Unknown};
    let table: &[(&str, &str, State)] = &[
        ("> 5", "6", Bad),
        ("> 5", "5", Good),
        (">= 5", "5", Bad),
        (">= 5", "4.999999999", Good),
        ("< 1", "0.5", Bad),
        ("< 1", "1", Good),
        ("<= 1", "1", Bad),
        ("<= 1", "1.000001", Good),
        ("< 1", "false", Bad),
        ("< 1", "true", Good),
        ("> 5", "\"6\"", Unknown),
        ("> 5", "null", Unknown),
        ("> 5", "[6]", Unknown),
        ("> 5", "{}", Unknown),
        ("absent", "6", Good),
        ("absent", "\"here\"", Good),
        ("absent", "{}", Good),
        ("absent", "null", Bad),
        ("increases", "6", Good),
        ("increases", "null", Unknown),
        ("stalls", "6", State::Pending),
        ("stalls", "null", Unknown),
    ];
    for (when, value, state) in table {
        let peer = Peer::new(vec![json(&format!("{{\"v\": {value}}}"))]);
        let hold = if *when == "stalls" { "for = \"10m\"" } else { "" };
        let mut world =
            World::new(&peer.url(), &format!("[[app.rule]]\nname = \"r\"\nvalue = \"/v\"\nwhen = \"{when}\"\n{hold}"));
        world.ticks(2);
        assert_eq!(world.states()["app/r"], *state, "{value} {when}");
    }
    for (when, state) in [("> 5", Unknown), ("absent", Bad), ("increases", Unknown)] {
        let peer = Peer::new(vec![json("{\"other\": 1}")]);
        let mut world =
            World::new(&peer.url(), &format!("[[app.rule]]\nname = \"r\"\nvalue = \"/v\"\nwhen = \"{when}\""));
        world.ticks(2);
        assert_eq!(world.states()["app/r"], state, "nothing {when}");
    }
}

#[test]
fn a_clear_value_keeps_it_firing_until_it_is_well_again() {
    let rule = "[[app.rule]]\nname = \"q\"\nvalue = \"/q\"\nwhen = \"> 90\"\nclear = 80\nfor = \"30s\"\nseverity = \"warning\"";
    let peer = Peer::new(vec![json("{\"q\": 95}")]);
    let mut world = World::new(&peer.url(), rule);
    // A warm-up look, the first bad one, and thirty seconds of it.
    let edges = world.ticks(4);
    assert_eq!(told(&edges), [(EdgeKind::Alert, "app/q", "/q is 95, alert above 90")]);
    assert_eq!(edges[0].severity.as_str(), "warning");
    peer.say(json("{\"q\": 85}"));
    assert_eq!(world.ticks(5), []);
    peer.say(json("{\"q\": 80}"));
    assert_eq!(world.ticks(2)[0].kind, EdgeKind::Recovery);
}

#[test]
fn a_list_is_bounded_and_what_cannot_be_named_is_not_lost() {
    let peer = Peer::new(vec![envelope(1.75e9, 0, &[("a", 1), ("b", 1), ("x y", 1)])]);
    let mut world = World::new(&peer.url(), JOB_AND_AGENT);
    let report = world.look();
    assert!(report.complete && readings(&report).contains_key("app/agent-stuck/x_y"), "{report:?}");

    // The same id twice: neither can be told. One that is not named may be b, which is not seen now.
    peer.say(json(r#"{"queue": {"counts": {"failed": 0}}, "agents": [{"run_id": "a", "cpu_ticks": 2}, {"run_id": "a", "cpu_ticks": 3}, {"cpu_ticks": 2}]}"#));
    let report = world.look();
    assert!(!report.complete);
    assert!(report.blind.as_deref().unwrap().contains("no id"), "{report:?}");
    let seen = readings(&report);
    assert_eq!(seen["app/agent-stuck/a"], (Reading::Unknown, "2 objects of /agents have this id"));
    assert_eq!(seen["app/agent-stuck/b"].0, Reading::Unknown);

    let many: Vec<String> = (0..1_200).map(|n| format!("{{\"run_id\": {n}, \"cpu_ticks\": 1}}")).collect();
    peer.say(json(&format!("{{\"queue\": {{\"counts\": {{\"failed\": 0}}}}, \"agents\": [{}]}}", many.join(","))));
    for _ in 0..3 {
        let report = world.look();
        assert_eq!(report.observations.len(), 1_002, "down, job-failed and a thousand agents");
        assert!(report.blind.as_deref().unwrap().contains("more than 1000"), "{:?}", report.blind);
    }
    // Empty and null are lists without agents; a missing list says nothing about them.
    for (list, complete) in
        [("\"agents\": []", true), ("\"agents\": null", true), ("\"x\": 1", false), ("\"agents\": 5", false)]
    {
        peer.say(json(&format!("{{\"queue\": {{\"counts\": {{\"failed\": 0}}}}, {list}}}")));
        assert_eq!(world.look().complete, complete, "{list}");
    }
}

#[test]
fn the_wrong_language_is_unknown_for_that_rule_alone() {
    let rules = "[[app.rule]]\nname = \"j\"\nvalue = \"/a\"\nwhen = \"> 5\"\n[[app.rule]]\nname = \"m\"\nvalue = \"a\"\nwhen = \"> 5\"";
    let peer = Peer::new(vec![json("{\"a\": 1}"), metrics("a 1\n")]);
    let mut world = World::new(&peer.url(), rules);
    let report = world.look();
    assert_eq!(readings(&report)["app/j"].0, Reading::Value(1.0));
    assert_eq!(readings(&report)["app/m"].0, Reading::Unknown);
    let report = world.look();
    assert_eq!(readings(&report)["app/j"].0, Reading::Unknown);
    assert_eq!(readings(&report)["app/m"].0, Reading::Value(1.0));
}

#[test]
fn a_wrong_rule_is_named_by_its_key() {
    let rule = |text: &str| format!("[app]\nmetrics_url = \"http://127.0.0.1:1/\"\n[[app.rule]]\n{text}\n");
    let good = "name = \"ok\"\nvalue = \"/v\"\nwhen = \"> 5\"";
    let table: Vec<(String, &str, &str)> = vec![
        (rule("value = \"/v\"\nwhen = \"> 5\""), "app.rule[0].name", "is missing"),
        (rule("name = \"down\"\nvalue = \"/v\"\nwhen = \"> 5\""), "app.rule[0].name", "choose another"),
        (rule("name = \"a/b\"\nvalue = \"/v\"\nwhen = \"> 5\""), "app.rule[0].name", "letters"),
        (rule(&format!("{good}\n[[app.rule]]\n{good}")), "app.rule[1].name", "taken"),
        (rule("name = \"a\"\nwhen = \"> 5\""), "app.rule[0].value", "is missing"),
        (rule("name = \"a\"\nvalue = \"/v\""), "app.rule[0].when", "not a condition"),
        (rule("name = \"a\"\nvalue = \"/v\"\nwhen = \"5\""), "app.rule[0].when", "not a condition"),
        (rule("name = \"a\"\nvalue = \"/v\"\nwhen = \"stalls\""), "app.rule[0].for", "is missing"),
        (rule("name = \"a\"\nvalue = \"/v\"\nwhen = \"increases\"\nfor = \"5m\""), "app.rule[0].for", "means nothing"),
        (rule(&format!("{good}\nclear = 6")), "app.rule[0].clear", "bad side"),
        (rule("name = \"a\"\nvalue = \"/v\"\nwhen = \"absent\"\nclear = 6"), "app.rule[0].clear", "threshold"),
        (rule(&format!("{good}\nfail_after = 0")), "app.rule[0].fail_after", "at least 1"),
        (rule(&format!("{good}\nid = \"x\"")), "app.rule[0].id", "without `each`"),
        (rule(&format!("{good}\neach = \"/l\"")), "app.rule[0].id", "is missing"),
        (rule(&format!("{good}\neach = \"l\"\nid = \"x\"")), "app.rule[0].each", "not a JSON pointer"),
        (rule("name = \"a\"\nvalue = \"up{a=~'b'}\"\nwhen = \"> 5\""), "app.rule[0].value", "patterns"),
        (rule("name = \"a\"\nvalue = \"up down\"\nwhen = \"> 5\""), "app.rule[0].value", "not the name"),
        (
            rule(
                "name = \"a\"\nvalue = \"/l/0/v\"\nwhen = \"> 5\"\n[[app.rule]]\nname = \"b\"\neach = \"/l\"\nid = \"x\"\nvalue = \"y\"\nwhen = \"> 5\"",
            ),
            "app.rule[0].value",
            "points into a list",
        ),
        (rule(good).replace("[[", "format = \"prometheus\"\n[["), "app.rule[0].value", "is a JSON pointer"),
        (
            rule("name = \"a\"\nvalue = \"up\"\nwhen = \"> 5\"").replace("[[", "format = \"json\"\n[["),
            "app.rule[0].value",
            "not a JSON pointer",
        ),
        (format!("[[app.rule]]\n{good}"), "app.rule[0]", "app.metrics_url"),
        ("[app]\nmetrics_url = \"app:80\"".to_string(), "app.metrics_url", "not an http"),
        ("[app]\nmetrics_url = \"http://u:p@app/\"".to_string(), "app.metrics_url", "app.authorization"),
        ("[app]\nmetrics_url = \"http://app/\"\ndown_after = 0".to_string(), "app.down_after", "at least 1"),
        ("[app]\nmetrics_url = \"http://app/\"\nstale_after = 0".to_string(), "app.stale_after", "at least 1"),
        ("[app]\nmetrics_url = \"http://app/\"\ntimeout = \"1ms\"".to_string(), "app.timeout", "between"),
        (
            "[app]\nmetrics_url = \"http://app/\"\nheaders = { \"a b\" = \"c\" }".to_string(),
            "app.headers.a b",
            "not a header",
        ),
    ];
    for (toml, key, words) in table {
        let Err(error) = source(&toml, &Clock::system()) else { panic!("accepted: {toml}") };
        assert_eq!(error.problems[0].key, key, "{error}");
        assert!(error.problems[0].what.contains(words), "{toml}\n{error}");
        assert!(!error.to_string().contains("u:p"), "{error}");
    }
    assert!(source("", &Clock::system()).unwrap().is_none());
    assert!(source("[app]\ndown_after = 5", &Clock::system()).unwrap().is_none());
}

#[test]
fn ten_idle_minutes_of_a_quantile_bring_no_message() {
    let rules = r#"
[[app.rule]]
name = "latency"
value = "latency_seconds{quantile='0.99'}"
when = "> 0.5"
[[app.rule]]
name = "told"
value = "latency_seconds{quantile='0.5'}"
when = "> 0.5"
nan = "unknown"
[[app.rule]]
name = "load"
value = "load_ratio"
when = "> 0.5"
"#;
    let page = |p99: &str, load: &str| {
        metrics(&format!(
            "# TYPE latency_seconds summary\nlatency_seconds{{quantile=\"0.5\"}} {p99}\n\
             latency_seconds{{quantile=\"0.99\"}} {p99}\nlatency_seconds_sum 0\nlatency_seconds_count 0\nload_ratio {load}\n"
        ))
    };
    let peer = Peer::new(vec![page("NaN", "0.1")]);
    let mut world = World::new(&peer.url(), rules);
    // Forty looks are ten minutes.
    let edges = world.ticks(45);
    let unknown: Vec<_> = edges.iter().map(|e| (e.kind, e.key.as_str())).collect();
    assert_eq!(unknown, [(EdgeKind::Unknown, "app/told")], "only what was asked for");
    assert_eq!(world.states()["app/latency"], State::Ok);

    // Slow, then idle: it fires on, and is over when it was measured well.
    peer.say(page("0.9", "0.1"));
    assert!(world.tick().iter().any(|e| (e.kind, e.key.as_str()) == (EdgeKind::Alert, "app/latency")));
    peer.say(page("NaN", "NaN"));
    let edges = world.ticks(45);
    assert!(!edges.iter().any(|e| e.key.as_str() == "app/latency"), "{edges:?}");
    assert_eq!(world.states()["app/latency"], State::Firing);
    let load: Vec<_> = edges.iter().filter(|e| e.key.as_str() == "app/load").map(|e| e.kind).collect();
    assert_eq!(load, [EdgeKind::Unknown], "any other metric that is NaN cannot be told");
    peer.say(page("0.1", "0.1"));
    let edges = world.ticks(2);
    assert!(edges.iter().any(|e| (e.kind, e.key.as_str()) == (EdgeKind::Recovery, "app/latency")), "{edges:?}");
}

#[test]
fn a_rule_may_fire_on_what_is_not_a_number_and_says_where_that_means_nothing() {
    let rule = |rest: &str| format!("[[app.rule]]\nname = \"a\"\n{rest}");
    let fires = rule("value = \"a\"\nwhen = \"< 1\"\nnan = \"fire\"");
    let peer = Peer::new(vec![metrics("a NaN\n")]);
    let mut world = World::new(&peer.url(), &fires);
    let edges = world.ticks(2);
    assert_eq!(told(&edges), [(EdgeKind::Alert, "app/a", "a is not a number (NaN), alert below 1")]);

    for (rest, why) in [
        ("value = \"/a\"\nwhen = \"> 5\"\nnan = \"ignore\"", "JSON has no NaN"),
        ("value = \"a\"\nwhen = \"absent\"\nnan = \"ignore\"", "is there"),
        ("value = \"a\"\nwhen = \"increases\"\nnan = \"fire\"", "threshold"),
    ] {
        let toml = format!("[app]\nmetrics_url = \"http://127.0.0.1:1/\"\n{}", rule(rest));
        let error = source(&toml, &world.clock).err().unwrap().to_string();
        assert!(error.contains("rule \"a\": `nan`") && error.contains(why), "{error}");
    }
}

#[test]
fn ids_that_differ_only_at_their_end_or_in_odd_characters_are_different_objects() {
    let long = "x".repeat(64);
    let ids = [format!("{long}-1"), format!("{long}-2"), "nightly backup".into(), "nightly/backup".into()];
    let agents: Vec<(&str, u32)> = ids.iter().map(|id| (id.as_str(), 1)).collect();
    let rule =
        "[[app.rule]]\nname = \"agent\"\neach = \"/agents\"\nid = \"run_id\"\nvalue = \"cpu_ticks\"\nwhen = \"> 5\"";
    let look = || {
        let peer = Peer::new(vec![envelope(1_750_000_000.0, 0, &agents)]);
        let report = World::new(&peer.url(), rule).look();
        let keys: Vec<String> = report.observations.iter().map(|o| o.spec.key.to_string()).collect();
        assert!(report.observations.iter().all(|o| o.reading != Reading::Unknown), "{:?}", readings(&report));
        keys
    };
    let keys = look();
    assert_eq!(keys.len(), 5, "four agents and the application: {keys:?}");
    assert!(keys.iter().all(|key| key.len() <= "app/agent/".len() + 64), "{keys:?}");
    assert_eq!(keys, look(), "they are called the same in the next run");
}
