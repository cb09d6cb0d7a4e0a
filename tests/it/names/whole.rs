//! The whole daemon, where a zone of a hundred names never answers: whom else that keeps waiting.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::inside;
use crate::daemon::{Daemon, SOON, wait};
use crate::peer::dns::{DnsPeer, Says};
use crate::peer::http::{Manner, Peer};
use crate::peer::small_app::SmallApp;
use crate::peer::telegram::Telegram;
use crate::setup::Setup;

/// Names in the zone.
const NAMES: usize = 100;
/// As long as nothing may starve: the first lookups of the zone have hung to their end, and the next ones hang.
const LONG: Duration = Duration::from_secs(25);

#[test]
fn while_a_hundred_names_hang_alerts_arrive_and_the_dead_mans_switch_beats() {
    let test = "whole::while_a_hundred_names_hang_alerts_arrive_and_the_dead_mans_switch_beats";
    if !inside(test, "nameserver 127.0.0.1\noptions timeout:10 attempts:2\n") {
        return;
    }
    let dns = DnsPeer::start("127.0.0.1:53");
    dns.say("*.dead.test", Says::Silence);
    for name in ["telegram.example.org", "app.other.example", "hc.third.example", "b"] {
        dns.has(name, &["127.0.0.1"]);
    }
    let (telegram, app) = (Telegram::start(), SmallApp::start());
    let switch = Peer::start(Manner::answer("200 OK", "OK"));
    let named = |url: &str, name: &str| url.replace("127.0.0.1", name);
    let dir = tempfile::tempdir().unwrap();
    let mut probes = String::new();
    for n in 0..NAMES {
        let _ = writeln!(probes, "[[probe]]\nname = \"h{n}\"\ntarget = \"dns://h{n}.dead.test\"\ninterval = \"1s\"");
    }
    let _ = writeln!(probes, "[[probe]]\nname = \"b\"\ntarget = \"dns://b\"\ninterval = \"1s\"");
    let setup = Setup::new("1s")
        .telegram(&telegram)
        .set("telegram.api_base", named(&telegram.base_url(), "telegram.example.org"));
    let setup = setup.set("app.metrics_url", named(&app.url(), "app.other.example")).set("app.down_after", 2);
    let url = named(&switch.url(), "hc.third.example");
    setup.set("heartbeat_url", format!("{url}/ping")).block(&probes).write(dir.path());
    let daemon = Daemon::start(dir.path());
    let began = Instant::now();
    daemon.wait_state("app/down", "ok");
    wait("the first beat", || (switch.connections() > 0).then_some(()));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let mut told = 0;
    for round in 0..2 {
        // Down and up: each is told within a few ticks.
        for (down, mark) in [(true, "🔴"), (false, "🟢")] {
            let at = Instant::now();
            app.down(down);
            told += 1;
            wait(mark, || {
                let all = telegram.delivered();
                let news = all.iter().filter(|message| message.text.contains("app/down"));
                (news.count() >= told).then_some(())
            });
            assert!(at.elapsed() < Duration::from_secs(10), "{mark} took {:?}", at.elapsed());
        }
        assert_eq!(daemon.state("probe/b").as_deref(), Some("ok"), "another name keeps its turn");
        assert_eq!(daemon.state("probe/h0").as_deref(), Some("unknown"), "nobody has seen it");
        // So far apart that it is not flapping; all the while the zone hangs.
        let until = if round == 0 { LONG } else { Duration::ZERO };
        while began.elapsed() < until {
            daemon.wait_pass();
        }
    }
    // A beat a minute is all that is due; the one that was, was taken, and the switch is told as well.
    wait("a second beat", || (switch.connections() > 1).then_some(()));
    assert!(began.elapsed() < Duration::from_secs(75) && SOON >= Duration::from_secs(30), "{:?}", began.elapsed());
    daemon.wait_state("channel/heartbeat", "ok");
    daemon.wait_state("channel/telegram", "ok");
    let (status, took) = daemon.terminate();
    assert!(status.success() && took < Duration::from_secs(5), "{took:?}");
}
