//! Who else may change or read the files we trust (T4, T19).
//!
//! A configuration can name commands to run and addresses to send tokens to, so whoever may write it is
//! us. Looks at permission bits only and never changes them. Refuses where another user of the machine
//! would become root; elsewhere it warns, because mounts of some systems show every file as writable.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// Everybody may write.
const OTHERS_WRITE: u32 = 0o002;
/// The group may write.
const GROUP_WRITES: u32 = 0o020;
/// Everybody may read.
const OTHERS_READ: u32 = 0o004;
/// In such a directory only the owner may replace a file.
const STICKY: u32 = 0o1000;
/// Where container engines put secrets, readable by whoever is inside and by nobody outside.
const SECRETS: [&str; 2] = ["/run/secrets", "/var/run/secrets"];

/// What is wrong with a file's permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exposed {
    /// It cannot be used.
    Refused(String),
    /// It is used, and a person should know.
    Told(String),
}

/// Looks at a configuration file as `uid` (0 is root) would use it.
pub fn configuration(file: &Path, uid: u32) -> Option<Exposed> {
    let mode = mode(file)?;
    let directory = file.parent().map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
    let around = directory.and_then(self::mode).unwrap_or_default();
    let replaceable = around & OTHERS_WRITE != 0 && around & STICKY == 0;
    if mode & OTHERS_WRITE != 0 || replaceable {
        let what = if replaceable {
            "lies in a directory that every user may write to"
        } else {
            "may be written by every user"
        };
        let advice = "take that away with chmod o-w";
        return Some(if uid == 0 {
            Exposed::Refused(format!("{what}, and this program runs as root; {advice}, or run it as another user"))
        } else {
            Exposed::Told(format!("{what}; {advice}"))
        });
    }
    let ours = uid == 0 && mode & GROUP_WRITES != 0 && std::fs::metadata(file).is_ok_and(|meta| meta.gid() != 0);
    ours.then(|| Exposed::Told("may be written by its group, and this program runs as root; chmod g-w".to_string()))
}

/// Looks at a file that holds a secret.
pub fn secret(file: &Path) -> Option<Exposed> {
    let mode = mode(file)?;
    if mode & OTHERS_WRITE != 0 {
        return Some(Exposed::Refused("may be written by every user; chmod 0400".to_string()));
    }
    let shut_in = SECRETS.iter().any(|place| file.starts_with(place));
    (mode & OTHERS_READ != 0 && !shut_in)
        .then(|| Exposed::Told("may be read by every user of this machine; chmod 0400".to_string()))
}

fn mode(path: &Path) -> Option<u32> {
    std::fs::metadata(path).ok().map(|meta| meta.permissions().mode())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_configuration_that_others_may_write_is_refused_as_root_and_told_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("watchdog.toml");
        fs::write(&file, "").unwrap();
        for (file_mode, dir_mode, open) in [
            (0o600, 0o755, false),
            (0o644, 0o755, false),
            (0o646, 0o755, true),
            (0o666, 0o755, true),
            (0o644, 0o777, true),
            (0o644, 0o1777, false),
        ] {
            chmod(&file, file_mode);
            chmod(dir.path(), dir_mode);
            let (root, user) = (configuration(&file, 0), configuration(&file, 1000));
            assert_eq!(matches!(root, Some(Exposed::Refused(_))), open, "{file_mode:o} {dir_mode:o} {root:?}");
            assert_eq!(matches!(user, Some(Exposed::Told(_))), open, "{file_mode:o} {dir_mode:o} {user:?}");
        }
        assert_eq!(configuration(&dir.path().join("none"), 0), None);
    }

    #[test]
    fn a_secret_that_others_may_read_is_told_and_one_they_may_write_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        fs::write(&file, "x").unwrap();
        chmod(&file, 0o640);
        assert_eq!(secret(&file), None);
        chmod(&file, 0o644);
        assert!(matches!(secret(&file), Some(Exposed::Told(_))));
        chmod(&file, 0o602);
        assert!(matches!(secret(&file), Some(Exposed::Refused(_))));
    }
}
