//! Two small setups lived through by the whole daemon: planned work wakes nobody, and what fails by itself beside it is
//! one critical message at once and one recovery. Every message is counted.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use watchdog::clock::Clock;
use watchdog::core::time::Wall;

use crate::daemon::{Daemon, SOON, wait, watchdog};
use crate::e2e_cause::Server;
use crate::parts;
use crate::peer::consul::{Consul, Dev};
use crate::peer::oci::{Kind, Lifecycle, Oci, ocid};
use crate::peer::telegram::{Delivered, Telegram};
use crate::setup::Setup;
use crate::silence::done;

/// Longer than infos of one cause are gathered: nothing is only late.
const CALM: Duration = Duration::from_secs(17);
/// As long as nothing more may be told: many ticks.
const PASSES: usize = 10;
/// A second, three checks, and what a busy machine adds; less than a cause that is never complete would wait.
const AT_ONCE: Duration = Duration::from_secs(3);

/// A server that two probes check: its port, and a page of it.
struct Checked {
    name: &'static str,
    port: u16,
    server: Option<Server>,
}

impl Checked {
    fn start(name: &'static str) -> Checked {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        Checked { name, port, server: Some(Server::start(listener)) }
    }

    fn keys(&self) -> [String; 2] {
        ["port", "page"].map(|what| format!("probe/{}-{what}", self.name))
    }

    fn probes(&self) -> String {
        let (name, port) = (self.name, self.port);
        format!(
            "[[probe]]\nname = \"{name}-port\"\ntarget = \"tcp://127.0.0.1:{port}\"\n\
             [[probe]]\nname = \"{name}-page\"\ntarget = \"http://127.0.0.1:{port}/health\"\nbody_contains = \"ok\"\n"
        )
    }

    fn wait(&self, daemon: &Daemon, state: &str) {
        self.keys().iter().for_each(|key| daemon.wait_state(key, state));
    }

    fn stop(&mut self, daemon: &Daemon) {
        self.server = None;
        self.wait(daemon, "firing");
    }

    fn start_again(&mut self, daemon: &Daemon) {
        self.server = Some(Server::start(TcpListener::bind(("127.0.0.1", self.port)).unwrap()));
        self.wait(daemon, "ok");
    }
}

/// Whether a window covers this signal now.
fn is_in_maintenance(daemon: &Daemon, key: &str) -> bool {
    let status = daemon.status();
    let signals = status["signals"].as_array().unwrap();
    signals.iter().any(|signal| signal["key"] == key && signal["silenced"]["by"] == "maintenance")
}

/// Lets many passes go by; then exactly so many messages were told, the same number of them critical as given.
fn count(daemon: &Daemon, telegram: &Telegram, all: usize, critical: usize) -> Vec<Delivered> {
    (0..PASSES).for_each(|_| daemon.wait_pass());
    let told = telegram.delivered();
    let alerts = told.iter().filter(|message| message.text.contains('🔴')).count();
    assert_eq!((told.len(), alerts), (all, critical), "{told:#?}");
    told
}

#[test]
fn a_small_service_with_eight_probes_hears_nothing_of_planned_work_and_of_a_crash_at_once() {
    let (telegram, dir) = (Telegram::start(), tempfile::tempdir().unwrap());
    let [mut shop, mut db, mut mail, cache] = ["shop", "db", "mail", "cache"].map(Checked::start);
    let setup = [&shop, &db, &mail, &cache]
        .iter()
        .fold(Setup::new("200ms").set("instance", "web-1"), |setup, server| setup.block(&server.probes()))
        .telegram(&telegram);
    setup.write(dir.path());
    let daemon = Daemon::start(dir.path());
    [&shop, &db, &mail, &cache].iter().for_each(|server| server.wait(&daemon, "ok"));

    // The database is moved under a silence.
    done(dir.path(), &["silence", "probe/db-*", "--for", "1h", "--reason", "move of the database"]);
    db.stop(&daemon);

    // Meanwhile a window for the mail server is configured, and the daemon told so.
    let now = Clock::system().now().wall;
    // Long enough for an outage within it on a busy machine; the test waits for its end.
    let ends = Wall((now.0 / 1_000 + 25) * 1_000);
    let (from, to) = (now.minus(Duration::from_mins(1)).rfc3339(), ends.rfc3339());
    let window = format!("[[maintenance]]\nmatch = \"probe/mail-*\"\nstart = \"{from}\"\nend = \"{to}\"\n");
    setup.block(&window).write(dir.path());
    daemon.signal(Signal::HUP);
    let [mail_port, _] = mail.keys();
    wait("the window to open", || is_in_maintenance(&daemon, &mail_port).then_some(()));
    db.wait(&daemon, "firing");
    mail.stop(&daemon);
    mail.start_again(&daemon);
    db.start_again(&daemon);
    count(&daemon, &telegram, 0, 0);

    // What nobody planned is told, whatever is planned beside it.
    let crashed = Instant::now();
    shop.server = None;
    let alert = telegram.wait_delivered(1, SOON).remove(0);
    let took = crashed.elapsed();
    println!("crash to message: {took:?}");
    assert!(took < AT_ONCE, "{took:?}: {alert:?}");
    assert!(alert.text.starts_with("🔴 web-1 · ") && !alert.silent, "{alert:?}");
    shop.keys().iter().for_each(|key| assert!(alert.text.contains(key), "{key}: {alert:?}"));
    shop.wait(&daemon, "firing");
    count(&daemon, &telegram, 1, 1);
    shop.start_again(&daemon);
    let back = telegram.wait_delivered(2, SOON).remove(1);
    assert!(back.text.starts_with("🟢 web-1 · "), "{back:?}");
    assert_eq!(back.reply_to, Some(alert.message_id), "{back:?}");
    shop.keys().iter().for_each(|key| assert!(back.text.contains(key), "{key}: {back:?}"));

    // The planned work ends, and there is nothing to tell of it.
    done(dir.path(), &["unsilence", "probe/db-*"]);
    wait("the window to close", || (!is_in_maintenance(&daemon, &mail_port)).then_some(()));
    assert!(Clock::system().now().wall >= ends, "not before its end");
    [&shop, &db, &mail, &cache].iter().for_each(|server| server.wait(&daemon, "ok"));
    count(&daemon, &telegram, 2, 1);
    daemon.terminate();
    assert_eq!(telegram.delivered().len(), 2, "{:#?}", telegram.delivered());
}

const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// The beacon of a node, once it holds its key.
fn beacon(home: &Path, node: &str, consul: &Consul) -> Daemon {
    let dir = home.join(format!("beacon-{node}"));
    std::fs::create_dir_all(&dir).unwrap();
    let setup = Setup::default().set("consul.address", consul.url()).set("beacon.listen", "127.0.0.1:0");
    setup.set("beacon.node", node).set("beacon.ttl", "3s").set("beacon.renew", "300ms").write(&dir);
    let daemon = Daemon::start_with(watchdog(&dir).arg("beacon"));
    wait(|| format!("the beacon of {node}"), || (daemon.get("/healthz").status == 200).then_some(()));
    daemon
}

#[test]
fn an_operator_of_three_nodes_hears_of_a_planned_stop_once_and_of_a_lost_node_at_once() {
    if !parts::consul() {
        return;
    }
    let (telegram, home, oci) = (Telegram::start(), tempfile::tempdir().unwrap(), Oci::start());
    let consul = Consul::dev(Dev::default());
    let [first, second, _third] = NODES.map(|node| beacon(home.path(), node, &consul));
    // As it is by default: repairs are only simulated, and begin after minutes.
    let setup = Setup::new("200ms").set("instance", "agent-1").set("consul.address", consul.url());
    let setup = NODES.iter().fold(setup, |setup, node| {
        oci.add_instance(&ocid(node), Lifecycle::Running);
        setup.node(node, "")
    });
    setup.set("recovery.mode", "observe").telegram(&telegram).oci(&oci, home.path()).write(home.path());
    let agent = Daemon::start(home.path());
    let wait_all = || NODES.iter().for_each(|node| agent.wait_state(&format!("node/{node}"), "ok"));
    wait_all();
    count(&agent, &telegram, 0, 0);

    let (ended, _) = first.terminate();
    assert!(ended.success(), "{ended}");
    agent.wait_state("node/n1", "unknown");
    let planned = telegram.wait_delivered(1, SOON).remove(0);
    assert!(planned.silent && planned.text.starts_with("🔧 agent-1 · "), "{planned:?}");
    assert!(planned.text.contains("n1 stops as planned"), "{planned:?}");
    let _first = beacon(home.path(), "n1", &consul);
    wait_all();
    let returned = Instant::now();
    count(&agent, &telegram, 1, 0);

    second.kill();
    wait("the session to end", || consul.key("watchdog/nodes/n2").is_none().then_some(()));
    let lost = Instant::now();
    let alert = telegram.wait_delivered(2, SOON).remove(1);
    println!("end of the session to message: {:?}", lost.elapsed());
    assert!(lost.elapsed() < AT_ONCE, "{:?}: {alert:?}", lost.elapsed());
    assert!(alert.text.starts_with("🔴 agent-1 · ") && !alert.silent, "{alert:?}");
    assert!(alert.text.contains("node n2 has lost its heartbeat") && alert.text.contains("node/n2"), "{alert:?}");
    assert!(!alert.text.contains("node/n1") && !alert.text.contains("node/n3"), "{alert:?}");
    count(&agent, &telegram, 2, 1);
    let _second = beacon(home.path(), "n2", &consul);
    let back = telegram.wait_delivered(3, SOON).remove(2);
    assert!(back.text.starts_with("🟢 agent-1 · ") && back.text.contains("node/n2"), "{back:?}");
    assert_eq!(back.reply_to, Some(alert.message_id), "{back:?}");
    wait_all();
    while returned.elapsed() < CALM {
        agent.wait_pass();
    }
    let told = count(&agent, &telegram, 3, 1);
    assert!(told.iter().all(|message| !message.text.contains("n3")), "{told:#?}");
    assert!(oci.asked(Kind::Stop).is_empty() && oci.asked(Kind::Start).is_empty(), "{:#?}", oci.ledger());
    agent.terminate();
    assert_eq!(telegram.delivered().len(), 3, "{:#?}", telegram.delivered());
}
