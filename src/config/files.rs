//! Which files make the configuration, and what each of them holds.
//!
//! A file that somebody named, or that lies where configuration lies, is read or it is an error: none is left out
//! without a word. Nothing here waits (a pipe in `conf.d`) or reads without end (`/dev/zero`).

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::Problem;
use super::exposed::{self, Exposed};
use super::file;

/// A configuration file larger than this is not one.
const FILE_LIMIT: u64 = 1024 * 1024;
/// Files of one `conf.d` at most.
const FILES: usize = 4096;
/// Where a configuration is when none is named.
const DEFAULT: [&str; 2] = ["/etc/watchdog/watchdog.toml", "watchdog.toml"];
/// Ends of names by which a file is meant as configuration and yet not read.
const ALIKE: [&str; 6] = ["yaml", "yml", "json", "conf", "ini", "tml"];

/// What was found.
#[derive(Debug, Default)]
pub struct Files {
    /// Each file that could be read and its text, in order.
    pub read: Vec<(PathBuf, String)>,
    /// What is wrong, each by the file's name.
    pub problems: Vec<Problem>,
    /// What is odd and yet used, in words.
    pub warnings: Vec<String>,
}

/// The files that were named, or the default places that exist; then `conf.d/*.toml` beside the first, sorted.
pub fn read(named: &[PathBuf]) -> Files {
    let mut found = Files::default();
    let mut paths: Vec<PathBuf> = named.to_vec();
    if named.is_empty() {
        // One that is there in any form is meant; only what is not there at all is not.
        let absent = |path: &&PathBuf| {
            let looked = std::fs::symlink_metadata(path);
            looked.is_err_and(|e| matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory))
        };
        paths.extend(DEFAULT.iter().map(PathBuf::from).filter(|path| !absent(&path)));
    }
    if let Some(first) = paths.first() {
        let directory = first.parent().unwrap_or(Path::new("")).join("conf.d");
        paths.extend(found.entries(&directory));
    }
    for path in paths {
        found.one(path);
    }
    found
}

impl Files {
    fn refuse(&mut self, path: &Path, what: &str) {
        self.problems.push(Problem::of_place(path.display().to_string(), what));
    }

    fn one(&mut self, path: PathBuf) {
        let text = match file::text(&path, FILE_LIMIT) {
            Ok(text) => text,
            Err(what) => return self.refuse(&path, &what),
        };
        match exposed::configuration(&path, rustix::process::geteuid().as_raw()) {
            Some(Exposed::Refused(what)) => return self.refuse(&path, &what),
            Some(Exposed::Told(what)) => self.warnings.push(format!("{} {what}", path.display())),
            None => {}
        }
        self.read.push((path, text));
    }

    /// The `*.toml` of `conf.d`, sorted by name.
    fn entries(&mut self, directory: &Path) -> Vec<PathBuf> {
        match std::fs::symlink_metadata(directory) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Vec::new(),
            _ => {}
        }
        let listed = std::fs::read_dir(directory).and_then(|entries| {
            entries.take(FILES + 1).map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<Vec<_>>>()
        });
        let mut names = match listed {
            Ok(names) => names,
            Err(error) => {
                self.refuse(directory, &format!("cannot be read as a directory of configuration files: {error}"));
                return Vec::new();
            }
        };
        if names.len() > FILES {
            self.refuse(directory, &format!("has more than {FILES} entries; move what is not configuration elsewhere"));
            return Vec::new();
        }
        names.sort();
        let mut paths = Vec::new();
        for name in names {
            let path = directory.join(&name);
            match kind(&name.to_string_lossy()) {
                Named::Configuration => paths.push(path),
                Named::Alike(why) => {
                    self.warnings.push(format!("{} is not read: {why}", path.display()));
                }
                Named::Other => {}
            }
        }
        paths
    }
}

/// What a file in `conf.d` is, by its name.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    Configuration,
    /// Somebody may believe that it counts.
    Alike(&'static str),
    Other,
}

fn kind(name: &str) -> Named {
    const OTHERS: &str = "only names that end in .toml are";
    let lower = name.to_ascii_lowercase();
    if let Some(visible) = lower.strip_prefix('.') {
        // An editor's lock beside the file that is being edited; a container platform's own links.
        let is_own = visible.starts_with(['#', '.']);
        let meant = visible.rsplit_once('.').is_some_and(|(_, end)| end == "toml") && !is_own;
        return if meant { Named::Alike("a name that begins with a dot is hidden") } else { Named::Other };
    }
    match name.rsplit_once('.') {
        Some((stem, "toml")) if !stem.is_empty() => Named::Configuration,
        _ if lower.contains(".toml") => Named::Alike(OTHERS),
        _ if lower.rsplit_once('.').is_some_and(|(_, end)| ALIKE.contains(&end)) => Named::Alike(OTHERS),
        _ => Named::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_meant() {
        for (name, expected) in [
            ("a.toml", Named::Configuration),
            ("README", Named::Other),
            ("..data", Named::Other),
            ("..2026_01_01.toml", Named::Other),
            (".#a.toml", Named::Other),
            (".a.toml.swp", Named::Other),
            ("notes.txt", Named::Other),
        ] {
            assert_eq!(kind(name), expected, "{name}");
        }
        for name in ["a.toml.bak", "a.TOML", "a.yaml", "a.toml~", "a.toml.disabled", ".a.toml", "a.conf", "a.tml"] {
            assert!(matches!(kind(name), Named::Alike(_)), "{name}");
        }
    }

    #[test]
    fn a_directory_with_too_many_entries_is_refused_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let named = dir.path().join("watchdog.toml");
        std::fs::write(&named, "").unwrap();
        let entries = dir.path().join("conf.d");
        std::fs::create_dir(&entries).unwrap();
        for n in 0..FILES {
            std::fs::write(entries.join(format!("{n}.txt")), "").unwrap();
        }
        assert!(read(std::slice::from_ref(&named)).problems.is_empty());
        std::fs::write(entries.join("one-more.toml"), "").unwrap();
        let found = read(&[named]);
        assert!(found.problems[0].to_string().contains("more than 4096 entries"), "{:?}", found.problems);
    }
}
