//! What is allowed and still probably not meant: said by `config check`, at the start and after a reload.
//!
//! A doubt keeps nothing from running. Looks at the settings of every part as they are written, at most at the file
//! system that the state lies on, and never at the network.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::config::headers::FILE;
use crate::config::value::{Secret, Span};
use crate::config::veil::is_secret_name;
use crate::config::{Config, Problem};
use crate::core::policy::Cooldowns;

/// Checks a second above which somebody is told what was asked for.
const CHECKS_A_SECOND: f64 = 200.0;
/// What the kernel calls file systems that are memory.
const MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// Every doubt about a configuration, in words, with its place.
pub fn doubts(config: &Config) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut doubt = |key: &str, what: String| found.push(config.problem(key, what));
    program(config, &mut doubt);
    telegram(config, &mut doubt);
    probes(config, &mut doubt);
    headers(config, &mut doubt);
    others(config, &mut doubt);
    idle(config, &mut doubt);
    found
}

type Doubt<'a> = dyn FnMut(&str, String) + 'a;

fn program(config: &Config, doubt: &mut Doubt<'_>) {
    let root = config.root();
    let Cooldowns { critical, warning, info } = config.cooldowns();
    let all = [("critical", critical), ("warning", warning), ("info", info)];
    let short = |cooldown: Duration| !cooldown.is_zero() && cooldown < Duration::from_mins(1);
    if let Some((name, cooldown)) = all.into_iter().find(|(_, cooldown)| short(*cooldown)) {
        let what = format!("{} means a reminder every few seconds while something lasts; 1h is usual", Span(cooldown));
        doubt(&format!("cooldown.{name}"), what);
    }
    if !root.state.is_empty() && is_memory(Path::new(&root.state)) {
        let what = "lies on a file system in memory: what must survive a restart of the machine or the container is \
                    lost with it; name a file on a disk or a volume";
        doubt("state", what.to_string());
    }
    let is_closed = ["token", "token_file"].iter().any(|name| text(config, "serve", name).is_some());
    if root.listen.parse::<SocketAddr>().is_ok_and(|at| !at.ip().is_loopback()) && !is_closed {
        let what = "shows the status page to everybody who reaches this address; set serve.token to ask for a password";
        doubt("listen", what.to_string());
    }
    let heartbeat = root.heartbeat_url.as_ref().map(Secret::expose);
    let metrics = text(config, "app", "metrics_url");
    for (key, url) in [("heartbeat_url", heartbeat), ("app.metrics_url", metrics)] {
        if url.is_some_and(|url| is_own(url, &root.listen)) {
            doubt(key, "is the watchdog's own address (listen), not that of what it should reach".to_string());
        }
    }
}

/// True when the URL leads to the address that we listen on.
fn is_own(url: &str, listen: &str) -> bool {
    let Ok(listen) = listen.parse::<SocketAddr>() else { return false };
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().unwrap_or(0)),
        _ => (authority, if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 }),
    };
    let host = host.trim_matches(['[', ']']);
    let here = host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip == listen.ip() || ip.is_loopback() || ip.is_unspecified());
    port == listen.port() && here
}

/// True when the file is, or would be, on a file system that is memory.
fn is_memory(state: &Path) -> bool {
    let above = state.ancestors().find(|path| path.exists());
    let above = above.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    rustix::fs::statfs(above).is_ok_and(|fs| MEMORY.contains(&(fs.f_type as u64)))
}

fn telegram(config: &Config, doubt: &mut Doubt<'_>) {
    let Some(chat) = text(config, "telegram", "chat_id").map(str::trim) else { return };
    let bot =
        text(config, "telegram", "bot_token").and_then(|token| token.split_once(':')).map(|(number, _)| number.trim());
    if bot == Some(chat) {
        let what = "is the number of the bot itself, which cannot write to itself; send the bot a message and take the \
                    number of the chat";
        doubt("telegram.chat_id", what.to_string());
    } else if chat.len() >= 13 && chat.starts_with("100") && chat.bytes().all(|b| b.is_ascii_digit()) {
        doubt("telegram.chat_id", format!("looks like a group or channel, whose numbers are negative; write -{chat}"));
    }
}

fn probes(config: &Config, doubt: &mut Doubt<'_>) {
    let root = config.root();
    let mut a_second = root.deps.len() as f64 / root.tick.0.as_secs_f64().max(0.001);
    for (index, probe) in tables(config, "", "probe").enumerate() {
        let span = |name: &str| probe.get(name).and_then(Value::as_str).and_then(|text| Span::parse(text).ok());
        let (interval, timeout) = (span("interval"), span("timeout"));
        if interval.is_some_and(|interval| interval.0.is_zero()) {
            let what = format!("0 means every tick ({}); write an interval, or leave the key out", root.tick);
            doubt(&format!("probe[{index}].interval"), what);
        }
        let every = interval.filter(|interval| !interval.0.is_zero()).unwrap_or(root.tick);
        let limit = timeout.unwrap_or(root.timeout);
        if (interval.is_some() || timeout.is_some()) && every < limit {
            let key = if interval.is_some() { "interval" } else { "timeout" };
            let what = format!(
                "a check may take up to {limit} (timeout) and is due every {every} (interval): one that hangs \
                                takes the place of those after it"
            );
            doubt(&format!("probe[{index}].{key}"), what);
        }
        a_second += 1.0 / every.0.as_secs_f64().max(0.001);
    }
    if a_second > CHECKS_A_SECOND {
        let what =
            format!("asks for {a_second:.0} checks a second; a longer tick, or probes with an interval, cost less");
        doubt("tick", what);
    }
}

fn headers(config: &Config, doubt: &mut Doubt<'_>) {
    let secret = |table: Option<&Value>| {
        let names = table.and_then(Value::as_object).into_iter().flat_map(Map::keys);
        names.filter(|name| is_secret_name(name) && !name.ends_with(FILE)).cloned().collect::<Vec<_>>()
    };
    let what = |name: &str, own: &str| {
        let way = if name.eq_ignore_ascii_case("authorization") {
            format!("put it into {own}, or its file into {own}_file")
        } else {
            format!("a file keeps it apart: name that by {name}_file in the same table")
        };
        format!("{name} is a secret in the open configuration; it is masked where it is shown, but {way}")
    };
    for name in secret(config.value("app", "headers")) {
        doubt("app.headers", what(&name, "app.authorization"));
    }
    for (index, probe) in tables(config, "", "probe").enumerate() {
        for name in secret(probe.get("headers")) {
            doubt(&format!("probe[{index}].headers"), what(&name, "authorization"));
        }
    }
    let has_secret = |url: &str| {
        url.split_once('?').is_some_and(|(_, query)| {
            query
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .any(|(name, value)| is_secret_name(name) && !value.is_empty())
        })
    };
    if text(config, "app", "metrics_url").is_some_and(has_secret) {
        let what = "has a secret in its query, which servers and proxies write into their logs; app.authorization is kept apart";
        doubt("app.metrics_url", what.to_string());
    }
}

fn others(config: &Config, doubt: &mut Doubt<'_>) {
    let limit = |name: &str| config.value("host", name).and_then(Value::as_f64);
    let unlimited = limit("disk_pct").is_some_and(|percent| percent <= 0.0)
        && limit("inodes_pct").is_none_or(|percent| percent <= 0.0);
    if config.is_set("host.disk_paths") && unlimited {
        let what = "says nothing of how full they are; set host.disk_pct, for example to 90, or host.inodes_pct";
        doubt("host.disk_paths", what.to_string());
    }
    let is_oci = |node: &Value| node.get("executor").and_then(Value::as_str).is_none_or(|name| name == "oci");
    if config.is_set("oci") && !tables(config, "", "node").any(is_oci) {
        doubt("oci", "is not used: no [[node]] has executor = \"oci\"".to_string());
    }
}

/// What somebody has set and what does nothing as long as something else is missing: a wish is never silently off.
fn idle(config: &Config, doubt: &mut Doubt<'_>) {
    // An empty variable in a compose file sets nothing.
    let is_asked = |section: &str| {
        let table = config.value("", section).and_then(Value::as_object);
        table.is_some_and(|table| table.values().any(|value| value.as_str() != Some("")))
    };
    let has = |section: &str, names: &[&str]| names.iter().any(|name| text(config, section, name).is_some());
    if is_asked("app") && !has("app", &["metrics_url"]) && config.value("app", "rule").is_none() {
        doubt("app", "is set, and no application is watched; set app.metrics_url".to_string());
    }
    if is_asked("telegram") && !has("telegram", &["bot_token", "bot_token_file", "chat_id"]) {
        let what = "is set, and no alert goes there; set telegram.bot_token and telegram.chat_id";
        doubt("telegram", what.to_string());
    }
    if is_asked("recovery") && tables(config, "", "node").next().is_none() {
        doubt("recovery", "is set, and there is nothing to repair; add a [[node]]".to_string());
    }
    if is_asked("serve") && config.root().listen.is_empty() {
        doubt("serve", "is set, and nothing is served; set listen".to_string());
    }
}

fn tables<'a>(config: &'a Config, path: &str, name: &str) -> impl Iterator<Item = &'a Value> {
    config.value(path, name).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(config: &'a Config, path: &str, name: &str) -> Option<&'a str> {
    config.value(path, name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(toml: &str) -> String {
        let config = Config::from_toml(toml).unwrap();
        doubts(&config).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_is_usual_raises_no_doubt() {
        let usual = "\
            tick = \"5s\"\nheartbeat_url = \"https://hc.example/ping\"\n\
            [telegram]\nbot_token = \"123456:abc\"\nchat_id = \"-1001234567890\"\n\
            [app]\nmetrics_url = \"http://app:8080/metrics?full=1\"\nheaders = { X-Tenant = \"a\" }\n\
            [host]\ndisk_paths = [\"/\"]\n\
            [[probe]]\nname = \"a\"\ntarget = \"tcp://a:1\"\ninterval = \"10s\"\ntimeout = \"2s\"\n";
        assert_eq!(said(usual), "");
        assert_eq!(said(""), "");
        assert_eq!(said("cooldown = \"0\""), "", "never again is a wish");
        assert_eq!(said("listen = \"0.0.0.0:9106\"\n[serve]\ntoken = \"12345678\""), "");
    }

    #[test]
    fn what_is_plausible_and_wrong_is_doubted_in_its_place() {
        for (toml, words) in [
            ("cooldown = \"5s\"", "configuration:1: `cooldown.critical`"),
            ("listen = \"0.0.0.0:9106\"", "`listen`: shows the status page to everybody who reaches this address"),
            ("heartbeat_url = \"http://localhost:9106/\"", "`heartbeat_url`: is the watchdog's own address"),
            (
                "listen = \"0.0.0.0:80\"\n[serve]\ntoken = \"12345678\"\n[app]\nmetrics_url = \"http://127.0.0.1/metrics\"",
                "`app.metrics_url`: is the watchdog",
            ),
            ("[telegram]\nchat_id = \"1001234567890\"", "write -1001234567890"),
            (
                "[telegram]\nbot_token = \"123456:canary\"\nchat_id = \"123456\"",
                "`telegram.chat_id`: is the number of the bot",
            ),
            ("[[probe]]\nname = \"a\"\ninterval = \"1s\"", "probe \"a\": `interval`: a check may take up to 5s"),
            ("[[probe]]\nname = \"a\"\ntimeout = \"1m\"", "probe \"a\": `timeout`"),
            ("[[probe]]\nname = \"a\"\ninterval = \"0\"", "0 means every tick (15s)"),
            (
                "tick = \"100ms\"\ndeps = [\"a=x\", \"b=x\", \"c=x\", \"d=x\", \"e=x\", \"f=x\", \"g=x\", \"h=x\", \"i=x\", \"j=x\", \"k=x\", \"l=x\", \"m=x\", \"n=x\", \"o=x\", \"p=x\", \"q=x\", \"r=x\", \"s=x\", \"t=x\", \"u=x\"]",
                "asks for 210 checks a second",
            ),
            ("[app]\nmetrics_url = \"http://a/\"\nheaders = { Authorization = \"canary\" }", "app.authorization_file"),
            (
                "[[probe]]\nname = \"a\"\nheaders = { X-Api-Key = \"canary\" }",
                "probe \"a\": `headers`: X-Api-Key is a secret",
            ),
            ("[app]\nmetrics_url = \"http://a/?token=canary\"", "`app.metrics_url`: has a secret in its query"),
            ("[host]\ndisk_paths = [\"/data\"]\ndisk_pct = 0", "set host.disk_pct"),
            ("[app]\ndown_after = 5", "`app`: is set, and no application is watched"),
            ("[telegram]\nthread_id = 7", "`telegram`: is set, and no alert goes there"),
            ("[recovery]\nafter = \"9m\"", "`recovery`: is set, and there is nothing to repair"),
            ("listen = \"\"\n[serve]\nallowed_hosts = [\"a\"]", "`serve`: is set, and nothing is served"),
            ("[oci]\nprofile = \"P\"\n[[node]]\nname = \"a\"\nexecutor = \"none\"", "`oci`: is not used"),
        ] {
            let said = said(toml);
            assert!(said.contains(words) && !said.contains("canary"), "{toml}: {said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }

    #[test]
    fn a_state_in_memory_is_doubted_and_one_on_a_disk_is_not() {
        if is_memory(Path::new("/dev/shm")) {
            assert!(
                said("state = \"/dev/shm/watchdog/state.db\"").contains("`state`: lies on a file system in memory")
            );
        }
        assert_eq!(said("state = \"/usr/state.db\""), "");
    }
}
