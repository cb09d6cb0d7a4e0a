//! What `config check` refuses, each with its place, and all of it at once: nothing that cannot work is left to be
//! found when it is needed.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

mod cannot_work;

use watchdog::assemble::schema;
use watchdog::config::schema::{Field, Kind};
use watchdog::config::{Config, Layers};

use self::cannot_work::CANNOT_WORK;
use crate::daemon::{configure, wait, watchdog};
use crate::peer::http::{Manner, Peer};

const QUIET: &str = "listen = \"\"\n[host]\nenabled = false\n[docker]\nenabled = false\n";

/// `config check`, which must end within the time of a test: exit code and everything said.
fn checked(dir: &Path, environment: &[(&str, OsString)]) -> (i32, String) {
    let mut command = watchdog(dir);
    command.args(["config", "check"]).envs(environment.iter().map(|(name, value)| (*name, value)));
    ended(&mut command)
}

fn ended(command: &mut Command) -> (i32, String) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait("the command to end", || child.try_wait().unwrap());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    (status.code().unwrap(), [String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)].concat())
}

fn check_text(dir: &Path, text: &str) -> (i32, String) {
    configure(dir, text);
    checked(dir, &[])
}

#[test]
fn an_identity_that_two_entries_share_is_refused_with_both_places() {
    let dir = tempfile::tempdir().unwrap();
    let id = "ocid1.instance.oc1.eu-frankfurt-1.aaaa";
    let node = |name: &str, id: &str| {
        format!("[[node]]\nname = \"{name}\"\ninstance_id = \"{id}\"\nevidence = \"heartbeat-only\"\n")
    };
    let rule = "[[app.rule]]\nname = \"q\"\nvalue = \"/q\"\nwhen = \"> 5\"\n";
    for (text, words) in [
        (node("n1", id) + &node("n2", id), "node \"n1\""),
        (node("n1", id) + &node("n2", &id.to_uppercase()), "node \"n1\""),
        (node("n1", id) + &node("n1", &format!("{id}b")), "node \"n1\""),
        ("deps = [\"a=tcp://x:1\", \"a=tcp://y:1\"]\n".to_string(), "\"a\""),
        ("deps = [\"a=tcp://x:1\"]\n[[probe]]\nname = \"a\"\ntarget = \"tcp://y:1\"\n".to_string(), "\"a\""),
        (format!("[app]\nmetrics_url = \"http://x/\"\n{rule}{rule}"), "\"q\""),
        ("[docker]\ncontainers = [\"db\", \"web\", \"db\"]\n".to_string(), "\"db\""),
        ("[docker]\nexclude = [\"db\", \"db\"]\n".to_string(), "\"db\""),
        ("[docker]\ncontainers = [\"db\"]\nexclude = [\"db\"]\n".to_string(), "\"db\""),
        ("[host]\ndisk_pct = 90\ndisk_paths = [\"/data\", \"/data/\"]\n".to_string(), "\"/data/\""),
        ("[serve]\nallowed_hosts = [\"a.example\", \"A.example\"]\n".to_string(), "\"A.example\""),
    ] {
        let (code, said) = check_text(dir.path(), &text);
        assert!(code == 2 && said.contains(words) && said.contains("watchdog.toml:"), "{text}: {said}");
    }
    let (code, said) = check_text(dir.path(), &(node("n1", id) + &node("n2", id)));
    assert!(code == 2 && said.contains("watchdog.toml:7: node \"n2\"") && said.contains("watchdog.toml:1)"), "{said}");
}

#[test]
fn a_variable_of_ours_that_is_not_text_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let bad = || OsString::from_vec(b"fal\xffse".to_vec());
    for name in
        ["WATCHDOG_ENABLED", "WATCHDOG_INSTANCE", "WATCHDOG_TELEGRAM__CHAT_ID", "WATCHDOG_PROBE", "WATCHDOG_NOBODY"]
    {
        for command in [&["config", "check"][..], &["run", "--once"], &["check"], &["healthcheck"], &["beacon"]] {
            let (code, said) = ended(watchdog(dir.path()).args(command).env(name, bad()));
            assert!(code == 2 && said.contains(name) && said.contains("UTF-8"), "{name} {command:?}: {code} {said}");
        }
    }
    // The name itself.
    let (code, said) = ended(
        watchdog(dir.path()).args(["config", "check"]).env(OsString::from_vec(b"WATCHDOG_TI\xffCK".to_vec()), "1s"),
    );
    assert!(code == 2 && said.contains("WATCHDOG_TI"), "{code} {said}");
    // Those of others count where they are used.
    let node = "[[node]]\nname = \"n1\"\nexecutor = \"none\"\nevidence = \"heartbeat-only\"\n";
    for name in ["CONSUL_HTTP_ADDR", "CONSUL_HTTP_TOKEN", "CONSUL_CACERT"] {
        configure(dir.path(), &format!("{QUIET}{node}"));
        let (code, said) = checked(dir.path(), &[(name, bad())]);
        assert!(code == 2 && said.contains(name) && said.contains("UTF-8"), "{name}: {code} {said}");
    }
    configure(dir.path(), QUIET);
    let (code, said) = checked(dir.path(), &[("PATH_OF_NOBODY", bad()), ("WATCHDOG_TEST_X", bad())]);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn variables_that_kubernetes_makes_for_a_service_of_our_name_are_not_ours() {
    let dir = tempfile::tempdir().unwrap();
    let env: Vec<(&str, OsString)> = [
        ("WATCHDOG_SERVICE_HOST", "10.0.0.1"),
        ("WATCHDOG_SERVICE_PORT", "9106"),
        ("WATCHDOG_SERVICE_PORT_HTTP", "9106"),
        ("WATCHDOG_PORT", "tcp://10.0.0.1:9106"),
        ("WATCHDOG_PORT_9106_TCP", "tcp://10.0.0.1:9106"),
        ("WATCHDOG_PORT_9106_TCP_ADDR", "10.0.0.1"),
    ]
    .map(|(name, value)| (name, OsString::from(value)))
    .to_vec();
    configure(dir.path(), QUIET);
    let (code, said) = checked(dir.path(), &env);
    assert_eq!(code, 0, "{said}");
}

/// A directory with a `watchdog.toml` and an empty `conf.d`.
fn with_conf_d() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), QUIET);
    fs::create_dir(dir.path().join("conf.d")).unwrap();
    dir
}

#[test]
fn an_entry_of_conf_d_that_cannot_be_read_is_refused_by_name_and_holds_nobody_up() {
    type Make = fn(&Path);
    let makes: [(&str, Make); 8] = [
        ("a link that leads nowhere", |path| symlink("/nowhere/at/all", path).unwrap()),
        ("a link to itself", |path| symlink(path, path).unwrap()),
        ("a directory", |path| fs::create_dir(path).unwrap()),
        ("a pipe", |path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success())),
        ("a device", |path| symlink("/dev/zero", path).unwrap()),
        ("a socket", |path| drop(UnixListener::bind(path).unwrap())),
        ("one that is too big", |path| fs::write(path, vec![b'#'; 1024 * 1024 + 1]).unwrap()),
        ("one that is not text", |path| fs::write(path, b"log = \"\xff\"").unwrap()),
    ];
    for (what, make) in makes {
        let dir = with_conf_d();
        make(&dir.path().join("conf.d/probes.toml"));
        let (code, said) = checked(dir.path(), &[]);
        assert!(code == 2 && said.contains("conf.d/probes.toml"), "{what}: {code} {said}");
    }
    let dir = with_conf_d();
    fs::remove_dir(dir.path().join("conf.d")).unwrap();
    symlink("/nowhere/at/all", dir.path().join("conf.d")).unwrap();
    let (code, said) = checked(dir.path(), &[]);
    assert!(code == 2 && said.contains("conf.d"), "{code} {said}");
}

#[test]
fn a_pipe_as_a_configuration_or_a_secret_is_refused_at_once() {
    let dir = with_conf_d();
    let pipe = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (code, said) = ended(watchdog(dir.path()).args(["--config", "pipe", "config", "check"]));
    assert!(code == 2 && said.contains("pipe"), "{code} {said}");
    for text in [
        "[consul]\ntoken_file = \"pipe\"\n".to_string(),
        "[consul]\nca_file = \"pipe\"\n".to_string(),
        "[serve]\ntoken_file = \"pipe\"\n".to_string(),
        "[[probe]]\nname = \"a\"\ntarget = \"https://x/\"\nca_file = \"pipe\"\n".to_string(),
        "[oci]\nconfig_file = \"pipe\"\n[[node]]\nname = \"n\"\ninstance_id = \"ocid1.instance.oc1.fra.a\"\n"
            .to_string(),
    ] {
        let (code, said) = check_text(dir.path(), &format!("{QUIET}{text}"));
        assert!(code == 2 && said.contains("pipe"), "{text}: {code} {said}");
    }
}

#[test]
fn what_looks_like_configuration_in_conf_d_and_is_not_read_is_said() {
    let dir = with_conf_d();
    fs::write(dir.path().join("conf.d/10-real.toml"), "log = \"debug\"\n").unwrap();
    for name in ["probes.toml.bak", "probes.yaml", "probes.toml~", "probes.TOML", ".hidden.toml", "probes.conf"] {
        fs::write(dir.path().join("conf.d").join(name), "nonsense").unwrap();
    }
    symlink("user@host.1234", dir.path().join("conf.d/.#probes.toml")).unwrap();
    fs::write(dir.path().join("conf.d/README"), "words").unwrap();
    let (code, said) = checked(dir.path(), &[]);
    assert_eq!(code, 0, "{said}");
    for name in ["probes.toml.bak", "probes.yaml", "probes.toml~", "probes.TOML", ".hidden.toml", "probes.conf"] {
        assert_eq!(said.matches(&format!("conf.d/{name} ")).count(), 1, "{name}: {said}");
    }
    assert!(!said.contains("README") && said.contains("10-real.toml"), "{said}");
}

#[test]
fn whoever_may_not_look_into_the_directory_of_the_configuration_is_told() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), QUIET);
    fs::create_dir(dir.path().join("named.toml")).unwrap();
    for name in ["named.toml", "absent.toml", "/dev/null/x"] {
        let (code, said) = ended(watchdog(dir.path()).args(["--config", name, "config", "check"]));
        assert!(code == 2 && said.contains(name), "{name}: {code} {said}");
    }
    fs::remove_file(dir.path().join("watchdog.toml")).unwrap();
    symlink("/nowhere/at/all", dir.path().join("watchdog.toml")).unwrap();
    let (code, said) = checked(dir.path(), &[]);
    assert!(code == 2 && said.contains("watchdog.toml"), "a default place that is broken: {code} {said}");
}

#[test]
fn what_cannot_work_is_refused_by_the_check_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let mut passed = Vec::new();
    for (header, more, lines) in CANNOT_WORK {
        for line in *lines {
            let header = if more.contains(header) && !header.is_empty() { "" } else { header };
            let text = format!("{header}\n{more}\n{line}\n");
            let (code, said) = check_text(dir.path(), &text);
            if code != 2 || !said.contains("watchdog.toml:") {
                passed.push(format!("{text}\n{said}"));
            }
        }
    }
    assert!(passed.is_empty(), "accepted, or without a place:\n{}", passed.join("\n"));
}

/// A value of a type that no field has for each kind of field.
fn wrong_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Secret | Kind::Span | Kind::Choice(_) => "[1]",
        Kind::Flag | Kind::Number | Kind::Count(_) => "\"x\"",
        Kind::List | Kind::Texts | Kind::ListOr(_) | Kind::Tables(_) | Kind::Map => "7",
    }
}

#[test]
fn every_key_of_every_section_refuses_a_wrong_type_with_its_line_and_a_right_example() {
    let dir = tempfile::tempdir().unwrap();
    let (mut text, mut expected) = (String::new(), Vec::new());
    let mut write = |header: &str, fields: &[Field], text: &mut String| {
        if !header.is_empty() {
            let _ = writeln!(text, "{header}");
        }
        for field in fields {
            let _ = writeln!(text, "{} = {}", field.name, wrong_type(field.kind));
            expected.push((text.lines().count(), field.name));
        }
    };
    for section in schema() {
        match (section.path, section.list) {
            ("", _) => write("", section.fields, &mut text),
            (path, true) => write(&format!("[[{path}]]"), section.fields, &mut text),
            (path, false) => write(&format!("[{path}]"), section.fields, &mut text),
        }
    }
    let (code, said) = check_text(dir.path(), &text);
    assert_eq!(code, 2, "{said}");
    for (line, name) in &expected {
        let found = said.lines().find(|said| said.contains(&format!("watchdog.toml:{line}: ")));
        let found = found.unwrap_or_else(|| panic!("line {line}, {name}, is not named:\n{said}"));
        assert!(found.contains(&format!("{name}`")), "{found}");
        assert!(found.contains("write ") || found.contains("should be one of"), "no example: {found}");
    }
    assert!(expected.len() > 120, "{}", expected.len());
    assert_eq!(said.lines().count(), expected.len(), "nothing is said that only follows from another mistake:\n{said}");
}

#[test]
fn mistakes_of_every_sort_are_found_at_once_and_tables_are_called_by_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let text = "\
tick = 5
listen = \"nowhere\"
heartbeat_url = \"http://\"
cooldown = 1h
[telegram]
chat_id = \"42\"
bot_tokn = \"123:abc\"
[[probe]]
name = \"api\"
target = \"tcp://db\"
[[probe]]
target = \"tcp://db:1\"
intervall = \"5s\"
[app]
metrics_url = \"http://x/\"
[[app.rule]]
name = \"queue\"
value = \"/q\"
when = \"more\"
[beacon]
ttl = \"0\"
renew = \"0\"
[recovery]
poll = \"1ms\"
";
    let (code, said) = check_text(dir.path(), text);
    assert_eq!(code, 2);
    for line in [
        "watchdog.toml:1: `tick`: should be a duration in quotes, with its unit; write for example tick = \"15s\"",
        "watchdog.toml:2: `listen`: \"nowhere\" is not an address and port",
        "watchdog.toml:3: `heartbeat_url`: has no host",
        "watchdog.toml:4:",
        "watchdog.toml:7: `telegram.bot_tokn`: unknown key; did you mean `bot_token`?",
        "watchdog.toml:10: probe \"api\": `target`: has no port",
        "watchdog.toml:11: `probe[1].name`: is needed",
        "watchdog.toml:13: `probe[1].intervall`: unknown key; did you mean `interval`?",
        "watchdog.toml:19: rule \"queue\": `when`:",
        "watchdog.toml:21: `beacon.ttl`",
        "watchdog.toml:22: `beacon.renew`",
        "watchdog.toml:24: `recovery.poll`",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    assert!(!said.contains("bot_token`: is missing"), "it was meant, and misspelt: {said}");
    // What a key means can be asked meanwhile, and what is wrong with it is said beside.
    let (code, said) = ended(watchdog(dir.path()).args(["config", "explain", "tick"]));
    assert!(code == 0 && said.contains("15s") && said.contains("watchdog.toml:1: `tick`"), "{code} {said}");
    assert!(!said.contains("intervall"), "{said}");
}

#[test]
fn a_misspelt_variable_is_told_its_right_spelling() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), QUIET);
    for (wrong, right) in [
        ("WATCHDOG_TELEGRAM_BOT_TOKEN", "WATCHDOG_TELEGRAM__BOT_TOKEN"),
        ("WATCHDOG_COOL_DOWN", "WATCHDOG_COOLDOWN"),
        ("WATCHDOG_APP__METRIC_URL", "WATCHDOG_APP__METRICS_URL"),
    ] {
        let (code, said) = checked(dir.path(), &[(wrong, OsString::from("x"))]);
        assert!(code == 2 && said.contains(&format!("environment variable {wrong}: ")), "{said}");
        assert!(said.contains(&format!("did you mean `{right}`?")), "{said}");
    }
}

#[test]
fn what_consul_s_own_variables_say_is_done_or_refused_aloud() {
    let node = "[[node]]\nname = \"n1\"\nexecutor = \"none\"\nevidence = \"heartbeat-only\"\n";
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), &format!("timeout = \"1s\"\n{QUIET}{node}"));
    let consul = Peer::start(Manner::answer("404 Not Found", ""));
    let asked = |more: &[(&str, &str)], flags: &[&str]| {
        let before = consul.heard().len();
        let mut once = watchdog(dir.path());
        once.env("CONSUL_HTTP_ADDR", consul.url()).envs(more.iter().copied()).args(["run", "--once"]).args(flags);
        ended(&mut once);
        consul.heard().split_off(before).join("\n")
    };
    let auth = ("CONSUL_HTTP_AUTH", "user:pass");
    let heard = asked(&[auth, ("CONSUL_NAMESPACE", "team-a")], &[]);
    assert!(heard.to_lowercase().contains("authorization: basic dxnlcjpwyxnz"), "{heard}");
    assert!(heard.contains("ns=team-a"), "{heard}");
    let heard = asked(&[auth], &["--set", "consul.auth=own:word", "--set", "consul.namespace=b"]);
    assert!(heard.to_lowercase().contains("authorization: basic b3duondvcmq=") && heard.contains("ns=b"), "{heard}");
    for (name, value) in [
        ("CONSUL_HTTP_SSL_VERIFY", "false"),
        ("CONSUL_HTTP_SSL_VERIFY", "maybe"),
        ("CONSUL_HTTP_SSL", "maybe"),
        ("CONSUL_HTTP_AUTH", "canary"),
        ("CONSUL_NAMESPACE", "a b"),
        ("CONSUL_CLIENT_CERT", "/etc/consul/cert.pem"),
        ("CONSUL_CLIENT_KEY", "/etc/consul/key.pem"),
        ("CONSUL_CAPATH", "/etc/consul/"),
        ("CONSUL_TLS_SERVER_NAME", "consul.example"),
        ("CONSUL_PARTITION", "p"),
    ] {
        let (code, said) = checked(dir.path(), &[(name, OsString::from(value))]);
        assert!(code == 2 && (said.contains(name) || name.contains("NAMESPACE")), "{name}={value}: {said}");
        assert!(!said.contains("canary"), "{said}");
    }
    for (name, value) in [("CONSUL_HTTP_SSL_VERIFY", "true"), ("CONSUL_HTTP_SSL", "0"), ("CONSUL_NAMESPACE", "")] {
        let (code, said) = checked(dir.path(), &[(name, OsString::from(value))]);
        assert_eq!(code, 0, "{name}={value}: {said}");
    }
    // Whoever has nothing to do with Consul is not held up by what others want of it.
    configure(dir.path(), QUIET);
    let (code, said) = checked(dir.path(), &[("CONSUL_HTTP_SSL_VERIFY", OsString::from("false"))]);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn what_is_plausible_and_wrong_is_warned_of_and_keeps_nothing_from_running() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "cooldown = \"1s\"\n{QUIET}[app]\nmetrics_url = \"http://127.0.0.1:9/\"\nheaders = {{ X-Api-Key = \"canary\" }}\n"
    );
    let (code, said) = check_text(dir.path(), &text);
    assert_eq!(code, 0, "{said}");
    for words in [
        "warning   watchdog.toml:1: `cooldown.critical`",
        "warning   watchdog.toml:9: `app.headers`: X-Api-Key is a secret",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let (_, said) = ended(watchdog(dir.path()).args(["run", "--once"]));
    assert!(said.contains("`cooldown.critical`") && !said.contains("canary"), "{said}");
    let (_, said) = ended(watchdog(dir.path()).args(["config", "show"]));
    assert!(said.contains("\"X-Api-Key\" = \"********\"") && !said.contains("canary"), "{said}");
}

#[test]
fn a_cooldown_is_one_duration_or_one_for_each_severity_and_layers_are_joined_key_by_key() {
    let dir = tempfile::tempdir().unwrap();
    let minutes = |file: &str, environment: &[(&str, &str)], overrides: &[&str]| {
        let files = vec![configure(dir.path(), file)];
        let pairs = environment.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        let overrides = overrides.iter().map(ToString::to_string).collect();
        let layers = Layers { files, environment: pairs.collect(), overrides, ..Layers::default() };
        let all = Config::load(&layers, &schema()).unwrap_or_else(|e| panic!("{e}")).cooldowns();
        [all.critical, all.warning, all.info].map(|span| span.as_secs() / 60)
    };
    let table = "cooldown = { warning = \"6h\", info = \"0\" }";
    assert_eq!(minutes("", &[], &[]), [60, 60, 60]);
    assert_eq!(minutes("cooldown = \"30m\"", &[], &[]), [30, 30, 30]);
    assert_eq!(minutes(table, &[], &[]), [60, 360, 0]);
    assert_eq!(minutes(table, &[("WATCHDOG_COOLDOWN", "10m")], &[]), [10, 10, 10], "a later layer says all of it");
    assert_eq!(minutes("cooldown = \"30m\"", &[("WATCHDOG_COOLDOWN__WARNING", "6h")], &[]), [30, 360, 30]);
    let both = [("WATCHDOG_COOLDOWN__WARNING", "6h"), ("WATCHDOG_COOLDOWN", "10m")];
    assert_eq!(minutes("", &both, &[]), [10, 360, 10], "whichever comes first");
    assert_eq!(minutes(table, &both, &["cooldown=1m", "cooldown.info=2m"]), [1, 1, 2]);
    for (text, words) in [
        ("cooldown = \"often\"", "watchdog.toml:1: `cooldown`: \"often\" is not a duration"),
        ("cooldown = 5", "`cooldown`: should be a duration in quotes, or a table of them"),
        ("cooldown = { critcal = \"1h\" }", "`cooldown.critcal`: unknown key; did you mean `critical`?"),
        ("[cooldown]\ninfo = \"x\"", "watchdog.toml:2: `cooldown.info`: \"x\" is not a duration"),
    ] {
        let (code, said) = check_text(dir.path(), &format!("{text}\n"));
        assert!(code == 2 && said.contains(words), "{text}: {said}");
    }
}
