//! A kind of target that only tests know: a shop, which is ill while a signal says that it is closed.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use watchdog::config::schema::{Field, Section};
use watchdog::config::{self, Config, ConfigError};
use watchdog::core::recovery::kind::{Kind, Share};
use watchdog::core::recovery::plan::{Cause, Node, WhenStopped};
use watchdog::core::recovery::target::Times;
use watchdog::core::signal::SignalKey;
use watchdog::executor::{self, Switch};
use watchdog::kind::{Entry, Targets};

const SHOP: Kind = Kind { word: "shop", thing: "shop", shows: "closed", share: Share::Workloads, is_machine: false };

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    name: String,
    signal: String,
    executor: String,
    place: String,
}

const fn field(name: &'static str, doc: &'static str) -> Field {
    Field { name, doc, kind: config::schema::Kind::Text }
}

const SECTION: Section = Section {
    path: "shop",
    list: true,
    doc: "A shop.",
    fields: &[
        field("name", "Its name."),
        field("signal", "The signal that says that it is closed."),
        field("executor", "What opens it again."),
        field("place", "What that knows it by."),
    ],
    defaults: || serde_json::to_value(Settings::default()).unwrap(),
    identities: &[],
    may_be_plain: false,
};

pub const ENTRY: Entry = Entry { kind: &SHOP, sections: &[SECTION], read };

fn read(config: &Config, executors: &[executor::Entry]) -> Result<Targets, ConfigError> {
    let mut read = Targets::default();
    for (index, shop) in config.each::<Settings>("shop").enumerate() {
        let shop = shop?;
        let known = executors.iter().find(|entry| entry.name == shop.executor);
        let entry = known.ok_or_else(|| config.error(&format!("shop[{index}].executor"), "is not known here"))?;
        let (key, name): (Arc<str>, Arc<str>) = (SHOP.key(&shop.name), Arc::from(shop.name));
        read.targets.push(Node {
            cause: Cause::Signal(SignalKey::new(&shop.signal)),
            kind: &SHOP,
            key: Arc::clone(&key),
            name: Arc::clone(&name),
            domain: None,
            evidence: Vec::new(),
            heartbeat_only: false,
            when_stopped: WhenStopped::Tell,
            ladder: entry.offers.iter().cloned().map(Arc::new).collect(),
            starts: entry.starts.clone().map(Arc::new),
            times: Times {
                after: Duration::from_mins(1),
                boot_grace: Duration::from_mins(2),
                attempts_reset_after: Duration::from_hours(1),
            },
            repairable: true,
            machine: None,
        });
        let instance_id = Arc::from(shop.place);
        read.switches.push(Switch { index, node: name, key, executor: entry.name, instance_id });
    }
    Ok(read)
}
