//! Real Consul: one server, or three that elect, with or without ACLs. Sessions may be as short as a
//! second, which Consul doubles. Ports are free ones, so that tests run side by side.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::fmt::Write as _;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use ureq::http::Request;
use watchdog::client::consul::{Consul as Client, Pair, Token};
use watchdog::client::http::{Http, Limits, Options};
use watchdog::config::value::Secret;

use crate::daemon::wait;

/// The token that may do everything on a server with ACLs.
pub const MANAGEMENT: &str = "5e7a1a52-9c5c-4c3f-8f0e-0d6f6b1f0001";

/// What a server is started with.
#[derive(Debug, Clone, Default)]
pub struct Dev {
    /// The HTTP port; zero takes a free one.
    pub http: u16,
    /// ACLs with default deny; [`MANAGEMENT`] may do everything.
    pub acl: bool,
    /// More configuration, in HCL.
    pub hcl: String,
}

/// One server with its data on disk. Killed when dropped.
pub struct Consul {
    child: Option<Child>,
    address: String,
    http: u16,
    arguments: Vec<String>,
    dir: tempfile::TempDir,
    token: Option<&'static str>,
}

/// A token that may renew and write under one prefix.
pub struct Made {
    /// For `X-Consul-Token`.
    pub secret: String,
    accessor: String,
}

impl Consul {
    /// A single server, which is its own leader. Waits until it leads.
    pub fn dev(options: Dev) -> Consul {
        let mut hcl = options.hcl;
        if options.acl {
            let tokens = format!("tokens {{ master = \"{MANAGEMENT}\" agent = \"{MANAGEMENT}\" }}");
            let _ = write!(hcl, "\nacl {{ enabled = true default_policy = \"deny\" {tokens} }}");
        }
        // Between our look for a free port and Consul's taking it, it may become somebody else's.
        for _ in 0..3 {
            let http = if options.http == 0 { free_port("127.0.0.1") } else { options.http };
            let ports = Ports { http, server: free_port("127.0.0.1"), serf: free_port("127.0.0.1") };
            let mut consul = Consul::prepare("127.0.0.1", ports, &["-bootstrap-expect=1"], &hcl, options.acl);
            consul.start();
            if consul.leads_or_ends() {
                return consul;
            }
        }
        panic!("Consul ended three times at its start");
    }

    /// Waits until it leads; false when it has ended instead.
    fn leads_or_ends(&mut self) -> bool {
        wait("consul to lead or end", || {
            if self.child.as_mut()?.try_wait().unwrap().is_some() {
                println!("Consul ended: {}", self.log_tail());
                return Some(false);
            }
            self.is_ready().map(|()| true)
        })
    }

    fn is_ready(&self) -> Option<()> {
        self.client().leader().ok().flatten()?;
        let (status, nodes) = self.api("GET", "/v1/catalog/nodes", "")?;
        (status == 200 && nodes.contains("server-")).then_some(())
    }

    fn prepare(address: &str, ports: Ports, more: &[&str], hcl: &str, acl: bool) -> Consul {
        let mut arguments: Vec<String> = ["agent", "-server", "-dns-port=-1", "-grpc-port=-1", "-serf-wan-port=-1"]
            .iter()
            .chain(more)
            .map(ToString::to_string)
            .collect();
        arguments.extend([
            format!("-client={address}"),
            format!("-bind={address}"),
            format!("-node=server-{}", address.rsplit('.').next().unwrap()),
            format!("-http-port={}", ports.http),
            format!("-server-port={}", ports.server),
            format!("-serf-lan-port={}", ports.serf),
            "-data-dir=data".to_string(),
            "-hcl".to_string(),
            format!("session_ttl_min = \"1s\"\nperformance {{ raft_multiplier = 1 }}\n{hcl}"),
        ]);
        let dir = tempfile::tempdir().unwrap();
        let token = acl.then_some(MANAGEMENT);
        Consul { child: None, address: address.to_string(), http: ports.http, arguments, dir, token }
    }

    /// Starts the stopped server again, with what data it has. Does not wait.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let child = Command::new("consul")
            .args(&self.arguments)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Kills it and starts it with the data it had. Waits until it leads.
    pub fn restart(&mut self) {
        self.kill();
        self.start();
        self.wait_leader();
    }

    /// Kills it and starts it with nothing. Waits until it leads.
    pub fn wipe(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.dir.path().join("data")).unwrap();
        self.start();
        self.wait_leader();
    }

    /// Waits until the server leads, itself is registered (sessions need that), and ACLs work.
    pub fn wait_leader(&self) {
        wait(|| format!("consul to lead: {}", self.log_tail()), || self.is_ready());
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }

    /// `127.0.0.1:1234`.
    pub fn address(&self) -> String {
        format!("{}:{}", self.address, self.http)
    }

    /// `http://127.0.0.1:1234`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The HTTP port.
    pub fn port(&self) -> u16 {
        self.http
    }

    /// A client, with the management token where there are ACLs.
    pub fn client(&self) -> Client {
        client(&self.url(), self.token)
    }

    /// A request to its API by the management token; `None` without an answer.
    pub fn api(&self, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.url()));
        let request = match self.token {
            Some(token) => request.header("X-Consul-Token", token),
            None => request,
        };
        let limits = Limits { timeout: Duration::from_secs(5), body: 1 << 20 };
        let http = Http::new(Options::default());
        let answer = if body.is_empty() {
            http.run_with_body(request.body(()).unwrap(), limits)
        } else {
            http.run_with_body(request.body(body).unwrap(), limits)
        };
        let answer = answer.ok()?;
        Some((answer.status, String::from_utf8_lossy(&answer.body).into_owned()))
    }

    /// A key.
    pub fn key(&self, key: &str) -> Option<Pair> {
        self.client().get(key).unwrap()
    }

    /// A new token that may do what `rules` (HCL) says.
    pub fn make_token(&self, name: &str, rules: &str) -> Made {
        let policy = json!({ "Name": name, "Rules": rules }).to_string();
        let (status, said) = self.api("PUT", "/v1/acl/policy", &policy).unwrap();
        assert!(status == 200 || said.contains("already exists"), "{status} {said}");
        let token = json!({ "Policies": [{ "Name": name }] }).to_string();
        let (status, said) = self.api("PUT", "/v1/acl/token", &token).unwrap();
        assert_eq!(status, 200, "{said}");
        let made: Value = serde_json::from_str(&said).unwrap();
        let text = |name: &str| made[name].as_str().unwrap().to_string();
        Made { secret: text("SecretID"), accessor: text("AccessorID") }
    }

    /// Takes a token back.
    pub fn revoke(&self, token: &Made) {
        let (status, said) = self.api("DELETE", &format!("/v1/acl/token/{}", token.accessor), "").unwrap();
        assert_eq!(status, 200, "{said}");
    }
}

impl Drop for Consul {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A client of the Consul at `url`.
pub fn client(url: &str, token: Option<&str>) -> Client {
    let options = Options { timeout: Duration::from_secs(5), ..Options::default() };
    let token = token.map_or_else(Token::none, |token| Token::fixed(Secret::new(token)));
    Client::new(Http::new(options), url, token, "")
}

/// Three servers on 127.0.0.2 to 127.0.0.4.
pub struct Cluster {
    /// Each server; a killed one keeps its place.
    pub servers: Vec<Consul>,
}

impl Cluster {
    /// Starts three servers and waits until they have a leader and know each other.
    pub fn three() -> Cluster {
        let addresses = ["127.0.0.2", "127.0.0.3", "127.0.0.4"];
        let ports: Vec<Ports> =
            addresses.iter().map(|a| Ports { http: free_port(a), server: free_port(a), serf: free_port(a) }).collect();
        let join: Vec<String> =
            addresses.iter().zip(&ports).map(|(a, port)| format!("-retry-join={a}:{}", port.serf)).collect();
        let mut more: Vec<&str> = join.iter().map(String::as_str).collect();
        more.extend(["-retry-interval=1s", "-bootstrap-expect=3"]);
        let servers = addresses.iter().zip(ports).map(|(a, ports)| {
            let mut server = Consul::prepare(a, ports, &more, "", false);
            server.start();
            server
        });
        let cluster = Cluster { servers: servers.collect() };
        wait("the cluster to be whole", || {
            cluster.leader()?;
            let all = cluster.servers.iter().all(|server| {
                server.api("GET", "/v1/status/peers", "").is_some_and(|(_, peers)| peers.matches(':').count() == 3)
            });
            all.then_some(())
        });
        cluster
    }

    /// The place of the leader; `None` while the servers that run do not agree on one.
    pub fn leader(&self) -> Option<usize> {
        let running: Vec<&Consul> = self.servers.iter().filter(|server| server.child.is_some()).collect();
        let named: Option<Vec<String>> = running.iter().map(|server| server.client().leader().ok().flatten()).collect();
        let named = named?;
        let first = named.first()?;
        if named.iter().any(|other| other != first) {
            return None;
        }
        let address = first.split(':').next()?;
        self.servers.iter().position(|server| server.address == address && server.child.is_some())
    }

    /// Waits for a leader.
    pub fn wait_leader(&self) -> usize {
        wait("a leader", || self.leader())
    }

    /// SIGKILL for one server.
    pub fn kill(&mut self, place: usize) {
        self.servers[place].kill();
    }

    /// Starts a killed server again, with its data. Does not wait.
    pub fn start(&mut self, place: usize) {
        self.servers[place].start();
    }
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    http: u16,
    server: u16,
    serf: u16,
}

/// A port that is free at this address, above or below those that outgoing connections get by chance.
pub fn free_port(address: &str) -> u16 {
    TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port()
}
