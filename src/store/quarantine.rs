//! Puts a bad state file aside, beside itself, with everything that belongs to it.
//!
//! Nothing is ever deleted: what is in it may be the only record of something. The new name says
//! why and when. Never opens the file.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::core::time::Wall;

/// What `SQLite` keeps beside a file.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Renames `path` to `<path>.<word>-<instant>` and gives the new name.
pub fn put_aside(path: &Path, word: &str, now: Wall) -> io::Result<PathBuf> {
    let stamp: String = now.rfc3339().chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let aside = (1..=100)
        .map(|n| if n == 1 { format!(".{word}-{stamp}") } else { format!(".{word}-{stamp}-{n}") })
        .map(|suffix| super::beside(path, &suffix))
        .find(|name| fs::symlink_metadata(name).is_err())
        .ok_or_else(|| io::Error::other("a hundred files were put aside this second"))?;
    // The companions first: a log left beside a fresh file would be taken for that file's log.
    for companion in COMPANIONS {
        match fs::rename(super::beside(path, companion), super::beside(&aside, companion)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, &aside)?;
    sync_directory(path);
    Ok(aside)
}

/// Makes renames in the directory of `path` survive a power cut, where the filesystem can.
pub fn sync_directory(path: &Path) {
    if let Some(directory) = path.parent() {
        let _ = File::open(directory).and_then(|directory| directory.sync_all());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_belongs_to_the_file_goes_with_it_and_nothing_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let mut names = Vec::new();
        for content in ["one", "two"] {
            fs::write(&path, content).unwrap();
            fs::write(dir.path().join("state.db-wal"), format!("log of {content}")).unwrap();
            names.push(put_aside(&path, "corrupt", Wall(1_767_225_600_000)).unwrap());
            assert!(!path.exists() && !dir.path().join("state.db-wal").exists());
        }
        assert_eq!(names[0].file_name().unwrap(), "state.db.corrupt-20260101T000000Z");
        for (name, content) in names.iter().zip(["one", "two"]) {
            assert_eq!(fs::read_to_string(name).unwrap(), content);
            assert_eq!(fs::read_to_string(super::super::beside(name, "-wal")).unwrap(), format!("log of {content}"));
        }
    }
}
