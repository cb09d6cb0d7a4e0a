//! `watchdog doctor` as a newcomer runs it: each part in order, and each part in the way.

use std::time::{Duration, Instant};

use crate::daemon::run;
use crate::peer::docker::{self, Reply};
use crate::peer::http::{Manner, Peer};
use crate::peer::oci::{Lifecycle, Oci, ocid};
use crate::peer::telegram::{Answer, TOKEN, Telegram};
use crate::setup::Setup;

/// What it prints, and its exit code.
fn doctor(setup: &Setup) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    setup.write(dir.path());
    let output = run(dir.path(), &["doctor"]);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!said.contains(TOKEN.split_once(':').unwrap().1), "the token shows: {said}");
    (output.status.code().unwrap(), said)
}

/// The line of a part with what to do about it.
fn about<'a>(said: &'a str, part: &str) -> &'a str {
    let begin = said.find(&format!("  {part} ")).unwrap_or_else(|| panic!("no {part}: {said}")) - 2;
    let rest = &said[begin..];
    let ends = ["\nOK  ", "\n!!  ", "\n--  ", "\nnothing is", "\n1 thing", "\n2 things"];
    let end = ends.iter().filter_map(|end| rest.find(end)).min().unwrap_or(rest.len());
    &rest[..end]
}

fn engine() -> docker::Peer {
    docker::Peer::start(|path| match path {
        "/_ping" => docker::json(200, "1.41", "OK"),
        _ => docker::json(200, "1.41", "[]"),
    })
}

#[test]
fn a_machine_that_has_everything_is_told_so_line_by_line() {
    let (telegram, oci, engine) = (Telegram::start(), Oci::start(), engine());
    oci.add_instance(&ocid("n1"), Lifecycle::Running);
    let creds = tempfile::tempdir().unwrap();
    let answer = "HTTP/1.1 200 OK\r\nX-Consul-Index: 5\r\nX-Consul-KnownLeader: true\r\nX-Consul-LastContact: 0\r\nContent-Length: 16\r\n\r\n\"127.0.0.1:8300\"";
    let consul = Peer::start(Manner::Say(answer.as_bytes().to_vec()));
    let setup = Setup::new("1s").telegram(&telegram).set("docker.enabled", true).set("host.enabled", true);
    let setup = setup.set("docker.socket", engine.socket().to_str().unwrap()).set("consul.address", consul.url());
    let (_, said) = doctor(&setup.oci(&oci, creds.path()).node("n1", "evidence = \"heartbeat-only\""));
    for (part, words) in [
        ("OK  config", "watchdog.toml"),
        ("OK  docker", "0 containers, API 1.41"),
        ("OK  telegram", "@w_bot answers, and chat 42 is a supergroup \"Night shift\""),
        ("OK  oci", "the instance of node n1 can be read"),
    ] {
        let line = said.lines().find(|line| line.starts_with(part)).unwrap_or_else(|| panic!("no {part}: {said}"));
        assert!(line.contains(words), "{words}: {said}");
    }
    assert!(said.contains("state.db can be written to"), "{said}");
    assert!(!about(&said, "proc").starts_with("!!"), "it can be read: {said}");
    assert!(
        about(&said, "consul").contains("keys below") || about(&said, "consul").contains("watchdog/nodes"),
        "{said}"
    );
    assert!(telegram.delivered().is_empty(), "it sends nothing");
}

#[test]
fn a_chat_that_cannot_be_written_to_is_told_with_how_to_find_its_number() {
    let telegram = Telegram::start();
    let setup = || Setup::new("1s").telegram(&telegram);
    for (setup, words) in [
        (setup().set("telegram.chat_id", "43"), &["chat 43: 400 Bad Request: chat not found", "getUpdates"][..]),
        (setup().set("telegram.chat_id", ""), &["telegram.chat_id is not set", "getUpdates"]),
        (setup().set("telegram.bot_token", "123456:AAaaaaaaaaaaaaaaaaaaaaaaaaa"), &["getMe: 401", "@BotFather"]),
        (setup().set("telegram.api_base", "http://127.0.0.1:1"), &["connection refused", "telegram.proxy"]),
    ] {
        let (code, said) = doctor(&setup);
        let told = about(&said, "telegram");
        assert!(told.starts_with("!!") && words.iter().all(|word| told.contains(word)), "{words:?}: {said}");
        assert_eq!(code, 1);
    }
    let (_, said) = doctor(&Setup::new("1s"));
    assert!(about(&said, "telegram").starts_with("--") && about(&said, "telegram").contains("@BotFather"), "{said}");
}

#[test]
fn a_socket_and_a_state_file_that_cannot_be_used_are_told_with_what_to_type() {
    let dir = tempfile::tempdir().unwrap();
    let (file, folder) = (dir.path().join("file"), dir.path().join("folder"));
    std::fs::write(&file, "").unwrap();
    std::fs::create_dir(&folder).unwrap();
    let silent = dir.path().join("silent.sock");
    drop(std::os::unix::net::UnixListener::bind(&silent).unwrap());
    for (socket, words) in [
        (dir.path().join("none.sock"), &["is not there", "-v "][..]),
        (file, &["not a socket"]),
        (folder, &["a directory: the engine was not running when it was mounted"]),
        (silent, &["no engine listens", "systemctl status docker"]),
    ] {
        let setup = Setup::new("1s").set("docker.enabled", true).set("docker.socket", socket.to_str().unwrap());
        let (code, said) = doctor(&setup);
        let told = about(&said, "docker");
        assert!(told.starts_with("!!") && words.iter().all(|word| told.contains(word)), "{words:?}: {said}");
        assert_eq!(code, 1);
    }
    if std::path::Path::new("/dev/shm").is_dir() {
        let (_, said) = doctor(&Setup::new("1s").set("state", "/dev/shm/watchdog-test/state.db"));
        assert!(about(&said, "state").contains("on a file system in memory"), "{said}");
        assert!(!std::path::Path::new("/dev/shm/watchdog-test").exists(), "it writes nothing");
    }
    let (_, said) = doctor(&Setup::new("1s").set("state", ""));
    assert!(about(&said, "state").starts_with("--"), "{said}");
}

#[test]
fn whoever_hangs_is_not_waited_for_and_the_rest_is_told() {
    let (telegram, hung) = (Telegram::start(), Peer::start(Manner::Hang));
    telegram.script([Answer::HangBeforeReading, Answer::HangBeforeReading]);
    let dead = docker::Peer::start(|_| Reply::Hang);
    let setup = Setup::new("1s").set("timeout", "500ms").telegram(&telegram).set("consul.address", hung.url());
    let setup = setup.set("docker.enabled", true).set("docker.socket", dead.socket().to_str().unwrap());
    let began = Instant::now();
    let (code, said) = doctor(&setup);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    for part in ["telegram", "consul", "docker"] {
        assert!(about(&said, part).starts_with("!!"), "{part}: {said}");
    }
    assert_eq!(code, 1);
    assert!(about(&said, "proc").starts_with("--"), "{said}");
}

#[test]
fn a_configuration_that_is_wrong_is_the_first_line_and_the_rest_is_looked_at_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("watchdog.toml"), "tik = \"1s\"\n[host]\nenabled = true\n").unwrap();
    let output = run(dir.path(), &["doctor"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let first = said.lines().next().unwrap();
    assert!(first.starts_with("!!  config") && first.contains("did you mean `tick`"), "{said}");
    assert!(said.contains("proc "), "{said}");
    assert_eq!(output.status.code(), Some(1));
}
