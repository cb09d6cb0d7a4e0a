//! What is told of containers: the real source asks a scripted engine, whose containers are as each heading says.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use watchdog::clock::Clock;
use watchdog::core::edge::EdgeKind::{self, Alert, Realert, Recovery, Removed, Unknown};
use watchdog::core::time::{Mono, Now, Wall};
use watchdog::source::docker::{DockerSource, Settings};
use watchdog::source::{Ask, Outfit, Source as _};

use super::{Chapter, LOOKS, Scene, TICK, outfit, read};
use crate::peer::docker::{Peer, Reply, json as reply};

const LOG: &str = "Ready to accept connections\nBackground saving started by pid 21\nCan't save in background: fork: Cannot allocate memory\n";

/// One container as the engine would inspect it.
#[derive(Clone)]
struct Box_ {
    id: u8,
    name: String,
    labels: Value,
    /// Seconds since 1970.
    created: i64,
    seen: Value,
}

impl Box_ {
    /// A service of the project shop that runs.
    fn new(id: u8, service: &str) -> Box_ {
        let labels = json!({"com.docker.compose.project": "shop", "com.docker.compose.service": service});
        let seen = json!({
            "State": {"Status": "running", "ExitCode": 0, "StartedAt": Wall(crate::world::NEW_YEAR).rfc3339()},
            "Config": {"Image": "redis:7.4"},
            "HostConfig": {"RestartPolicy": {"Name": ""}},
        });
        Box_ { id, name: format!("shop-{service}-1"), labels, created: 1_767_225_600, seen }
    }

    fn set(mut self, pointer: &str, value: impl Into<Value>) -> Box_ {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        self.seen.pointer_mut(parent).unwrap()[key] = value.into();
        self
    }

    fn label(mut self, name: &str, value: &str) -> Box_ {
        self.labels[name] = value.into();
        self
    }

    fn policy(self, name: &str) -> Box_ {
        self.set("/HostConfig/RestartPolicy", json!({ "Name": name }))
    }

    /// Ended with this exit code ten seconds before `now`.
    fn ended(self, code: i64, now: Now) -> Box_ {
        let finished = now.wall.plus(TICK).minus(Duration::from_secs(10)).rfc3339();
        self.set("/State/Status", "exited").set("/State/ExitCode", code).set("/State/FinishedAt", finished)
    }

    /// Made anew ten seconds before `now`.
    fn created(self, now: Now) -> Box_ {
        Box_ { created: now.wall.0 / 1_000 + 5, ..self }.status("created")
    }

    fn status(self, status: &str) -> Box_ {
        self.set("/State/Status", status)
    }
}

type Boxes = Arc<Mutex<Vec<Box_>>>;

fn engine(boxes: Boxes) -> Peer {
    Peer::start(move |path| {
        if path == "/_ping" {
            return reply(200, "1.41", "OK");
        }
        let path = path.strip_prefix("/v1.41").expect("the agreed version");
        let boxes = boxes.lock().unwrap().clone();
        let id = |one: &Box_| format!("{:064x}", one.id);
        if path == "/containers/json?all=1" {
            let list = boxes.iter().map(|one| {
                json!({"Id": id(one), "Names": [format!("/{}", one.name)], "State": one.seen["State"]["Status"],
                       "Created": one.created, "Labels": one.labels})
            });
            return reply(200, "1.41", &Value::from(list.collect::<Vec<_>>()).to_string());
        }
        let (wanted, what) = path.strip_prefix("/containers/").unwrap().split_once('/').unwrap();
        let Some(found) = boxes.iter().find(|one| id(one) == wanted) else { return reply(404, "1.41", "{}") };
        if what == "json" {
            let mut seen = found.seen.clone();
            (seen["Id"], seen["Name"]) = (wanted.into(), format!("/{}", found.name).into());
            return reply(200, "1.41", &seen.to_string());
        }
        Reply::Bytes(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{LOG}", LOG.len()).into_bytes())
    })
}

/// An engine with some containers, the source that asks it, and the core.
struct Rig {
    boxes: Boxes,
    hand: Arc<Mutex<Now>>,
    source: DockerSource,
    scene: Scene,
    _peer: Peer,
}

impl Rig {
    /// The given containers, and one more that is always well; all of them were seen well.
    fn new(well: Vec<Box_>) -> Rig {
        Rig::with(well, &[])
    }

    fn with(well: Vec<Box_>, named: &[&str]) -> Rig {
        let scene = Scene::new();
        let (clock, hand) = Clock::by_hand(scene.world.now);
        let boxes: Boxes = Arc::new(Mutex::new(well));
        boxes.lock().unwrap().push(Box_ { name: "other".into(), labels: json!({}), ..Box_::new(255, "other") });
        let peer = engine(Arc::clone(&boxes));
        let containers = named.iter().map(ToString::to_string).chain(["*".to_string()]).collect();
        let settings = Settings { socket: peer.socket().display().to_string(), containers, ..Settings::default() };
        let source = DockerSource::new(settings, Outfit { clock, ..outfit() }, BTreeSet::new()).unwrap();
        let mut rig = Rig { boxes, hand, source, scene, _peer: peer };
        if named.is_empty() {
            for _ in 0..3 {
                assert_eq!(rig.look(), None, "all is well");
            }
        }
        rig
    }

    fn now(&self) -> Now {
        self.scene.world.now
    }

    /// These containers are there now, besides the one that is always well.
    fn set(&mut self, mut boxes: Vec<Box_>) -> &mut Rig {
        let other = self.boxes.lock().unwrap().pop().unwrap();
        boxes.push(other);
        *self.boxes.lock().unwrap() = boxes;
        self
    }

    /// One look; what is told of it, as it is read.
    fn look(&mut self) -> Option<(Vec<EdgeKind>, String)> {
        let now = self.scene.world.now;
        let at = Now { mono: now.mono.plus(TICK), wall: now.wall.plus(TICK), awake: now.awake.plus(TICK) };
        *self.hand.lock().unwrap() = at;
        let ask = Ask { now: at, fresh_since: Mono(0), hurry_since: Mono(0), once: true };
        let outcome = self.source.observe(&ask);
        let edges = self.scene.look_with("docker", outcome, None);
        let kinds: Vec<EdgeKind> = edges.iter().map(|edge| edge.kind).collect();
        (!kinds.is_empty()).then(|| (kinds, read(edges, self.scene.world.now)))
    }

    fn until(&mut self, kind: EdgeKind) -> String {
        for _ in 0..LOOKS {
            if let Some((kinds, text)) = self.look()
                && kinds.contains(&kind)
            {
                return text;
            }
        }
        panic!("nothing of the kind {kind:?}");
    }
}

/// The story of one container: well, then as it is made.
fn one(make: impl FnOnce(Box_, Now) -> Box_) -> String {
    let redis = Box_::new(1, "redis");
    let mut rig = Rig::new(vec![redis.clone()]);
    let now = rig.now();
    rig.set(vec![make(redis, now)]).until(Alert)
}

#[test]
fn what_is_told_of_containers() {
    let mut chapter = Chapter::new("Containers");
    ends(&mut chapter);
    lasting(&mut chapter);
    planned(&mut chapter);
    gone(&mut chapter);
    jobs(&mut chapter);
    chapter.check();
}

fn ends(chapter: &mut Chapter) {
    chapter.show("A container ended with an error", &one(|redis, now| redis.ended(1, now)));
    let noted = |redis: Box_, now| {
        let redis = redis.label("watchdog.note", "the cart is empty while it is away; call the shop team");
        redis
            .label("watchdog.runbook", "https://wiki.example/redis")
            .label("watchdog.severity", "warning")
            .ended(1, now)
    };
    chapter.show("The same with labels watchdog.note, watchdog.runbook and watchdog.severity", &one(noted));
    let oom =
        |redis: Box_, now| redis.set("/State/OOMKilled", true).set("/HostConfig/Memory", 256 << 20).ended(137, now);
    chapter.show("A container was killed for memory", &one(oom));
    chapter
        .show("A container ended on a signal, and nobody knows who sent it", &one(|redis, now| redis.ended(137, now)));
    chapter.show("A container crashed", &one(|redis, now| redis.ended(139, now)));
    chapter.show("A container's command was not found", &one(|redis, now| redis.ended(127, now)));
    let stopped = |redis: Box_, now| redis.policy("always").set("/State/Error", "device is busy").ended(0, now);
    chapter.show("A container ended well that should go on", &one(stopped));
    let port =
        "driver failed programming external connectivity: Bind for 0.0.0.0:6379 failed: port is already allocated";
    let cannot = |redis: Box_, now| redis.created(now).set("/State/ExitCode", 128).set("/State/Error", port);
    chapter.show("A container cannot be started", &one(cannot));
    chapter.show("A container was created and not started", &one(Box_::created));
    chapter.show("A container is dead", &one(|redis, _| redis.status("dead").set("/State/Error", "device is busy")));
    chapter.show("A container cannot be removed", &one(|redis, _| redis.status("removing")));
    let (web, db) = (Box_::new(1, "web").label("x", "y"), Box_::new(2, "db"));
    let mut rig = Rig::new(vec![web.clone(), db.clone()]);
    let now = rig.now();
    let text = rig.set(vec![web.ended(1, now), db.ended(139, now)]).until(Alert);
    chapter.show("Containers of one project fail together", &text);
}

fn lasting(chapter: &mut Chapter) {
    let redis = Box_::new(1, "redis").policy("always");
    let mut rig = Rig::new(vec![redis.clone()]);
    let crashing = |count: u32| {
        redis.clone().set("/RestartCount", count).set("/State/Status", "restarting").set("/State/ExitCode", 1)
    };
    let loops = rig.set(vec![crashing(3)]).until(Alert);
    chapter.show("A container keeps crashing", &loops);
    let now = rig.now();
    let by_hand = rig.set(vec![crashing(3).ended(1, now)]).until(Realert);
    chapter.show("A command stops a container that keeps crashing", &by_hand);
    let over = rig.set(vec![redis.clone()]).until(Recovery);
    chapter.show("A container runs again", &over);

    let check = json!({"Test": ["CMD-SHELL", "redis-cli ping | grep PONG"], "Retries": 3});
    let checked = |redis: Box_, status: &str| {
        let failed = json!({"Start": Wall(crate::world::NEW_YEAR + 8_100_000).rfc3339(), "ExitCode": 1,
                            "Output": "LOADING Redis is loading the dataset in memory"});
        let health = json!({"Status": status, "FailingStreak": 4, "Log": [failed]});
        redis.set("/Config/Healthcheck", check.clone()).set("/State/Health", health)
    };
    chapter.show("A container is unhealthy", &one(|redis, _| checked(redis, "unhealthy")));
    let redis = Box_::new(1, "redis");
    let mut rig = Rig::new(vec![redis.clone()]);
    let starting = rig.set(vec![checked(redis, "starting")]).until(Unknown);
    chapter.show("A container does not become healthy", &starting);
}

fn planned(chapter: &mut Chapter) {
    let stopped = |redis: Box_, now| redis.policy("unless-stopped").ended(143, now);
    chapter.show("A command stopped a container", &one(stopped));
    chapter.show("A command paused a container", &one(|redis, _| redis.status("paused")));
    let (web, db) = (Box_::new(1, "web").policy("always"), Box_::new(2, "db").policy("always"));
    let mut rig = Rig::new(vec![web.clone(), db.clone()]);
    let now = rig.now();
    let text = rig.set(vec![web.clone().ended(0, now), db.clone().ended(137, now)]).until(Alert);
    chapter.show("A command stopped a project", &text);
    let text = rig.set(vec![web, db]).until(Recovery);
    chapter.show("A project runs again", &text);
}

fn gone(chapter: &mut Chapter) {
    let mut rig = Rig::new(vec![Box_::new(1, "redis")]);
    chapter.show("A container was removed", &rig.set(Vec::new()).until(Removed));
    let mut rig = Rig::new(vec![Box_::new(1, "web"), Box_::new(2, "db"), Box_::new(3, "worker")]);
    chapter.show("Containers of one project were removed", &rig.set(Vec::new()).until(Removed));
    let mut rig = Rig::with(Vec::new(), &["shop-redis-1"]);
    chapter.show("A container that docker.containers names is missing", &rig.until(Alert));
    let required = Box_::new(1, "redis").label("watchdog.required", "true");
    let mut rig = Rig::new(vec![required]);
    chapter.show("A container with the label watchdog.required=true is missing", &rig.set(Vec::new()).until(Alert));
}

fn jobs(chapter: &mut Chapter) {
    let job = Box_::new(1, "migrate").label("com.docker.compose.oneoff", "True");
    let mut rig = Rig::new(vec![job.clone()]);
    let now = rig.now();
    chapter.show("A job ended with an error", &rig.set(vec![job.ended(1, now)]).until(Alert));
}
