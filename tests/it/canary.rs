//! No secret leaves by a mistake: unique texts are put where secrets stand, with every kind of error around them,
//! and looked for in everything that the program says.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use std::time::Duration;

use rustix::process::Signal;
use watchdog::client::http::{Http, Options};

use crate::daemon::{Daemon, configure, wait, watchdog};
use crate::peer::http::{Manner, Peer};
use crate::peer::telegram::Telegram;
use crate::setup::Setup;

/// What must be found nowhere.
const CANARY: &str = "canary7f3a";

/// Settings that hold a secret: the header of their table, the key, a value that could be right, and what else the
/// table needs.
const SECRETS: &[(&str, &str, &str, &str)] = &[
    ("[telegram]", "bot_token", "123456:AAcanary7f3aAAAAAAAA", "chat_id = \"42\""),
    ("", "heartbeat_url", "https://hc.example/canary7f3a", ""),
    ("[serve]", "token", "canary7f3a-correct-horse", ""),
    ("[app]", "authorization", "Bearer canary7f3a", "metrics_url = \"http://127.0.0.1:9/\""),
    ("[consul]", "token", "canary7f3a", ""),
    ("[[probe]]", "authorization", "Bearer canary7f3a", "name = \"api\"\ntarget = \"http://127.0.0.1:9/\""),
];

/// Ways to get the line of `key` wrong.
fn mistakes(key: &str, value: &str) -> Vec<String> {
    vec![
        format!("{key} = \"{value}"),
        format!("{key} = {value}"),
        format!("{key} = '{value}\""),
        format!("{key} \"{value}\""),
        format!("{key}: \"{value}\""),
        format!("{key} = \"{value}\" and {value}"),
        format!("{key} = \"{value}\\q\""),
        format!("{key} = \"\"\"{value}"),
        format!("{key} = \"{value}\"\n{key} = \"{value}\""),
        format!("{key} = [\"{value}\"]"),
        format!("{key} = [\"{value}\""),
        format!("{key} = {{ {CANARY} = \"{value}\" }}"),
        format!("{key}.{CANARY} = \"{value}\""),
        format!("{key} = \"{value}\"\n{key}.{CANARY} = \"{value}\""),
        format!("{key}x = \"{value}\""),
        format!("{key} = 12{CANARY}"),
        format!("{key} = \"{value}\\u0000\""),
        format!("{key} = \"{value}\"\n[{key}\n"),
        format!("{key} = \"{value}\"\nfail_after = \"{value}\""),
    ]
}

fn assert_silent(what: &str, said: &str) {
    assert!(!said.contains(CANARY), "{what}\nsaid:\n{said}");
}

/// Everything that the commands print with the configuration in `dir`, and how `config check` ended.
fn all_said(dir: &std::path::Path, more: &[&str], environment: &[(&str, OsString)]) -> (i32, String) {
    let mut said = String::new();
    let mut code = 0;
    for command in [&["config", "check"][..], &["config", "show"], &["config", "explain"], &["run", "--once"]] {
        let mut all = watchdog(dir);
        all.args(more).args(command).envs(environment.iter().map(|(name, value)| (*name, value)));
        let output = all.args(["--set", "host.enabled=false", "--set", "docker.enabled=false"]).output().unwrap();
        if command[1] == "check" {
            code = output.status.code().unwrap();
        }
        said += &String::from_utf8_lossy(&output.stdout);
        said += &String::from_utf8_lossy(&output.stderr);
    }
    (code, said)
}

#[test]
fn a_mistake_on_the_line_of_a_secret_shows_nothing_of_it() {
    let dir = tempfile::tempdir().unwrap();
    for (header, key, value, more) in SECRETS {
        for mistake in mistakes(key, value) {
            let text = format!("listen = \"\"\ntimeout = \"100ms\"\n{header}\n{more}\n{mistake}\n");
            configure(dir.path(), &text);
            let (code, said) = all_said(dir.path(), &[], &[]);
            assert_silent(&text, &said);
            assert_eq!(code, 2, "{text}\n{said}");
            assert!(said.contains("watchdog.toml:"), "{text}\n{said}");
        }
        // In a place where nobody knows it.
        for wrong in [format!("nonsense = \"{value}\""), format!("[host]\n{key} = \"{value}\"")] {
            configure(dir.path(), &format!("{wrong}\n"));
            let (code, said) = all_said(dir.path(), &[], &[]);
            assert_silent(&wrong, &said);
            assert_eq!(code, 2, "{wrong}\n{said}");
        }
    }
}

#[test]
fn a_mistake_in_a_variable_or_a_flag_shows_nothing_of_its_secret() {
    let dir = tempfile::tempdir().unwrap();
    for (header, key, value, _) in SECRETS.iter().filter(|(header, ..)| *header != "[[probe]]") {
        let section = header.trim_matches(['[', ']']);
        let dotted = if section.is_empty() { (*key).to_string() } else { format!("{section}.{key}") };
        let variable = format!("WATCHDOG_{}", dotted.to_uppercase().replace('.', "__"));
        let mut broken = value.as_bytes().to_vec();
        broken.push(0xff);
        for (name, value) in [
            (variable.clone(), OsString::from_vec(broken)),
            (format!("{variable}X"), OsString::from(value)),
            (variable.replace("__", "_"), OsString::from(value)),
            (variable.clone(), OsString::from(format!("{value}\n{value}"))),
            ("WATCHDOG_PROBE".to_string(), OsString::from(format!("[{{ authorization = {value} }}]"))),
            ("WATCHDOG_PROBE".to_string(), OsString::from(format!("[{{ name = \"x\", autorization = \"{value}\" }}]"))),
            ("WATCHDOG_APP__HEADERS".to_string(), OsString::from(value)),
        ] {
            assert_silent(&name, &all_said(dir.path(), &[], &[(name.as_str(), value)]).1);
        }
        let mut flags = vec![format!("{dotted}:{value}"), format!("{dotted}x={value}"), (*value).to_string()];
        // What could be the name of a key is said as one.
        flags.extend(value.contains([':', ' ']).then(|| format!("{value}=1")));
        for flag in flags {
            assert_silent(&flag, &all_said(dir.path(), &["--set", &flag], &[]).1);
        }
    }
}

#[test]
fn credentials_and_secret_headers_are_masked_wherever_they_are_accepted_and_shown_nowhere_when_refused() {
    let dir = tempfile::tempdir().unwrap();
    for text in [
        "[telegram]\nbot_token = \"123456:AAA\"\nchat_id = \"42\"\napi_base = \"http://user:canary7f3a@127.0.0.1:9\"\n",
        "[telegram]\nchat_id = \"123456:AAcanary7f3aAAAAAAAAAAAAAAAAAAAAAAAA\"\nbot_token = \"42\"\n",
        "[app]\nmetrics_url = \"http://user:canary7f3a@127.0.0.1:9/\"\n",
        "[app]\nmetrics_url = \"http://127.0.0.1:9/?token=canary7f3a\"\n",
        "[app]\nmetrics_url = \"http://127.0.0.1:9/\"\nheaders = { Authorization = \"Bearer canary7f3a\" }\n",
        "[app]\nmetrics_url = \"http://127.0.0.1:9/\"\nheaders = { Cookie = \"canary7f3a\" }\n",
        "[app]\nmetrics_url = \"http://127.0.0.1:9/\"\nheaders = { X-Api-Key = \"canary7f3a\", X-Tenant = \"a\" }\n",
        "[app]\nmetrics_url = \"http://127.0.0.1:9/\"\nheaders = { X-Vault-Token = \"canary7f3a\\n\" }\n",
        "heartbeat_url = \"https://user:canary7f3a@hc.example/\"\n",
        "[consul]\naddress = \"http://user:canary7f3a@127.0.0.1:8500\"\n",
        "[oci]\nendpoint = \"http://user:canary7f3a@127.0.0.1:9\"\n[[node]]\nname = \"n1\"\ninstance_id = \"ocid1.instance.oc1.eu-frankfurt-1.a\"\n",
        "deps = [\"db=http://user:canary7f3a@127.0.0.1:9/\"]\n",
        "deps = [\"db=http://127.0.0.1:9/?api_key=canary7f3a\"]\n",
        "[[probe]]\nname = \"api\"\ntarget = \"http://user:canary7f3a@127.0.0.1:9/\"\n",
        "[[probe]]\nname = \"api\"\ntarget = \"http://127.0.0.1:9/?password=canary7f3a\"\n",
        "[[probe]]\nname = \"api\"\ntarget = \"http://127.0.0.1:9/\"\nheaders = { X-Api-Key = \"canary7f3a\" }\n",
        "[[probe]]\nname = \"api\"\ntarget = \"http://127.0.0.1:9/\"\nheaders = { Authorization = \"canary7f3a\" }\n",
    ] {
        configure(dir.path(), &format!("listen = \"\"\ntimeout = \"100ms\"\n{text}"));
        assert_silent(text, &all_said(dir.path(), &[], &[]).1);
    }
    for (name, value) in [
        ("CONSUL_HTTP_ADDR", "http://user:canary7f3a@127.0.0.1:8500"),
        ("CONSUL_HTTP_TOKEN", "canary7f3a canary7f3a"),
        ("CONSUL_HTTP_AUTH", "canary7f3a"),
        ("CONSUL_HTTP_AUTH", "user:canary7f3a\u{7f}"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:canary7f3a@127.0.0.1:9"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer canary7f3a,=canary7f3a"),
    ] {
        configure(
            dir.path(),
            "listen = \"\"\ntimeout = \"100ms\"\n[[node]]\nname = \"n1\"\nexecutor = \"none\"\nevidence = \"heartbeat-only\"\n",
        );
        assert_silent(name, &all_said(dir.path(), &[], &[(name, OsString::from(value))]).1);
    }
}

#[test]
fn where_a_redirect_leads_is_not_repeated() {
    for location in [
        "http://user:canary7f3a@[::bad/",
        "http://user:canary7f3a@127.0.0.1:99999/",
        "canary7f3a://user:canary7f3a@x y/",
        "http://user:canary7f3a@127.0.0.1:1/",
    ] {
        let answer = format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let peer = Peer::start(Manner::Say(answer.into_bytes()));
        let http = Http::new(Options { redirects: 3, timeout: Duration::from_secs(2), ..Options::default() });
        let said = match http.get(&peer.url(), &[]) {
            Ok(answer) => format!("status {}", answer.status),
            Err(error) => format!("{error} {error:?}"),
        };
        assert!(!peer.heard().is_empty());
        assert_silent(location, &said);
    }
}

#[test]
fn a_reload_of_a_broken_file_tells_its_place_and_nothing_of_its_secrets() {
    let telegram = Telegram::start();
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new("100ms").set("timeout", "500ms").telegram(&telegram);
    setup.write(dir.path());
    let daemon = Daemon::start(dir.path());
    daemon.wait_pass();
    let (header, key, value, more) = SECRETS[2];
    for (times, mistake) in mistakes(key, value).into_iter().enumerate() {
        configure(dir.path(), &format!("{}\n{header}\n{more}\n{mistake}\n", setup.toml()));
        daemon.signal(Signal::HUP);
        wait("the refusal", || (daemon.stderr().matches("configuration is not used").count() > times).then_some(()));
        daemon.wait_state("config/reload", "firing");
    }
    daemon.wait_pass();
    let told = telegram.wait_delivered(1, crate::daemon::SOON);
    let page = |path: &str| String::from_utf8(daemon.get(path).body).unwrap();
    let all =
        [page("/"), page("/api/v1/status"), page("/api/v1/history"), page("/metrics"), daemon.stderr()].join("\n");
    assert!(all.contains("watchdog.toml:"), "the place is told: {all}");
    assert_silent("reload", &all);
    assert_silent("reload", &format!("{told:?}"));
    daemon.terminate();
}

#[test]
fn a_header_that_is_given_by_a_file_is_sent_and_shown_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let (app, api) = (Peer::start(Manner::answer("200 OK", "x 1\n")), Peer::start(Manner::answer("200 OK", "ok")));
    std::fs::write(dir.path().join("key"), "canary7f3a\n").unwrap();
    let headers = "headers = { X-Api-Key_file = \"key\", X-Tenant = \"a\" }";
    let text = format!(
        "listen = \"\"\n[host]\nenabled = false\n[docker]\nenabled = false\n[app]\nmetrics_url = \"{}/metrics\"\n{headers}\n\
         [[probe]]\nname = \"api\"\ntarget = \"{}/\"\n{headers}\n",
        app.url(),
        api.url()
    );
    configure(dir.path(), &text);
    let (_, said) = all_said(dir.path(), &[], &[]);
    assert_silent("a header by its file", &said);
    assert!(said.contains("X-Api-Key_file") && !said.contains("is a secret in the open"), "{said}");
    for peer in [&app, &api] {
        let heard = peer.heard();
        let heads = heard.iter().map(|head| head.to_lowercase()).collect::<Vec<_>>();
        let sent = |line: &str| heads.iter().all(|head| head.lines().any(|sent| sent == line));
        assert!(!heads.is_empty() && sent("x-api-key: canary7f3a") && sent("x-tenant: a"), "{heads:?}");
        assert!(!heads.iter().any(|head| head.contains("_file")), "{heads:?}");
    }
    // In both ways at once, and a file that is not there.
    for (headers, words) in [
        ("{ X-Api-Key = \"canary7f3a\", x-api-key_file = \"key\" }", "are set; keep one"),
        ("{ X-Api-Key_file = \"nowhere\" }", "nowhere"),
    ] {
        configure(dir.path(), &format!("[app]\nmetrics_url = \"{}\"\nheaders = {headers}\n", app.url()));
        let (_, said) = all_said(dir.path(), &[], &[]);
        assert_silent(headers, &said);
        assert!(said.contains(words) && said.contains("app.headers."), "{said}");
    }
}
