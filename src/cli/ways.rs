//! Which parts of the program ask through which proxy, for the first screen.
//!
//! Reads the configuration as the parts themselves do, and asks nobody.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::client::proxy::{Environment, Proxies};
use crate::config::Config;
use crate::config::value::Secret;
use crate::source::probe;

/// One line: `telegram, heartbeat and 2 probes through 10.0.0.1:3128`; `None` where everything goes directly.
pub fn ways(config: &Config) -> Option<String> {
    let environment = Environment::of(config).unwrap_or_default();
    let keys = ["telegram.proxy", "app.proxy", "consul.proxy", "oci.proxy", "heartbeat_proxy", "probe"];
    if environment == Environment::default() && !keys.iter().any(|key| is_set(config, key)) {
        return None;
    }
    // By proxy: the parts that go through it, and how many probes.
    let mut through: BTreeMap<String, (Vec<&str>, usize)> = BTreeMap::new();
    for (name, url, proxies) in parts(config) {
        if let Some(proxy) = proxies.route_of(&url) {
            through.entry(proxy.to_string()).or_default().0.push(name);
        }
    }
    for (url, proxies) in probes(config, &environment) {
        if let Some(proxy) = proxies.route_of(&url) {
            through.entry(proxy.to_string()).or_default().1 += 1;
        }
    }
    let lines: Vec<String> = through.into_iter().map(|(proxy, (names, probes))| one(&proxy, &names, probes)).collect();
    (!lines.is_empty()).then(|| lines.join("; "))
}

fn is_set(config: &Config, key: &str) -> bool {
    config.is_set(key) || config.is_set(&format!("{key}_file"))
}

fn one(proxy: &str, names: &[&str], probes: usize) -> String {
    let mut all: Vec<String> = names.iter().map(ToString::to_string).collect();
    match probes {
        0 => {}
        1 => all.push("1 probe".to_string()),
        count => all.push(format!("{count} probes")),
    }
    let last = all.pop().unwrap_or_default();
    let all = if all.is_empty() { last } else { format!("{} and {last}", all.join(", ")) };
    format!("{all} through {proxy}")
}

/// The parts that are on and ask somebody: name, address, proxies.
fn parts(config: &Config) -> Vec<(&'static str, String, Arc<Proxies>)> {
    let text = |section: &str, name: &str| config.value(section, name).and_then(Value::as_str).map(str::to_string);
    let proxies = |section: &str, name: &str| {
        let own = text(section, name).map(Secret::new);
        let file = text(section, &format!("{name}_file"));
        // What cannot be read was told before this.
        Proxies::of(config, name, own.as_ref(), file.as_deref().map(Path::new)).unwrap_or_default()
    };
    let mut all = Vec::new();
    if is_set(config, "telegram.bot_token") {
        let base = text("telegram", "api_base").unwrap_or_else(|| "https://api.telegram.org".to_string());
        all.push(("telegram", base, proxies("telegram", "proxy")));
    }
    if let Ok(Some(url)) = crate::deadman::url(config) {
        all.push(("heartbeat", url.expose().to_string(), proxies("", "heartbeat_proxy")));
    }
    if let Some(url) = text("app", "metrics_url").filter(|url| !url.is_empty()) {
        all.push(("app", url, proxies("app", "proxy")));
    }
    if config.is_set("node") || config.is_set("consul") {
        if let Ok(consul) = crate::client::consul::connect(config, config.root().timeout.0) {
            all.push(("consul", consul.address().to_string(), proxies("consul", "proxy")));
        }
        let endpoint = text("oci", "endpoint").filter(|endpoint| !endpoint.is_empty());
        let endpoint = endpoint.unwrap_or_else(|| "https://iaas.oraclecloud.com".to_string());
        if config.is_set("node") {
            all.push(("oci", endpoint, proxies("oci", "proxy")));
        }
    }
    all
}

/// The address of every http probe, with its proxies.
fn probes(config: &Config, environment: &Environment) -> Vec<(String, Proxies)> {
    let from_environment = || Proxies::new(None, environment.clone()).unwrap_or_default();
    let mut all = Vec::new();
    for settings in config.each::<probe::settings::Settings>("probe").flatten() {
        let (direct, file) = (settings.proxy.as_ref(), settings.proxy_file.as_deref());
        let own = Secret::resolve("proxy", direct, file).ok().flatten();
        if own.is_some() || *environment != Environment::default() {
            let own = Proxies::new(own.as_ref().map(Secret::expose), environment.clone());
            all.push((settings.target, own.unwrap_or_default()));
        }
    }
    for entry in &config.root().deps {
        if let Some((_, target)) = entry.split_once('=')
            && *environment != Environment::default()
        {
            all.push((target.trim().to_string(), from_environment()));
        }
    }
    all.retain(|(url, _)| url.starts_with("http"));
    all
}
