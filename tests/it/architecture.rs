//! The rules of the house, read from the source tree itself: who may import whom, what the pure
//! core must not touch, how long a file may be, and that every decision it names is written down.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder`, with its path from the root of the project, sorted.
pub fn files(folder: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    found.sort();
    found
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect()
}

/// The code of a file without its tests and without comments, line by line with numbers.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .map(|(at, line)| (at + 1, line.split("//").next().unwrap_or_default()))
        .filter(|(_, line)| !line.trim().is_empty())
}

fn assert_none(broken: Vec<String>, rule: &str) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

/// Lines of code below `folder` that hold one of `words`.
fn lines_with(folder: &str, words: &[&str]) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, text) in files(folder) {
        for (at, line) in code(&text) {
            let named = words.iter().filter(|word| contains_path(line, word));
            broken.extend(named.map(|word| format!("{name}:{at} {word}")));
        }
    }
    broken
}

#[test]
fn the_core_imports_nothing_of_ours() {
    let ours = ["client", "clock", "config", "notifier", "source", "store", "serve", "executor", "wake", "cli"];
    let mut broken = lines_with("src/core", &["watchdog::"]);
    for (name, text) in files("src/core") {
        for (at, line) in code(&text) {
            let uses = |word: &&&str| {
                line.contains(&format!("crate::{word}")) || line.contains(&format!("super::super::{word}"))
            };
            broken.extend(ours.iter().filter(uses).map(|word| format!("{name}:{at} {word}")));
            if line.contains("crate::{") {
                broken.push(format!("{name}:{at} name the module in the path"));
            }
        }
    }
    assert_none(broken, "core imports nothing of ours outside core");
}

#[test]
fn the_core_is_pure() {
    let words = [
        "std::fs",
        "std::net",
        "std::env",
        "std::process",
        "std::thread",
        "std::io",
        "std::sync::Mutex",
        "Instant",
        "SystemTime::now",
        "tracing::",
        "log::",
        "println!",
        "eprintln!",
        "dbg!",
        "HashMap",
        "HashSet",
        "Mutex",
        "AtomicBool",
        "AtomicU64",
        "AtomicUsize",
        "static mut",
        "thread_local!",
        "rand::",
        "tokio::",
        "rustix::",
    ];
    assert_none(lines_with("src/core", &words), "the core has no I/O, no clock, no threads, no hash-map order");
}

#[test]
fn only_the_clock_reads_the_time_of_day() {
    let mut broken = lines_with("src", &["SystemTime::now", "clock_gettime"]);
    broken.retain(|line| !line.starts_with("src/clock.rs"));
    assert_none(broken, "take a Clock or a Now");
}

#[test]
fn rooms_at_the_edge_never_import_each_other() {
    let rooms = ["source", "notifier", "executor"];
    let mut broken = Vec::new();
    for room in rooms {
        let others: Vec<String> =
            rooms.iter().filter(|other| **other != room).map(|other| format!("crate::{other}")).collect();
        let others: Vec<&str> = others.iter().map(String::as_str).collect();
        broken.extend(lines_with(&format!("src/{room}"), &others));
        // Within one room, one file or folder is one part: it may use the room, not its neighbours.
        let parts: Vec<String> = files(&format!("src/{room}")).iter().filter_map(|(name, _)| part(name)).collect();
        for (name, text) in files(&format!("src/{room}")) {
            let Some(own) = part(&name) else { continue };
            for (at, line) in code(&text) {
                let uses = |other: &&String| **other != own && contains_path(line, &format!("crate::{room}::{other}"));
                broken.extend(parts.iter().filter(uses).map(|other| format!("{name}:{at} {other}")));
            }
        }
    }
    broken.sort();
    broken.dedup();
    assert_none(broken, "source, notifier and executor never import each other, nor one part of them another");
}

/// `src/source/docker/table.rs` and `src/source/docker.rs` belong to the part `docker`.
fn part(name: &str) -> Option<String> {
    let part = name.split('/').nth(2)?.trim_end_matches(".rs");
    (part != "mod").then(|| part.to_string())
}

/// True when `line` names `path` as a whole, not only as the beginning of a longer name.
fn contains_path(line: &str, path: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(path).any(|(at, _)| !(path.ends_with(is_name) && line[at + path.len()..].starts_with(is_name)))
}

#[test]
fn arrows_point_down_only() {
    // Who must not know whom: the room on the left may not import the rooms on the right.
    let table: [(&str, &[&str]); 8] = [
        (
            "src/config",
            &[
                "crate::source",
                "crate::notifier",
                "crate::executor",
                "crate::serve",
                "crate::beacon",
                "crate::nodes",
                "crate::client",
                "crate::store",
                "crate::assemble",
                "crate::cli",
            ],
        ),
        ("src/client", &["crate::source", "crate::notifier", "crate::store", "crate::serve", "crate::cli"]),
        ("src/source", &["crate::store", "crate::serve", "crate::cli", "crate::deliver", "crate::tick"]),
        (
            "src/executor",
            &["crate::store", "crate::serve", "crate::cli", "crate::deliver", "crate::tick", "crate::act"],
        ),
        ("src/notifier", &["crate::store", "crate::serve", "crate::cli", "crate::deliver", "crate::tick"]),
        ("src/store", &["crate::source", "crate::notifier", "crate::serve", "crate::cli", "crate::tick"]),
        (
            "src/trace",
            &[
                "crate::source",
                "crate::notifier",
                "crate::store",
                "crate::serve",
                "crate::cli",
                "crate::deliver",
                "crate::tick",
            ],
        ),
        ("src/serve", &["crate::source", "crate::notifier", "crate::cli", "crate::deliver", "crate::tick"]),
    ];
    let broken = table.iter().flat_map(|(room, above)| lines_with(room, above)).collect();
    assert_none(broken, "arrows point down only");
}

#[test]
fn no_file_is_longer_than_five_hundred_lines_before_its_tests() {
    let mut broken = Vec::new();
    for (name, text) in files("src").into_iter().chain(files("tests")).chain(files("benches")) {
        let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
        if lines > 500 {
            broken.push(format!("{name} has {lines} lines"));
        }
    }
    let decide = fs::read_to_string(root().join("src/core/decide.rs")).unwrap();
    assert!(
        decide.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count() <= 150,
        "decide.rs is the heart"
    );
    assert_none(broken, "split it by reason");
}

#[test]
fn no_function_is_longer_than_a_screen() {
    let mut broken = Vec::new();
    for (name, text) in files("src") {
        let mut began: Option<(usize, usize, String)> = None;
        for (at, line) in text.lines().enumerate().take_while(|(_, line)| !line.starts_with("#[cfg(test)]")) {
            let indent = line.len() - line.trim_start().len();
            let is_fn = ["fn ", "pub fn ", "const fn ", "pub const fn ", "pub(crate) fn ", "pub(super) fn "]
                .iter()
                .any(|word| line.trim_start().starts_with(word));
            if is_fn && began.is_none() {
                began = Some((at, indent, line.trim().to_string()));
            }
            if let Some((start, depth, head)) = &began
                && indent == *depth
                && (line.trim() == "}" || (at == *start && line.ends_with(['}', ';'])) || line.trim() == ") {}")
            {
                if at - start + 1 > 70 {
                    broken.push(format!("{name}:{} {} lines: {head}", start + 1, at - start + 1));
                }
                began = None;
            } else if began.as_ref().is_some_and(|(_, depth, _)| indent == *depth && line.trim_end().ends_with(';')) {
                // A declaration in a trait has no body.
                began = None;
            }
        }
    }
    assert_none(broken, "a function fits on one screen");
}

#[test]
fn every_file_says_what_it_owns() {
    let broken = files("src")
        .into_iter()
        .filter(|(name, text)| !text.starts_with("//!") && !text.trim().is_empty() && name != "src/main.rs");
    assert_none(broken.map(|(name, _)| name).collect(), "a file begins with what it owns and what it must never do");
}

#[test]
fn every_decision_named_in_the_code_is_written_down() {
    let mut broken = Vec::new();
    for (name, text) in files("src").into_iter().chain(files("tests")) {
        for (at, line) in text.lines().enumerate() {
            for (start, _) in line.match_indices("adr/") {
                let named: String =
                    line[start..].chars().take_while(|c| c.is_alphanumeric() || "/-.".contains(*c)).collect();
                let named = named.trim_end_matches('.');
                let is_one = named.len() > 8 && named[4..8].bytes().all(|b| b.is_ascii_digit());
                if is_one && !root().join(named).is_file() {
                    broken.push(format!("{name}:{} {named}", at + 1));
                }
            }
        }
    }
    assert_none(broken, "code names decisions that exist");
}

#[test]
fn nothing_is_left_for_later() {
    // Written in two halves so that this file does not name what it forbids.
    let words: Vec<String> = [("todo", "!("), ("unimplemented", "!("), ("#[ig", "nore"), ("dbg", "!(")]
        .iter()
        .map(|(one, two)| format!("{one}{two}"))
        .collect();
    let mut broken = Vec::new();
    for (name, text) in files("src").into_iter().chain(files("tests")).chain(files("benches")) {
        for (at, line) in text.lines().enumerate() {
            broken.extend(
                words.iter().filter(|word| line.contains(*word)).map(|word| format!("{name}:{} {word}", at + 1)),
            );
        }
    }
    assert_none(broken, "finish it");
}
