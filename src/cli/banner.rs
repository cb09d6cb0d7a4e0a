//! The first screen: what is watched and how it stands, where the page is, which file to edit, and what to set next.
//!
//! It is printed after the first pass, so that it says what was found. No line is wider than a terminal of 80
//! columns, but for a single word that is.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::config::Config;
use crate::core::message::clean;
use crate::core::time::people;
use crate::core::watch::Tally;
use crate::notifier::NOTIFIERS;
use crate::program::Program;
use crate::source::SOURCES;

/// Columns of a terminal.
const WIDTH: usize = 80;
/// Where the text of a line begins.
const INDENT: usize = 12;
/// Failing signals that are named.
const NAMED: usize = 5;
/// Characters of the fact of one of them.
const FACT: usize = 120;

/// A few lines for whoever just started it.
pub fn banner(config: &Config, program: &Program) -> String {
    let root = config.root();
    let mut out = format!("watchdog {} on {}", env!("CARGO_PKG_VERSION"), root.instance);
    if !root.enabled {
        out.push_str(": disabled. It checks, reports and repairs nothing until enabled = true.");
        if let Some(address) = program.page() {
            line(&mut out, "page", &page(address));
        }
        return out;
    }
    let _ = write!(out, ": checking every {}", people(root.tick.0));
    let mut next = Vec::new();
    for entry in SOURCES {
        match program.describe(entry.name) {
            Some(what) => line(&mut out, entry.name, &with_tally(&what, program.tally(entry.name))),
            None => next.push(entry.advice),
        }
    }
    let failing = program.failing(NAMED + 1);
    for (key, fact) in failing.iter().take(NAMED) {
        line(&mut out, "failing", &format!("{key}: {}", clean(fact, FACT)));
    }
    if failing.len() > NAMED {
        line(&mut out, "failing", "and more: watchdog status");
    }
    for entry in NOTIFIERS {
        if program.has_channel(entry.name) {
            line(&mut out, entry.name, entry.about);
        } else {
            next.push(entry.advice);
        }
    }
    if let Some(what) = program.describe_repairs() {
        line(&mut out, "repairs", &what);
    }
    if let Some(what) = super::ways::ways(config) {
        line(&mut out, "proxy", &what);
    }
    if root.state.is_empty() {
        next.push("state = \"/var/lib/watchdog/state.db\" to remember alerts across restarts");
    } else {
        line(&mut out, "state", &root.state);
    }
    line(&mut out, "settings", &settings(config));
    match program.page() {
        Some(address) => line(&mut out, "page", &page(address)),
        None => next.push("listen = \"127.0.0.1:9106\" for the status page"),
    }
    for note in program.notes() {
        line(&mut out, "note", note);
    }
    for advice in next.iter().filter(|advice| !advice.is_empty()) {
        line(&mut out, "set next", advice);
    }
    out
}

/// `12 containers of project shop; 11 OK, 1 failing`.
fn with_tally(what: &str, tally: Tally) -> String {
    let counts = [(tally.ok, "OK"), (tally.failing, "failing"), (tally.unknown, "not known yet")];
    let counts = counts.into_iter().filter(|(count, _)| *count > 0);
    let counts: Vec<String> = counts.map(|(count, word)| format!("{count} {word}")).collect();
    if counts.is_empty() { what.to_string() } else { format!("{what}; {}", counts.join(", ")) }
}

/// The files that were read, or the one to write.
fn settings(config: &Config) -> String {
    if let [files @ .., last] = config.files() {
        let all = files.iter().chain([last]).map(|file| whole(file));
        return all.collect::<Vec<_>>().join(", ");
    }
    format!("no file yet; write {}", whole(Path::new("watchdog.toml")))
}

/// The path from the root, so that it can be opened from anywhere.
fn whole(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).display().to_string()
}

/// An address that can be opened: one that stands for all addresses of the machine cannot.
fn page(address: SocketAddr) -> String {
    let own = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let url = format!("http://{}/", SocketAddr::new(own, address.port()));
    if own == address.ip() { url } else { format!("{url} (on every address of this machine)") }
}

/// One line, broken between words where it would be wider than a terminal.
fn line(out: &mut String, name: &str, what: &str) {
    let mut column = INDENT - 1;
    let _ = write!(out, "\n  {name:<9}");
    for word in what.split_whitespace() {
        let width = word.chars().count() + 1;
        if column >= INDENT && column + width > WIDTH {
            let _ = write!(out, "\n{:1$}", "", INDENT - 1);
            column = INDENT - 1;
        }
        let _ = write!(out, " {word}");
        column += width;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_than_a_terminal_and_no_word_is_broken() {
        let mut out = "first".to_string();
        let words = "memory, load, open files, pressure, OOM kills, reboots, file systems of /proc; 14 OK, 1 failing";
        line(&mut out, "host", words);
        line(&mut out, "set next", &"w".repeat(68));
        line(&mut out, "set next", &format!("short {}", "w".repeat(90)));
        let wide: Vec<&str> = out.lines().filter(|line| line.chars().count() > WIDTH).collect();
        assert_eq!(wide, [format!("{:INDENT$}{}", "", "w".repeat(90))], "{out}");
        assert_eq!(
            out.lines().nth(1),
            Some("  host      memory, load, open files, pressure, OOM kills, reboots, file systems")
        );
        assert_eq!(out.lines().nth(2), Some("            of /proc; 14 OK, 1 failing"));
    }

    #[test]
    fn the_address_of_the_page_can_be_opened() {
        let table = [
            ("0.0.0.0:9106", "http://127.0.0.1:9106/ (on every address of this machine)"),
            ("[::]:9106", "http://[::1]:9106/ (on every address of this machine)"),
            ("192.0.2.7:80", "http://192.0.2.7:80/"),
        ];
        for (address, shown) in table {
            assert_eq!(page(address.parse().unwrap()), shown);
        }
    }

    #[test]
    fn what_is_watched_is_told_with_numbers() {
        let tally = Tally { ok: 11, failing: 1, unknown: 0 };
        assert_eq!(with_tally("12 containers", tally), "12 containers; 11 OK, 1 failing");
        assert_eq!(with_tally("0 containers", Tally::default()), "0 containers");
    }
}
