//! Reads every probe of the configuration, in both forms, and reports all problems at once.

use std::collections::BTreeMap;

use super::Probe;
use super::build::Workshop;
use super::exec::Groups;
use super::settings::{Settings, dependency, kind, name, wrong};
use crate::client::proxy::Environment;
use crate::config::{Config, ConfigError};
use crate::source::Outfit;

/// Probes at most.
pub const PROBES: usize = 10_000;

/// All probes of the configuration, sorted by key, and the process groups that they share.
pub fn probes(config: &Config, outfit: &Outfit) -> Result<(Vec<Probe>, Groups), ConfigError> {
    let mut workshop = Workshop::new(outfit, Environment::of(config)?);
    let mut problems = Vec::new();
    // Where each name was first given, to name both places of a duplicate.
    let mut given: BTreeMap<String, String> = BTreeMap::new();
    let mut probes = Vec::new();
    let listed = config.list::<Settings>("probe")?.into_iter().enumerate().map(|(index, settings)| {
        let key = format!("probe[{index}]");
        let kind = kind(config, &key, &settings);
        (key, kind.map(|kind| (settings, kind)))
    });
    let short = config.root().deps.iter().map(|entry| ("deps".to_string(), dependency(entry)));
    for (key, written) in listed.chain(short) {
        let built = written.and_then(|(settings, kind)| {
            let name = name(&settings.name)?;
            if let Some(first) = given.insert(name.to_string(), key.clone()) {
                return Err(wrong(
                    "name",
                    format!("there is a probe \"{name}\" already, in `{first}`; names must differ"),
                ));
            }
            workshop.probe(&settings, kind)
        });
        match built {
            Ok(probe) => probes.push(probe),
            Err(fault) => problems.extend(fault.at(config, &key).problems),
        }
    }
    if probes.len() > PROBES {
        problems.extend(config.error("probe", format!("{} probes are more than {PROBES}", probes.len())).problems);
    }
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }
    probes.sort_by(|a, b| a.spec.key.cmp(&b.spec.key));
    super::cause::share(&mut probes);
    Ok((probes, workshop.into_groups()))
}
