//! What happened to a probe's target, in a few words, and what to do next: the one table of all probes.
//!
//! Only asked when something is wrong: a check that passes allocates nothing here. A command in it can be pasted, with
//! the real names in place; it never holds a query, a credential or the argument of a command
//! (`adr/0035-advice-belongs-to-the-verdict.md`).

use crate::client::resolve::ResolveError;
use crate::client::trust::Flaw;
use crate::core::about::Details;
pub use crate::core::reach::Peer;
use crate::core::reach::{bare, hangs_up, no_name, refused, silent};

/// What is wrong, as far as it decides what to do about it.
#[derive(Debug, Clone, Copy)]
pub enum Trouble<'a> {
    /// Nothing listens there.
    Refused(Peer<'a>),
    /// No answer while connecting.
    Silent(Peer<'a>),
    /// The network knows no way to it.
    Unreachable(&'a str),
    /// The connection was taken and ended at once.
    HangsUp(Peer<'a>),
    /// The same, by a reset.
    Resets(Peer<'a>),
    /// Connected, and no answer in time.
    Mute(Peer<'a>),
    /// It answered something else than it should.
    Unexpected(Peer<'a>),
    /// The name does not exist, according to this server, or to the system's resolver.
    NoName {
        /// The name.
        name: &'a str,
        /// The server asked.
        server: Option<&'a str>,
    },
    /// The servers of the name fail.
    NameFails {
        /// The name.
        name: &'a str,
        /// The server asked.
        server: Option<&'a str>,
    },
    /// The name server does not answer.
    NoNameServer(&'a str),
    /// The system's resolver does not answer, or cannot tell.
    NoResolver(&'a str),
    /// The name has other addresses than those expected.
    OtherAddress {
        /// The name.
        name: &'a str,
        /// The server asked.
        server: Option<&'a str>,
    },
    /// The address may not be talked to.
    Forbidden,
    /// TLS fails.
    Tls {
        /// Why.
        flaw: Flaw,
        /// With whom.
        peer: Peer<'a>,
        /// The name asked for.
        name: &'a str,
    },
    /// The certificate ends soon.
    Expiring {
        /// Whose.
        peer: Peer<'a>,
        /// The name asked for.
        name: &'a str,
    },
    /// A status that does not count as OK.
    Status {
        /// The status.
        status: u16,
        /// What was asked for, without its query.
        url: &'a str,
    },
    /// The body lacks the expected text.
    Lacks(&'a str),
    /// The body contains the unwanted text.
    Holds(&'a str),
    /// The body is not JSON.
    NotJson(&'a str),
    /// The JSON has nothing at the pointer.
    NoValue(&'a str),
    /// The JSON has another value at the pointer.
    OtherValue(&'a str),
    /// OK, but later than allowed.
    Slow(&'a str),
    /// No answer to an HTTP request in time.
    Stuck(&'a str),
    /// The answer broke off, or is not HTTP.
    Broken(&'a str),
    /// The body is too large.
    TooLarge,
    /// The proxy in between is at fault.
    Proxy,
    /// A command ended with this exit code.
    Exit {
        /// The code.
        code: i32,
        /// The program.
        program: &'a str,
    },
    /// A signal ended a command.
    Signalled {
        /// Its number.
        signal: i32,
        /// The program.
        program: &'a str,
    },
    /// A command did not end within its limit.
    Endless(&'a str),
    /// A command wrote more than is read.
    Loud(&'a str),
    /// A command cannot be started.
    NotRunnable(&'a str),
    /// No answer to a ping.
    NoEcho(&'a str),
    /// This process may not send pings.
    NoPings,
}

impl Trouble<'_> {
    /// What happened, and what to do next.
    pub fn details(&self) -> Details {
        Details::new(self.happened(), self.advice())
    }

    fn happened(&self) -> String {
        match self {
            Trouble::Refused(_) => "refuses connections",
            Trouble::Silent(_) => "does not answer",
            Trouble::Unreachable(_) => "is unreachable",
            Trouble::HangsUp(_) => "closes connections at once",
            Trouble::Resets(_) => "resets connections",
            Trouble::Mute(_) | Trouble::Stuck(_) => "does not answer in time",
            Trouble::Unexpected(_) => "answers something else",
            Trouble::NoName { .. } | Trouble::NameFails { .. } => "does not resolve",
            Trouble::NoNameServer(_) => "has no name server that answers",
            Trouble::NoResolver(_) | Trouble::Proxy | Trouble::NoPings => "cannot be checked",
            Trouble::OtherAddress { .. } => "resolves to other addresses",
            Trouble::Forbidden => "is at a forbidden address",
            Trouble::Tls { flaw, .. } => tls_happened(*flaw),
            Trouble::Expiring { .. } => "has a certificate that expires soon",
            Trouble::Status { status, .. } => return format!("answers HTTP {status}"),
            Trouble::Lacks(_) => "answers without the expected text",
            Trouble::Holds(_) => "answers with an unwanted text",
            Trouble::NotJson(_) => "does not answer in JSON",
            Trouble::NoValue(_) => "does not report the value",
            Trouble::OtherValue(_) => "reports another value",
            Trouble::Slow(_) => "answers too slowly",
            Trouble::Broken(_) => "breaks off its answers",
            Trouble::TooLarge => "answers too much",
            Trouble::Exit { .. } | Trouble::Signalled { .. } => "fails",
            Trouble::Endless(_) => "does not end in time",
            Trouble::Loud(_) => "writes too much",
            Trouble::NotRunnable(_) => "cannot be run",
            Trouble::NoEcho(_) => "does not answer pings",
        }
        .to_string()
    }

    fn advice(&self) -> String {
        match *self {
            Trouble::Refused(peer) => refused(peer),
            Trouble::Silent(peer) => silent(peer),
            Trouble::Unreachable(host) => format!("the network has no way to it: ping -c 3 {host}; ip route"),
            Trouble::HangsUp(peer) | Trouble::Resets(peer) => hangs_up(peer),
            Trouble::Mute(Peer { host, port }) | Trouble::Unexpected(Peer { host, port }) => {
                format!("is it the right service, and not stuck? nc -v {} {port}; read its log", bare(host))
            }
            Trouble::NoName { name, server: None } => no_name(name),
            Trouble::NoName { name, server } => {
                format!("dig {name}{}; then correct the name, or add its record", at(server))
            }
            Trouble::NameFails { name, server } => {
                format!("the name servers of {name} fail: dig {name}{}; dig +trace {name}", at(server))
            }
            Trouble::NoNameServer(server) => {
                format!("is the name server running, and is UDP port 53 open? dig @{server} . NS")
            }
            Trouble::NoResolver(name) => {
                format!("is DNS working on this host? getent hosts {name}; cat /etc/resolv.conf")
            }
            Trouble::OtherAddress { name, server } => {
                format!("dig {name}{}; if the new address is meant, correct `expect` of this probe", at(server))
            }
            Trouble::Forbidden => "set allow_link_local = true for this probe if the address is meant".to_string(),
            Trouble::Tls { flaw, peer, name } => tls_advice(flaw, peer, name),
            Trouble::Expiring { peer, name } => renew(peer, name),
            Trouble::Status { status, url } => status_advice(status, url),
            Trouble::Lacks(url) | Trouble::Holds(url) | Trouble::NotJson(url) => {
                format!("curl -s '{url}' | head -c 400")
            }
            Trouble::NoValue(url) | Trouble::OtherValue(url) => format!("curl -s '{url}' | jq ."),
            Trouble::Slow(url) => {
                format!(
                    "what keeps it busy? curl -s -o /dev/null -w '%{{time_starttransfer}} s\\n' '{url}'; read its log"
                )
            }
            Trouble::Stuck(url) => {
                format!("it is up and does not answer: is it stuck or overloaded? curl -m 30 -i '{url}'; read its log")
            }
            Trouble::Broken(url) => format!("curl -iv '{url}'; read its log and that of a proxy in front of it"),
            Trouble::TooLarge => "raise body_limit of this probe".to_string(),
            Trouble::Proxy => {
                "is the proxy running? check `proxy` of this probe, or HTTP_PROXY and NO_PROXY".to_string()
            }
            Trouble::Exit { code: 126, program } => {
                format!("the program cannot be executed: ls -l \"$(command -v {program})\"")
            }
            Trouble::Exit { code: 127, program } => {
                format!("a program that it calls is missing: run {program} by hand, as the user of the watchdog")
            }
            Trouble::Exit { program, .. } | Trouble::Signalled { program, .. } | Trouble::Loud(program) => {
                format!("run {program} by hand, as the user of the watchdog and with the arguments of this probe")
            }
            Trouble::Endless(program) => {
                format!("run {program} by hand; if it needs longer, raise `timeout` of this probe")
            }
            Trouble::NotRunnable(program) => {
                format!("check `command` of this probe: command -v {program}; ls -l \"$(command -v {program})\"")
            }
            Trouble::NoEcho(host) => {
                format!("is the host up, and does it answer pings at all? ping -c 3 {host}; traceroute {host}")
            }
            Trouble::NoPings => {
                "sysctl -w net.ipv4.ping_group_range=\"0 2147483647\"; in compose, an entry of `sysctls`".to_string()
            }
        }
    }
}

fn status_advice(status: u16, url: &str) -> String {
    match status {
        300..=399 => {
            format!("curl -sI '{url}'; then correct the target, or set follow_redirects or `status` of this probe")
        }
        401 | 403 | 407 => format!("check user and password, or authorization, of this probe: curl -i '{url}'"),
        404 | 410 => format!("has the path changed? curl -i '{url}'; correct the target of this probe"),
        429 => "it is asked too often: raise `interval` of this probe, or the limit of the server".to_string(),
        502 | 504 => format!("what is behind this server does not answer: curl -i '{url}'; read the log of both"),
        500..=599 => format!("curl -i '{url}'; read the log of the service"),
        _ => format!("curl -i '{url}'; if it is meant, add \"{status}\" to `status` of this probe"),
    }
}

fn tls_happened(flaw: Flaw) -> &'static str {
    match flaw {
        Flaw::Expired => "has an expired certificate",
        Flaw::NotYetValid => "has a certificate not valid yet",
        Flaw::Name => "has a certificate for another name",
        Flaw::SelfSigned => "has a self-signed certificate",
        Flaw::Authority | Flaw::Chain => "has an untrusted certificate",
        Flaw::Pin => "shows another certificate",
        Flaw::Certificate => "has an unacceptable certificate",
        Flaw::ClientCertificate => "wants a client certificate",
        Flaw::NotTls => "does not speak TLS",
        Flaw::Talk => "fails the TLS handshake",
    }
}

fn tls_advice(flaw: Flaw, peer: Peer<'_>, name: &str) -> String {
    let (look, dates) = (shown(peer, name), dates(peer, name));
    match flaw {
        Flaw::Expired => renew(peer, name),
        Flaw::NotYetValid => format!("compare the clocks of both hosts: timedatectl; {dates}"),
        Flaw::Name => format!("is it the right server? else set server_name of this probe: {look}"),
        Flaw::SelfSigned => format!("give it as ca_file, or its fingerprint as tls_fingerprint, of this probe: {look}"),
        Flaw::Authority => format!("give the authority's certificate as ca_file of this probe: {look}"),
        Flaw::Chain => {
            format!(
                "let the server send its intermediate certificate (fullchain.pem), or set ca_file of this probe: {look}"
            )
        }
        Flaw::Pin => {
            format!(
                "if it was renewed, set tls_fingerprint of this probe to the new one; else find out who answers: {look}"
            )
        }
        Flaw::Certificate => format!("make a new certificate: {look}"),
        Flaw::ClientCertificate => "set client_cert and client_key of this probe".to_string(),
        Flaw::NotTls => format!("is {} the port for TLS? nc -v {} {}", peer.port, bare(peer.host), peer.port),
        Flaw::Talk => format!("which versions and ciphers does it offer? {look}"),
    }
}

fn renew(peer: Peer<'_>, name: &str) -> String {
    format!("renew it (certbot renew) and reload the server: {}", dates(peer, name))
}

/// The command that shows the dates of a certificate.
fn dates(peer: Peer<'_>, name: &str) -> String {
    format!("{} | openssl x509 -noout -dates", shown(peer, name))
}

/// The command that shows a certificate.
fn shown(Peer { host, port }: Peer<'_>, name: &str) -> String {
    let connect = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let name = if name == host { String::new() } else { format!(" -servername {name}") };
    format!("openssl s_client -connect {connect}{name} </dev/null")
}

/// What a failed lookup of `name` means.
pub fn of_lookup<'a>(error: &ResolveError, name: &'a str) -> Trouble<'a> {
    match error {
        ResolveError::NotFound { .. } => Trouble::NoName { name, server: None },
        ResolveError::Alone { .. } => Trouble::NameFails { name, server: None },
        ResolveError::Refused(_) => Trouble::Forbidden,
        ResolveError::Undecided { .. } | ResolveError::Timeout { .. } | ResolveError::Busy { .. } => {
            Trouble::NoResolver(name)
        }
    }
}

fn at(server: Option<&str>) -> String {
    server.map(|server| format!(" @{server}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_the_host_as_it_is_reached() {
        let advice = |host| Trouble::Refused(Peer { host, port: 5432 }).details().advice.into_owned();
        for (host, command) in [
            ("127.0.0.1", "ss -ltnp 'sport = :5432'"),
            ("::1", "ss -ltnp 'sport = :5432'"),
            ("localhost", "ss -ltnp 'sport = :5432'"),
            ("db", "docker compose ps db; docker compose logs --tail 50 db"),
            ("db.example.org", "nc -vz db.example.org 5432"),
            ("10.0.0.7", "nc -vz 10.0.0.7 5432"),
        ] {
            assert!(advice(host).ends_with(command), "{}", advice(host));
        }
    }

    #[test]
    fn what_happened_is_short_enough_for_a_first_line() {
        let peer = Peer { host: "db", port: 1 };
        let all = [
            Trouble::Refused(peer),
            Trouble::NoNameServer("192.0.2.53"),
            Trouble::Expiring { peer, name: "db" },
            Trouble::Lacks("http://db/"),
            Trouble::Tls { flaw: Flaw::Name, peer, name: "db" },
        ];
        for trouble in all {
            let words = trouble.details().happened;
            assert!(words.chars().count() <= 36 && words.split(' ').count() <= 6, "{words}");
        }
    }
}
