//! A real Consul as a dependency: its leader is probed by JSON pointer, and its death is told.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use crate::daemon::{Daemon, SOON, configure, wait};
use crate::parts;
use crate::peer::telegram::{TOKEN, Telegram};

struct Consul {
    child: Child,
    http: u16,
    /// Held for its life: the agent may write there.
    _dir: tempfile::TempDir,
}

impl Consul {
    fn start(http: u16) -> Consul {
        let dir = tempfile::tempdir().unwrap();
        let ports: Vec<String> = (0..3).map(|_| free_port().to_string()).collect();
        let child = Command::new("consul")
            .args(["agent", "-dev", "-client", "127.0.0.1", "-bind", "127.0.0.1", "-dns-port=-1", "-grpc-port=-1"])
            .arg(format!("-http-port={http}"))
            .arg(format!("-server-port={}", ports[0]))
            .arg(format!("-serf-lan-port={}", ports[1]))
            .arg(format!("-serf-wan-port={}", ports[2]))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Consul { child, http, _dir: dir }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Consul {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_consul_that_dies_is_told_and_so_is_its_return() {
    if !parts::consul() {
        return;
    }
    let telegram = Telegram::start();
    let mut consul = Consul::start(free_port());
    let dir = tempfile::tempdir().unwrap();
    configure(
        dir.path(),
        &format!(
            r#"
tick = "200ms"
timeout = "2s"
instance = "web-1"
[telegram]
bot_token = "{TOKEN}"
chat_id = "42"
api_base = "{}"
[host]
enabled = false
[docker]
enabled = false
[[probe]]
name = "consul"
target = "http://127.0.0.1:{}/v1/agent/self"
json_pointer = "/Config/Server"
json_equals = "true"
interval = "200ms"
"#,
            telegram.base_url(),
            consul.http
        ),
    );
    wait("consul to answer", || std::net::TcpStream::connect(("127.0.0.1", consul.http)).ok());
    let daemon = Daemon::start(dir.path());
    daemon.wait_state("probe/consul", "ok");
    consul.kill();
    let told = telegram.wait_delivered(1, SOON);
    assert!(told[0].text.starts_with("🔴") && told[0].text.contains("connection refused"), "{told:?}");
    consul = Consul::start(consul.http);
    let told = telegram.wait_delivered(2, SOON);
    assert!(told[1].text.starts_with("🟢"), "{told:?}");
    assert_eq!(told.len(), 2, "{told:?}");
    daemon.terminate();
    consul.kill();
}
