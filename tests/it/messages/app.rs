//! What is told of the application: the real source fetches from a small application on loopback.

use watchdog::config::Config;
use watchdog::core::edge::EdgeKind;
use watchdog::core::signal::Report;
use watchdog::source::{Ask, Source, app};

use super::{Chapter, Scene, outfit, read};
use crate::peer::app::{Answer, Peer, json, metrics};

/// An application, the source that reads it, and the core.
struct Rig {
    peer: Peer,
    source: Box<dyn Source>,
    scene: Scene,
}

impl Rig {
    fn new(answer: Answer, rules: &str) -> Rig {
        let peer = Peer::new(vec![answer]);
        let toml = format!("[app]\nmetrics_url = \"{}\"\n{rules}", peer.url());
        let config = Config::from_toml(&toml).unwrap_or_else(|e| panic!("{e}"));
        let source = (app::ENTRY.build)(&config, &outfit()).unwrap().unwrap();
        Rig { peer, source, scene: Scene::new() }
    }

    fn fetch(&mut self) -> Result<Report, String> {
        let now = self.scene.world.now;
        let start = watchdog::core::time::Mono(i64::MIN);
        self.source.observe(&Ask { now, fresh_since: start, hurry_since: start, once: false })
    }

    /// Fetches until something of this kind is told, as it is read.
    fn until(&mut self, kind: EdgeKind) -> String {
        for _ in 0..super::LOOKS {
            let outcome = self.fetch();
            let why = match &outcome {
                Err(why) | Ok(Report { blind: Some(why), .. }) => Some(why.clone()),
                Ok(_) => None,
            };
            let details = why.map(|why| self.source.advice(&why));
            let edges = self.scene.look_with("app", outcome, details);
            if edges.iter().any(|edge| edge.kind == kind) {
                let port = self.peer.address.port().to_string();
                return read(edges, self.scene.world.now).replace(&port, "8080");
            }
        }
        panic!("nothing of the kind {kind:?}");
    }

    /// One look of which nothing is told.
    fn calm(&mut self) {
        let outcome = self.fetch();
        let edges = self.scene.look_with("app", outcome, None);
        assert!(edges.is_empty(), "{edges:?}");
    }
}

fn rule(name: &str, value: &str, when: &str, more: &str) -> String {
    format!("[[app.rule]]\nname = \"{name}\"\nvalue = '{value}'\nwhen = \"{when}\"\n{more}")
}

#[test]
fn what_is_told_of_the_application() {
    let mut chapter = Chapter::new("Application");
    down(&mut chapter);
    rules(&mut chapter);
    unreadable(&mut chapter);
    chapter.check();
}

fn down(chapter: &mut Chapter) {
    for status in [503, 401, 404, 302] {
        let mut rig = Rig::new(Answer::Whole(status, "text/plain", b"no".to_vec()), "");
        chapter.show(&format!("app/down: status {status}"), &rig.until(EdgeKind::Alert));
    }
    let mut rig = Rig::new(Answer::Reset, "");
    chapter.show("app/down: the connection breaks", &rig.until(EdgeKind::Alert));
    let mut rig = Rig::new(metrics("up 1\n"), "");
    rig.calm();
    let (config, port) = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        (Config::from_toml(&format!("[app]\nmetrics_url = \"http://127.0.0.1:{port}/metrics\"")).unwrap(), port)
    };
    rig.source = (app::ENTRY.build)(&config, &outfit()).unwrap().unwrap();
    let refused = rig.until(EdgeKind::Alert).replace(&port.to_string(), "8080");
    chapter.show("app/down: refused", &refused);
    let mut rig = Rig::new(Answer::Hang, "timeout = \"100ms\"\n");
    chapter.show("app/down: no answer in time", &rig.until(EdgeKind::Alert));
    rig.peer.say(metrics("up 1\n"));
    chapter.show("app/down: it is over", &rig.until(EdgeKind::Recovery));
}

fn rules(chapter: &mut Chapter) {
    let notes = "note = \"tell the shop's on-call\"\nrunbook = \"https://wiki.example.org/jobs#failed\"\n";
    let mut rig =
        Rig::new(metrics("jobs_failed_total 4\n"), &rule("failed-jobs", "jobs_failed_total", "increases", notes));
    rig.calm();
    rig.peer.say(metrics("jobs_failed_total 6\n"));
    chapter.show("rule: a counter rose", &rig.until(EdgeKind::Alert));
    let stalls = rule("worker", "cpu_ticks", "stalls", "for = \"10m\"\n");
    let mut rig = Rig::new(metrics("cpu_ticks 77\n"), &stalls);
    chapter.show("rule: a value stands", &rig.until(EdgeKind::Alert));
    let above = rule("queue", "/queue/waiting", "> 500", "for = \"1m\"\nseverity = \"warning\"\n");
    let mut rig = Rig::new(json(r#"{"queue":{"waiting":812}}"#), &above);
    chapter.show("rule: above a threshold", &rig.until(EdgeKind::Alert));
    chapter.show("rule: reminder", &rig.until(EdgeKind::Realert));
    rig.peer.say(json(r#"{"queue":{"waiting":12}}"#));
    chapter.show("rule: it is over", &rig.until(EdgeKind::Recovery));
    let below = rule("workers", "workers", "< 2", "");
    let mut rig = Rig::new(metrics("workers 1\n"), &below);
    chapter.show("rule: below a threshold", &rig.until(EdgeKind::Alert));
    let each = rule("agent", "ticks", "stalls", "each = \"/agents\"\nid = \"name\"\nfor = \"1m\"\n");
    let mut rig = Rig::new(json(r#"{"agents":[{"name":"a7","ticks":5}]}"#), &each);
    chapter.show("rule: one of a list", &rig.until(EdgeKind::Alert));
    let mut rig = Rig::new(metrics("other 1\n"), &rule("heartbeat", "heartbeat_seconds", "absent", ""));
    chapter.show("rule: absent", &rig.until(EdgeKind::Alert));
}

fn unreadable(chapter: &mut Chapter) {
    let above = rule("queue", "queue", "> 500", "");
    let mut rig = Rig::new(Answer::Whole(200, "text/html", b"<html>Login</html>".to_vec()), &above);
    chapter.show("source/app: not readable", &rig.until(EdgeKind::Alert));
    let above = rule("queue", "/queue", "> 500", "");
    let mut rig = Rig::new(json(r#"{"generated_at":"2026-01-01T00:00:00Z","queue":7}"#), &above);
    chapter.show("source/app: a stale envelope", &rig.until(EdgeKind::Alert));
}
