//! The papers agree with the program: what README, compose.yaml, Dockerfile and the deploy folder say
//! is run by CI, exists, and is known to the program.
//!
//! The commands of the README are not copied anywhere: `.ci/readme NAME` prints a marked block and the
//! scripts in `.ci/` run it. These tests see to it that no block lacks its mark and no mark its script.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use watchdog::assemble::schema as sections;
use watchdog::config::{Config, Layers, all_keys};

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    fs::read_to_string(file(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The names of the README's `sh` blocks; a block without a mark is named by its first line.
fn marked_blocks(readme: &str) -> Result<BTreeSet<String>, String> {
    let mut names = BTreeSet::new();
    let mut before = "";
    let mut lines = readme.lines();
    while let Some(line) = lines.next() {
        if line == "```sh" {
            let mark = before.strip_prefix("<!-- ci: ").and_then(|rest| rest.strip_suffix(" -->"));
            let Some(name) = mark else {
                return Err(format!("no `<!-- ci: NAME -->` before: {}", lines.next().unwrap_or_default()));
            };
            if !names.insert(name.to_string()) {
                return Err(format!("two blocks are marked `{name}`"));
            }
        }
        before = line;
    }
    Ok(names)
}

/// Every `WATCHDOG_…` variable that a text names.
fn variables(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("WATCHDOG_") && *word != "WATCHDOG_")
        .map(str::to_string)
        .collect()
}

#[test]
fn every_command_of_the_readme_is_run_by_ci() {
    let blocks = marked_blocks(&text("README.md")).unwrap();
    assert!(blocks.contains("run") && blocks.contains("test"), "the README shows how to run and how to test");
    let scripts: String = ["run", "smoke", "compose"].iter().map(|name| text(&format!(".ci/{name}"))).collect();
    for name in &blocks {
        assert!(scripts.contains(&format!(".ci/readme {name})")), "no script in .ci runs the README's block `{name}`");
    }
}

#[test]
fn a_command_without_a_mark_is_found() {
    assert!(marked_blocks("text\n```sh\nls\n```\n").unwrap_err().ends_with(": ls"));
    assert!(marked_blocks("<!-- ci: a -->\n```sh\nls\n```\n<!-- ci: a -->\n```sh\nls\n```\n").is_err());
}

#[test]
fn every_link_of_the_readme_leads_to_a_file() {
    let readme = text("README.md");
    let links: Vec<&str> = readme
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')').map(|(link, _)| link))
        .filter(|link| !link.contains("://") && !link.starts_with('#'))
        .collect();
    assert!(links.len() > 3, "the README links to the files it speaks of");
    for link in links {
        assert!(file(link).exists(), "the README links to {link}, which is not there");
    }
}

#[test]
fn what_people_read_names_only_keys_that_the_program_knows() {
    let known: BTreeSet<String> =
        all_keys(&sections()).iter().map(|key| format!("WATCHDOG_{}", key.to_uppercase().replace('.', "__"))).collect();
    for path in ["README.md", "Dockerfile", "deploy/watchdog.service", "deploy/watchdog-beacon.service"] {
        for variable in variables(&text(path)) {
            assert!(known.contains(&variable), "{path} names {variable}, which is not a setting");
        }
    }
}

#[test]
fn the_example_configuration_is_valid() {
    for path in ["deploy/watchdog.toml", "deploy/agent.toml"] {
        let layers = Layers { files: vec![file(path)], ..Layers::default() };
        let nodes = Config::load(&layers, &sections()).and_then(|config| watchdog::nodes::Nodes::read(&config));
        if let Err(error) = nodes {
            panic!("{path}: {error}");
        }
    }
}

#[test]
fn images_carry_the_version_of_the_crate() {
    let version = env!("CARGO_PKG_VERSION");
    let compose = text("compose.yaml");
    for image in ["sidecar-watchdog", "sidecar-watchdog-example"] {
        assert!(compose.contains(&format!("image: {image}:{version}\n")), "compose.yaml: {image} is not {version}");
    }
    assert!(text(".ci/compose").contains(&format!("image=sidecar-watchdog:{version}\n")), ".ci/compose: not {version}");
}

#[test]
fn outside_images_are_pinned_by_digest() {
    let dockerfile = text("Dockerfile");
    let compose = text("compose.yaml");
    let froms = dockerfile.lines().filter_map(|line| line.strip_prefix("FROM ")).filter(|from| from.contains(':'));
    let images = compose.lines().filter_map(|line| line.trim().strip_prefix("image: "));
    let outside: Vec<&str> = froms.chain(images).filter(|image| !image.starts_with("sidecar-watchdog")).collect();
    assert_eq!(outside.len(), 2, "the compiler and the proxy come from outside, nothing else: {outside:?}");
    for image in outside {
        let (name, digest) = image.split_once("@sha256:").unwrap_or_else(|| panic!("{image} has no digest"));
        assert!(digest.chars().take_while(char::is_ascii_hexdigit).count() == 64, "{image}: not a sha256 digest");
        assert!(name.rsplit_once(':').is_some_and(|(_, tag)| tag.contains('.')), "{image}: no exact version");
    }
}

#[test]
fn the_image_is_built_with_the_compiler_that_the_crate_names() {
    let wanted = text("Cargo.toml")
        .lines()
        .find_map(|l| l.strip_prefix("rust-version = \"")?.strip_suffix('"').map(str::to_string));
    let wanted = wanted.unwrap();
    assert!(
        text("Dockerfile").contains(&format!("FROM rust:{wanted}.")),
        "the Dockerfile does not build with rust {wanted}"
    );
}

#[test]
fn the_walk_through_the_kinds_of_signals_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let walk = std::fs::read_to_string(root.join("adr/0037-no-green-without-evidence.md")).unwrap();
    let mut sources = String::new();
    let mut folders = vec![root.join("src"), root.join("tests/it")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                sources.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let is_test = |word: &&str| word.matches('_').count() > 3 && !word.contains([' ', '/']);
    let named: Vec<&str> = walk.split('`').skip(1).step_by(2).filter(is_test).collect();
    assert!(named.len() > 50, "{named:?}");
    for name in named {
        assert!(sources.contains(&format!("fn {name}(")), "there is no test {name}");
    }
}
