//! Application, Telegram, Consul and Oracle Cloud behind TLS with a certificate that no public authority signed: each
//! is trusted by its own `ca_file`, and says which key that is while it is not.

use std::net::SocketAddr;
use std::path::Path;

use crate::daemon::{Daemon, wait};
use crate::peer::kv::Kv;
use crate::peer::oci::{Kind, Lifecycle, Oci, ocid};
use crate::peer::small_app::SmallApp;
use crate::peer::telegram::Telegram;
use crate::peer::tls::{TlsPeer, pem};
use crate::setup::Setup;

/// The peers, each with TLS before it.
struct World {
    app: SmallApp,
    telegram: Telegram,
    /// Held for as long as it is spoken to.
    _consul: Kv,
    oci: Oci,
    fronts: [TlsPeer; 4],
    dir: tempfile::TempDir,
}

impl World {
    fn new(chain: &[&str], key: &str) -> World {
        let (app, telegram, oci) = (SmallApp::start(), Telegram::start(), Oci::start());
        let consul = Kv::start(&["watchdog/nodes/n1", "watchdog/sentinel"]);
        oci.add_instance(&ocid("n1"), Lifecycle::Running);
        let address =
            |url: &str| -> SocketAddr { url.trim_start_matches("http://").split('/').next().unwrap().parse().unwrap() };
        let urls = [app.url(), telegram.base_url(), consul.url(), oci.url()];
        let fronts = urls.map(|url| TlsPeer::before(chain, key, address(&url)));
        World { app, telegram, _consul: consul, oci, fronts, dir: tempfile::tempdir().unwrap() }
    }

    /// A daemon that trusts each of them by this file, or none.
    fn daemon(&self, trusted: Option<&Path>) -> Daemon {
        let [app, telegram, consul, oci] = [0, 1, 2, 3].map(|n| format!("https://{}", self.fronts[n].place()));
        let setup = Setup::agent("agent-1", &consul).telegram(&self.telegram).set("telegram.api_base", telegram);
        let setup = setup.oci(&self.oci, self.dir.path()).set("oci.endpoint", oci).set("oci.ask_every", "10m");
        let setup = setup.set("app.metrics_url", format!("{app}/metrics")).set("app.down_after", 1);
        let keys = ["app.ca_file", "telegram.ca_file", "consul.ca_file", "oci.ca_file"];
        let setup = match trusted {
            None => setup,
            Some(file) => keys.into_iter().fold(setup, |setup, key| setup.set(key, file.to_str().unwrap())),
        };
        setup.set("recovery.mode", "observe").node("n1", "evidence = [\"probe/gone\"]").write(self.dir.path());
        Daemon::start(self.dir.path())
    }
}

fn detail(daemon: &Daemon, key: &str) -> String {
    let status = daemon.status();
    let signal = status["signals"].as_array().unwrap().iter().find(|signal| signal["key"] == key).cloned();
    signal.unwrap_or_default()["detail"].as_str().unwrap_or_default().to_string()
}

#[test]
fn each_client_trusts_the_certificate_that_it_was_given_or_its_authority() {
    for (chain, key, trusted) in [(["own.pem"], "own.key", "own.pem"), (["direct.pem"], "direct.key", "root.pem")] {
        let world = World::new(&chain, key);
        let daemon = world.daemon(Some(&pem(trusted)));
        for signal in ["app/down", "source/consul", "node/n1", "source/oci", "oci/instances"] {
            daemon.wait_state(signal, "ok");
        }
        world.app.down(true);
        wait("the alert", || {
            world.telegram.delivered().iter().any(|message| message.text.contains("app/down")).then_some(())
        });
        assert_eq!(world.oci.asked(Kind::Get).len(), 1);
        assert!(world.fronts.iter().all(|front| !front.handshakes().is_empty()));
        daemon.terminate();
    }
}

#[test]
fn a_client_that_does_not_trust_a_certificate_names_its_own_key() {
    let world = World::new(&["own.pem"], "own.key");
    let daemon = world.daemon(None);
    for (signal, key) in
        [("source/app", "app.ca_file"), ("source/consul", "consul.ca_file"), ("source/oci", "oci.ca_file")]
    {
        daemon.wait_state(signal, "firing");
        let said = detail(&daemon, signal);
        assert!(said.contains("self-signed") && said.contains(key), "{signal}: {said}");
    }
    // What was to be told of these is undelivered for the same reason.
    wait(
        || format!("the channel's reason: {}{}", daemon.stderr(), daemon.stdout()),
        || daemon.stderr().contains("telegram.ca_file").then_some(()),
    );
    assert_eq!((world.telegram.connections(), world.oci.asked(Kind::Get).len(), world.app.asked()), (0, 0, 0));
    daemon.terminate();
}
