//! One plain file, read whole and never waited for: a pipe, a device or a link that leads nowhere is an error by
//! itself, not a program that hangs.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The bytes of a plain file of at most `limit` bytes.
///
/// # Errors
/// In words that follow the file's name: "cannot be read: permission denied".
pub fn bytes(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let file = open(path)?;
    let mut bytes = Vec::new();
    // Not by its length: what is in /proc has none, and another may still be growing.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| failed(path, &error))?;
    if bytes.len() as u64 > limit {
        return Err(format!("is larger than {}", in_words(limit)));
    }
    Ok(bytes)
}

/// The text of a plain file of at most `limit` bytes.
///
/// # Errors
/// As [`bytes`]; also what is not UTF-8.
pub fn text(path: &Path, limit: u64) -> Result<String, String> {
    String::from_utf8(bytes(path, limit)?).map_err(|error| {
        let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = before.split(|byte| *byte == b'\n').count();
        format!("is not text in UTF-8 (line {line})")
    })
}

fn open(path: &Path) -> Result<File, String> {
    // Opening some devices does something; what is not a plain file is not even opened.
    let before = std::fs::metadata(path).map_err(|error| failed(path, &error))?;
    plain(&before)?;
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path);
    let file = file.map_err(|error| failed(path, &error))?;
    // What is open now may be another than what was looked at.
    plain(&file.metadata().map_err(|error| failed(path, &error))?)?;
    Ok(file)
}

fn plain(meta: &std::fs::Metadata) -> Result<(), String> {
    use std::os::unix::fs::FileTypeExt as _;
    let kind = meta.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(format!("is {what}; a plain file is needed"))
}

fn failed(path: &Path, error: &std::io::Error) -> String {
    let is_link = || std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink());
    match error.kind() {
        ErrorKind::NotFound if is_link() => "is a link to a file that does not exist".to_string(),
        ErrorKind::NotFound => "cannot be read: no such file".to_string(),
        ErrorKind::PermissionDenied => "cannot be read: permission denied".to_string(),
        ErrorKind::NotADirectory => "cannot be read: a part of its path is not a directory".to_string(),
        _ if is_link() => format!("is a link that leads nowhere: {error}"),
        _ => format!("cannot be read: {error}"),
    }
}

fn in_words(limit: u64) -> String {
    match limit {
        n if n >= 1024 * 1024 && n.is_multiple_of(1024 * 1024) => format!("{} MiB", n / (1024 * 1024)),
        n if n >= 1024 && n.is_multiple_of(1024) => format!("{} KiB", n / 1024),
        n => format!("{n} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_at_its_limit_is_read_and_one_above_it_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "x".repeat(1024)).unwrap();
        assert_eq!(bytes(&path, 1024).unwrap().len(), 1024);
        assert_eq!(bytes(&path, 1023), Err("is larger than 1023 bytes".to_string()));
        std::fs::write(&path, "x".repeat(1025)).unwrap();
        assert_eq!(bytes(&path, 1024), Err("is larger than 1 KiB".to_string()));
        assert!(bytes(Path::new("/dev/zero"), 10).unwrap_err().contains("a device"));
        assert!(bytes(dir.path(), 10).unwrap_err().contains("a directory"));
    }

    #[test]
    fn what_has_no_length_is_read_as_well() {
        assert!(text(Path::new("/proc/self/status"), 64 * 1024).unwrap().contains("Name:"));
    }

    #[test]
    fn text_that_is_none_is_named_by_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"a\nb\xff").unwrap();
        assert_eq!(text(&path, 1024), Err("is not text in UTF-8 (line 2)".to_string()));
    }
}
