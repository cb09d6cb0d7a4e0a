//! How the engine's socket is named in the settings, and whether there is one.
//!
//! A path, or the same as `unix://`, as Docker's own tools write it. Any other address is refused with what to
//! do instead: the client speaks to a Unix socket and to nothing else. Asks the file system, never the engine.

use std::io::ErrorKind;
use std::path::Path;

/// Bytes of a path that the kernel takes for a socket's name.
const LONGEST: usize = 107;

/// The path that `text` names; an error says what would be right. What may hold a password is not repeated.
pub fn path(text: &str) -> Result<String, String> {
    let text = text.trim();
    let path = match text.split_once("://") {
        None => text,
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("unix") => rest,
        Some((scheme, _)) => return Err(other(&scheme.to_ascii_lowercase())),
    };
    if path.is_empty() {
        return Err("is empty; write docker.enabled = false to turn Docker off".to_string());
    }
    if !path.starts_with('/') {
        return Err("is not the path of a Unix socket from the root; write for example \"/var/run/docker.sock\"".into());
    }
    if path.contains('\0') {
        return Err("contains a NUL character, which no path can".to_string());
    }
    if path.len() > LONGEST {
        return Err(format!("is longer than the {LONGEST} bytes that the path of a Unix socket may have"));
    }
    Ok(path.to_string())
}

fn other(scheme: &str) -> String {
    let scheme: String = scheme.chars().filter(|c| !c.is_control()).take(12).collect();
    let instead = match scheme.as_str() {
        "ssh" => "run a watchdog on that machine, beside its engine",
        "npipe" => "Windows containers cannot be watched; on Linux write the path of the socket",
        _ => {
            "mount the engine's socket and write its path (the profile proxy in compose.yaml puts a filter before it), \
             or run a watchdog beside the engine"
        }
    };
    format!("is an address by {scheme}://, and the engine is asked through a Unix socket only; {instead}")
}

/// True when nothing is there. A path that may not be looked at is not missing: asking it says why.
pub fn is_missing(path: &Path) -> bool {
    let error = std::fs::metadata(path).err().map(|error| error.kind());
    matches!(error, Some(ErrorKind::NotFound | ErrorKind::NotADirectory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_its_url_are_the_same_socket() {
        for text in ["/run/d.sock", "unix:///run/d.sock", "UNIX:///run/d.sock", "  /run/d.sock\n"] {
            assert_eq!(path(text).as_deref(), Ok("/run/d.sock"), "{text}");
        }
        assert!(path(&format!("/{}", "x".repeat(LONGEST - 1))).is_ok());
    }

    #[test]
    fn what_is_no_unix_socket_is_refused_with_what_to_do() {
        for (text, why) in [
            ("tcp://user:canary@10.0.0.1:2375", "mount the engine's socket"),
            ("http://10.0.0.1:2375", "mount the engine's socket"),
            ("https://10.0.0.1:2376", "mount the engine's socket"),
            ("ssh://me@host", "on that machine"),
            ("npipe:////./pipe/docker_engine", "Windows"),
            ("fd://", "Unix socket only"),
            ("unix://", "empty"),
            ("", "empty"),
            ("unix://docker.sock", "from the root"),
            ("docker.sock", "from the root"),
            ("localhost:2375", "from the root"),
            ("/run/\0", "NUL"),
        ] {
            let error = path(text).unwrap_err();
            assert!(error.contains(why) && !error.contains("canary"), "{text}: {error}");
        }
        assert!(path(&format!("/{}", "x".repeat(LONGEST))).unwrap_err().contains("107 bytes"));
    }

    #[test]
    fn only_what_is_not_there_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        assert!(is_missing(&file) && is_missing(&file.join("below")));
        std::fs::write(&file, "").unwrap();
        assert!(!is_missing(&file) && is_missing(&file.join("below")));
    }
}
