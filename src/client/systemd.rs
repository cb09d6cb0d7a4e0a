//! What systemd is told by a service of `Type=notify`: ready, alive, stopping.
//!
//! The protocol is one datagram per message to the socket in `NOTIFY_SOCKET` (`sd_notify(3)`), so it
//! takes no library. Without that variable nothing is sent. A message that cannot be sent is lost: the
//! service manager is never a reason for the program to stop. The variables are handed in.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to systemd, or to nobody.
#[derive(Debug)]
pub struct Systemd {
    way: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Systemd {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` through `variable`; `pid` is our own process.
    pub fn new<'a>(variable: impl Fn(&str) -> Option<&'a str>, pid: u32) -> Systemd {
        let way = variable("NOTIFY_SOCKET").and_then(address).and_then(|address| {
            let socket = UnixDatagram::unbound().ok()?;
            // A manager that does not read must not stop us.
            socket.set_nonblocking(true).ok()?;
            Some((socket, address))
        });
        // Set for another process of the service: not for us.
        let ours = variable("WATCHDOG_PID").is_none_or(|text| text.parse() == Ok(pid));
        let usec = variable("WATCHDOG_USEC").and_then(|text| text.parse().ok()).filter(|usec| *usec > 0);
        let watchdog = usec.filter(|_| ours && way.is_some()).map(Duration::from_micros);
        Systemd { way, watchdog }
    }

    /// How often [`alive`](Self::alive) is wanted: half of the time after which systemd acts.
    pub fn interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// The service has started. `status` is a line for `systemctl status`.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", line(status)));
    }

    /// How it stands, as a line for `systemctl status`.
    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={}", line(status)));
    }

    /// The loop has looked at itself and found itself well. Not sent where nobody watches.
    pub fn alive(&self) {
        if self.watchdog.is_some() {
            self.send("WATCHDOG=1");
        }
    }

    /// The service is ending by itself.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.way {
            let _ = socket.send_to_addr(message.as_bytes(), address);
        }
    }
}

/// A path, or after an `@` a name in the abstract namespace. Others (vsock) are not ours to speak.
fn address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name).ok(),
        None if text.starts_with('/') => SocketAddr::from_pathname(text).ok(),
        None => None,
    }
}

/// Without line ends, which would begin another message.
fn line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn messages_arrive_at_a_path_and_at_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify").display().to_string();
        let name = format!("@watchdog-test-{}", std::process::id());
        for place in [path.as_str(), name.as_str()] {
            let socket = UnixDatagram::bind_addr(&address(place).unwrap()).unwrap();
            let variable = |name: &str| match name {
                "NOTIFY_SOCKET" => Some(place),
                "WATCHDOG_USEC" => Some("3000000"),
                _ => None,
            };
            let systemd = Systemd::new(variable, 7);
            assert_eq!(systemd.interval(), Some(Duration::from_millis(1_500)));
            systemd.ready("active\nREADY=0");
            systemd.alive();
            systemd.stopping();
            assert_eq!(heard(&socket), "READY=1\nSTATUS=active READY=0");
            assert_eq!((heard(&socket), heard(&socket)), ("WATCHDOG=1".to_string(), "STOPPING=1".to_string()));
        }
    }

    #[test]
    fn without_a_socket_or_for_another_process_nothing_is_wanted() {
        assert_eq!(Systemd::new(|name| (name == "WATCHDOG_USEC").then_some("1000"), 7).interval(), None);
        let other = |name: &str| match name {
            "NOTIFY_SOCKET" => Some("/nowhere/at/all"),
            "WATCHDOG_USEC" => Some("1000"),
            "WATCHDOG_PID" => Some("8"),
            _ => None,
        };
        let systemd = Systemd::new(other, 7);
        assert_eq!(systemd.interval(), None);
        systemd.ready("nobody hears it");
        assert_eq!(Systemd::new(other, 8).interval(), Some(Duration::from_micros(500)));
    }
}
