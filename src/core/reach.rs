//! What to do about a server that cannot be reached, in commands that can be pasted; the same for every source.

/// The host and the port that were talked to.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// Name or address.
    pub host: &'a str,
    /// Port.
    pub port: u16,
}

/// Nothing listens there.
pub fn refused(Peer { host, port }: Peer<'_>) -> String {
    if is_here(host) {
        format!("nothing listens on port {port}, is the service running? ss -ltnp 'sport = :{port}'")
    } else if is_single(host) {
        format!("is the service running? docker compose ps {host}; docker compose logs --tail 50 {host}")
    } else {
        format!("is the service running, and is {port} its port? nc -vz {} {port}", bare(host))
    }
}

/// No answer while connecting.
pub fn silent(Peer { host, port }: Peer<'_>) -> String {
    let host = bare(host);
    format!("the host is down or a firewall drops packets: ping -c 3 {host}; nc -vz {host} {port}")
}

/// The connection is taken and ended at once.
pub fn hangs_up(Peer { host, port }: Peer<'_>) -> String {
    if is_here(host) {
        format!(
            "is the service behind the proxy running? ss -ltnp 'sport = :{port}'; docker ps --filter publish={port}"
        )
    } else {
        format!("is the service behind the proxy running? nc -v {} {port}; read its log", bare(host))
    }
}

/// The name has no address.
pub fn no_name(name: &str) -> String {
    if is_single(name) {
        format!("is the container or host running? docker compose ps {name}; getent hosts {name}")
    } else {
        format!("dig {name}; then correct the name, or add its record")
    }
}

/// An address or name as `nc` takes it.
pub fn bare(host: &str) -> &str {
    host.trim_matches(['[', ']'])
}

/// True for this host.
pub fn is_here(host: &str) -> bool {
    let host = bare(host);
    let is_number = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    host == "localhost" || host == "::1" || (is_number && host.starts_with("127."))
}

/// True for a name without a dot, as compose gives to services.
pub fn is_single(host: &str) -> bool {
    host != "localhost" && !host.contains(['.', ':'])
}

/// A path or name as one word of a shell command.
pub fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | ':' | '@' | '+' | ',');
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_string();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_one_word() {
        for (text, word) in [("/srv/data", "/srv/data"), ("/a b", "'/a b'"), ("it's; rm", "'it'\\''s; rm'"), ("", "''")]
        {
            assert_eq!(quoted(text), word);
        }
    }
}
