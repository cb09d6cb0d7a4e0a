//! The first screen: what is watched, where the page is, and what to set next.

use std::fmt::Write as _;

use crate::config::Config;
use crate::core::time::people;
use crate::notifier::NOTIFIERS;
use crate::program::Program;
use crate::source::SOURCES;

/// A few lines for whoever just started it.
pub fn banner(config: &Config, program: &Program) -> String {
    let root = config.root();
    let mut out = format!("watchdog {} on {}", env!("CARGO_PKG_VERSION"), root.instance);
    if !root.enabled {
        out.push_str(": disabled. It watches, says and repairs nothing until enabled = true.");
        if let Some(address) = program.page() {
            line(&mut out, "page", &format!("http://{address}/"));
        }
        return out;
    }
    let _ = write!(out, ": watching, every {}", people(root.tick.0));
    let mut next = Vec::new();
    for entry in SOURCES {
        match program.describe(entry.name) {
            Some(what) => line(&mut out, entry.name, &what),
            None => next.push(entry.advice),
        }
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
    match program.page() {
        Some(address) => line(&mut out, "page", &format!("http://{address}/")),
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

fn line(out: &mut String, name: &str, what: &str) {
    let _ = write!(out, "\n  {name:<9} {what}");
}
