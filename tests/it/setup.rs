//! The configuration of a daemon under test: keys with their values, and blocks of TOML behind them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::daemon::configure;
use crate::peer::oci::{Oci, ocid};
use crate::peer::telegram::{TOKEN, Telegram};

/// Says that a node is gone: nobody listens there, and nobody else can take the port meanwhile.
pub const GONE: &str = "evidence = [\"probe/gone\"]";
/// The heartbeat alone decides, so that nothing but what a test is about stands in the way.
pub const ALONE: &str = "evidence = \"heartbeat-only\"";

/// A configuration. What is set later replaces what was set before.
#[derive(Clone, Default)]
pub struct Setup {
    /// By table and key.
    keys: BTreeMap<(String, String), Value>,
    blocks: String,
}

impl Setup {
    /// A quiet daemon: neither host nor Docker nor systemd, a state file beside the configuration.
    pub fn new(tick: &str) -> Setup {
        let quiet = Setup::default().set("host.enabled", false).set("docker.enabled", false);
        let quiet = quiet.set("systemd.enabled", false);
        quiet.set("tick", tick).set("state", "state.db")
    }

    /// An agent that repairs nodes by their heartbeats in the Consul at `consul`, and hurries.
    pub fn agent(name: &str, consul: &str) -> Setup {
        Setup::new("200ms")
            .set("instance", name)
            .set("timeout", "2s")
            .set("log", "info")
            .set("deps", ["gone=tcp://127.0.0.1:1"].as_slice())
            .set("consul.address", consul)
            .set("recovery.mode", "active")
            .set("recovery.after", "1s")
            .set("recovery.poll", "100ms")
            .set("recovery.boot_grace", "20s")
            .set("recovery.lease_ttl", "3s")
    }

    /// A key as a person names it: `recovery.after`.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Setup {
        let (table, key) = key.rsplit_once('.').unwrap_or(("", key));
        self.keys.insert((table.to_string(), key.to_string()), value.into());
        self
    }

    /// What was set.
    pub fn get(&self, key: &str) -> &Value {
        let (table, key) = key.rsplit_once('.').unwrap_or(("", key));
        &self.keys[&(table.to_string(), key.to_string())]
    }

    /// TOML behind all keys: `[[probe]]` and the like.
    pub fn block(mut self, toml: &str) -> Setup {
        self.blocks.push_str(toml);
        self.blocks.push('\n');
        self
    }

    /// Tells this Telegram.
    pub fn telegram(self, telegram: &Telegram) -> Setup {
        let channel = self.set("telegram.bot_token", TOKEN).set("telegram.chat_id", "42");
        channel.set("telegram.api_base", telegram.base_url())
    }

    /// Switches machines of this cloud, by credentials that are written into `dir`.
    pub fn oci(self, oci: &Oci, dir: &Path) -> Setup {
        let file = oci.config_file(dir).display().to_string();
        // The ledger is to hold what repairs ask for, and nothing else.
        self.set("oci.config_file", file).set("oci.endpoint", oci.url()).set("oci.ask_every", "0s")
    }

    /// A node with its instance, and further lines about it.
    pub fn node(self, name: &str, more: &str) -> Setup {
        self.block(&format!("[[node]]\nname = \"{name}\"\ninstance_id = \"{}\"\n{more}", ocid(name)))
    }

    /// As it is written into a file. What is JSON here is TOML as well: texts, numbers, truths and lists of them.
    pub fn toml(&self) -> String {
        let (mut text, mut open) = (String::new(), "");
        for ((table, key), value) in &self.keys {
            if table != open {
                let _ = writeln!(text, "[{table}]");
                open = table;
            }
            let _ = writeln!(text, "{key} = {value}");
        }
        text + &self.blocks
    }

    /// Writes `watchdog.toml` in `dir`.
    pub fn write(&self, dir: &Path) {
        configure(dir, &self.toml());
    }
}
