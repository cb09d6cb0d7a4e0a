//! No two files know each other: the imports of the source tree, read from its `use` lines, make no circle.
//!
//! A file and the files below its own folder are one part in several pieces; what they take from each other is
//! theirs. Tests at the end of a file may use what they like.

use std::collections::{BTreeMap, BTreeSet};

use crate::architecture::files;

/// Who uses whom, by module path.
type Uses = BTreeMap<String, BTreeSet<String>>;

/// `src/core/recovery/mod.rs` is `core::recovery`; `src/lib.rs` and `src/main.rs` are the root.
fn module(file: &str) -> String {
    let path = file.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    if matches!(path, "lib" | "main") { String::new() } else { path.replace('/', "::") }
}

/// The paths that one `use` names: `a::{b, c::{d, e}}` are three.
fn paths(tree: &str) -> Vec<String> {
    let Some((lead, inner)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        return vec![path.chars().filter(|c| !c.is_whitespace()).collect()];
    };
    let inner = inner.trim_end().trim_end_matches('}');
    let (mut depth, mut branches) = (0, vec![String::new()]);
    for c in inner.chars() {
        match c {
            ',' if depth == 0 => branches.push(String::new()),
            _ => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                branches.last_mut().unwrap().push(c);
            }
        }
    }
    let branches = branches.iter().filter(|branch| !branch.trim().is_empty());
    branches.flat_map(|branch| paths(&format!("{lead}{}", branch.trim()))).collect()
}

/// The `use` items of a file before its tests, each without the keyword and the semicolon.
fn imports(text: &str) -> Vec<String> {
    let code = text.split("\n#[cfg(test)]").next().unwrap_or_default();
    let mut found = Vec::new();
    let mut open: Option<String> = None;
    for line in code.lines() {
        let line = line.split("//").next().unwrap_or_default().trim_end();
        let begins = ["use ", "pub use ", "pub(crate) use ", "pub(super) use "];
        let start = begins.iter().find_map(|word| line.strip_prefix(word));
        let so_far = match (open.take(), start) {
            (Some(before), _) => format!("{before} {line}"),
            (None, Some(rest)) => rest.to_string(),
            (None, None) => continue,
        };
        match so_far.strip_suffix(';') {
            Some(whole) => found.push(whole.to_string()),
            None => open = Some(so_far),
        }
    }
    found
}

/// The module of ours that `path`, as written in `from`, leads to.
fn target(from: &str, path: &str, all: &BTreeSet<String>) -> Option<String> {
    let mut base: Vec<&str> = from.split("::").filter(|part| !part.is_empty()).collect();
    let mut parts: Vec<&str> = path.split("::").collect();
    match parts[0] {
        "crate" => base.clear(),
        "self" => {}
        "super" => {
            while parts.first() == Some(&"super") {
                base.pop();
                parts.remove(0);
            }
            parts.insert(0, "super");
        }
        first => {
            let child = [&base[..], &[first]].concat().join("::");
            if !all.contains(&child) {
                return None;
            }
            parts.insert(0, "self");
        }
    }
    base.extend(&parts[1..]);
    while !base.is_empty() && !all.contains(&base.join("::")) {
        base.pop();
    }
    Some(base.join("::")).filter(|found| !found.is_empty() && found != from)
}

/// True for a file and one below its own folder.
fn are_one(one: &str, other: &str) -> bool {
    one.starts_with(&format!("{other}::")) || other.starts_with(&format!("{one}::"))
}

fn uses(files: &[(String, String)]) -> Uses {
    let all: BTreeSet<String> = files.iter().map(|(name, _)| module(name)).collect();
    let mut uses = Uses::new();
    for (name, text) in files {
        let from = module(name);
        let named = imports(text).iter().flat_map(|tree| paths(tree)).collect::<Vec<_>>();
        let known = named.iter().filter_map(|path| target(&from, path, &all));
        let others = known.filter(|to| !are_one(&from, to)).collect();
        uses.entry(from).or_default().extend::<BTreeSet<String>>(others);
    }
    uses
}

/// Everybody that `from` uses, and those that they use.
fn reach<'a>(uses: &'a Uses, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&str> = uses.get(from).into_iter().flatten().map(String::as_str).collect();
    while let Some(module) = next.pop() {
        if reached.insert(module) {
            next.extend(uses.get(module).into_iter().flatten().map(String::as_str));
        }
    }
    reached
}

/// Modules that use themselves by way of others, each with those that it shares a circle with.
fn circles(uses: &Uses) -> BTreeSet<BTreeSet<&str>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        uses.keys().map(|module| (module.as_str(), reach(uses, module))).collect();
    let in_circle = reached.keys().filter(|module| reached[**module].contains(**module));
    in_circle
        .map(|module| {
            let back = |other: &&&str| reached.get(**other).is_some_and(|theirs| theirs.contains(module));
            reached[module].iter().filter(back).copied().collect()
        })
        .collect()
}

#[test]
fn no_file_imports_one_that_imports_it() {
    let uses = uses(&files("src"));
    assert!(uses.values().map(BTreeSet::len).sum::<usize>() > 500, "the imports were read");
    let circles = circles(&uses);
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn a_circle_is_found_however_it_is_written() {
    let file = |name: &str, text: &str| (format!("src/{name}.rs"), text.to_string());
    let tree = [
        file("lib", "mod a;"),
        file("a", "use std::fmt;\nuse crate::b::{\n    self,\n    c::{D, E as F},\n};\n"),
        file("b/mod", "mod c;\npub use self::c::D;\n"),
        file("b/c", "use super::g::H;\n"),
        file("b/g", "pub(super) use crate::a; // over there\n\n#[cfg(test)]\nmod tests {\n    use crate::z;\n}\n"),
        file("z", "use crate::a::Thing;\n"),
    ];
    let uses = uses(&tree);
    assert_eq!(circles(&uses), BTreeSet::from([BTreeSet::from(["a", "b::c", "b::g"])]), "{uses:?}");
}
