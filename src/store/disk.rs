//! A state file as a database: opened, identified, checked, set up to survive a kill at any moment.
//!
//! WAL with `synchronous = FULL`: a commit that returned is on the disk, one that did not is not
//! there at all. What is asked of machines rests on that: an intent that `commit` reported, with
//! the store still on its file, was fsynced before any request can leave (B5). Never renames or
//! removes anything; what to do about trouble is `opening`'s.

use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::schema::{self, APPLICATION_ID};
use super::tables::{ESSENTIAL, HISTORY};

/// Files up to this size are checked as a whole at each start; of larger ones the essential tables.
const CHECKED_BYTES: i64 = 16 * 1024 * 1024;

/// Why a file is not served.
#[derive(Debug)]
pub enum Trouble {
    /// It is not a sound state file. In words why.
    Damaged(String),
    /// It was written by a newer version of this program.
    Newer(i32),
    /// It cannot be read or written at present. In words why.
    Unusable(String),
}

/// Opens `path` for reading and writing, making an empty file into a fresh database.
pub fn open(path: &Path) -> Result<Connection, Trouble> {
    touch(path).map_err(|error| Trouble::Unusable(error.to_string()))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags).map_err(trouble)?;
    // Until it is known to be sound nothing is changed, not even by closing it.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(trouble)?;
    if !identify(&db)? {
        check(&db)?;
    }
    set_up(&mut db).map_err(trouble)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(trouble)?;
    Ok(db)
}

/// Opens `path` for reading only; another process may be writing. The flag is true when changes
/// in its write-ahead log could not be seen (a directory that cannot be written).
pub fn view(path: &Path) -> Result<(Connection, bool), Trouble> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let plain = Connection::open_with_flags(path, flags).map_err(trouble).and_then(|db| {
        viewable(&db)?;
        Ok(db)
    });
    let why = match plain {
        Ok(db) => return Ok((db, false)),
        Err(Trouble::Unusable(why)) => why,
        Err(other) => return Err(other),
    };
    // SQLite writes beside a file in WAL mode even to read it. Where it may not, the file is read
    // as if nobody wrote to it, which is so on a disk that is read-only.
    let Some(name) = path.to_str() else { return Err(Trouble::Unusable(why)) };
    let escaped = name.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let uri = format!("file:{escaped}?immutable=1");
    let db = Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI).map_err(trouble)?;
    viewable(&db)?;
    let blind = fs::metadata(super::beside(path, "-wal")).is_ok_and(|log| log.len() > 0);
    Ok((db, blind))
}

/// What tells whether `path` is still the same file.
pub fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// True when the error speaks against what is in the file, or leaves open what is on the disk
/// (a failed fsync): the file is then not written to any more.
pub fn suspect(error: &rusqlite::Error) -> bool {
    let rusqlite::Error::SqliteFailure(code, _) = error else { return true };
    match code.code {
        ErrorCode::SystemIoFailure => {
            use rusqlite::ffi;
            matches!(
                code.extended_code,
                ffi::SQLITE_IOERR_FSYNC
                    | ffi::SQLITE_IOERR_DIR_FSYNC
                    | ffi::SQLITE_IOERR_READ
                    | ffi::SQLITE_IOERR_SHORT_READ
                    | ffi::SQLITE_IOERR_DATA
                    | ffi::SQLITE_IOERR_CORRUPTFS
            )
        }
        other => !passing(other),
    }
}

/// True for trouble with the surroundings of a file rather than with its content.
fn passing(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::SystemIoFailure
            | ErrorCode::DiskFull
            | ErrorCode::ReadOnly
            | ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::OutOfMemory
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::OperationInterrupted
            | ErrorCode::NoLargeFileSupport
    )
}

fn trouble(error: rusqlite::Error) -> Trouble {
    match error.sqlite_error() {
        Some(code) if passing(code.code) => Trouble::Unusable(error.to_string()),
        _ => Trouble::Damaged(error.to_string()),
    }
}

/// Makes sure that there is a regular file, which only its owner can read.
pub fn touch(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => return Err(io::Error::other("it is not a regular file")),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if file.metadata()?.mode() & 0o077 != 0 {
        // It may belong to somebody else; then its mode is theirs to choose.
        let _ = file.set_permissions(Permissions::from_mode(0o600));
    }
    Ok(())
}

/// True for an empty database, false for one of ours.
fn identify(db: &Connection) -> Result<bool, Trouble> {
    schema::prepare(db).map_err(trouble)?;
    let header = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(trouble);
    let (owner, version) = (header("application_id")?, header("user_version")?);
    if owner == 0 && version == 0 {
        let things: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(trouble)?;
        if things == 0 {
            return Ok(true);
        }
    }
    match version {
        _ if owner != APPLICATION_ID => Err(Trouble::Damaged("it was not written by watchdog".to_string())),
        _ if version > schema::version() => Err(Trouble::Newer(version)),
        ..=0 => Err(Trouble::Damaged(format!("its version says {version}"))),
        _ => Ok(false),
    }
}

/// Reads the file and holds it against itself.
fn check(db: &Connection) -> Result<(), Trouble> {
    let pages: i64 = db.pragma_query_value(None, "page_count", |row| row.get(0)).map_err(trouble)?;
    let page: i64 = db.pragma_query_value(None, "page_size", |row| row.get(0)).map_err(trouble)?;
    if pages.saturating_mul(page) <= CHECKED_BYTES {
        verdict(db, "PRAGMA quick_check(1)")?;
    }
    let version = schema::of(db).map_err(trouble)?;
    for table in ESSENTIAL.into_iter().filter(|table| table.since <= version) {
        verdict(db, &format!("PRAGMA integrity_check({})", table.name))?;
        if let Some(row) = table.unsound(db).map_err(trouble)? {
            return Err(Trouble::Damaged(format!("row {row} of {} is not what was written", table.name)));
        }
    }
    db.prepare(&format!("SELECT id, {} FROM history", HISTORY.columns.join(", "))).map_err(trouble)?;
    Ok(())
}

fn verdict(db: &Connection, question: &str) -> Result<(), Trouble> {
    let answer: String = db.query_row(question, [], |row| row.get(0)).map_err(trouble)?;
    if answer == "ok" { Ok(()) } else { Err(Trouble::Damaged(answer)) }
}

fn viewable(db: &Connection) -> Result<(), Trouble> {
    if identify(db)? {
        return Err(Trouble::Unusable("it is empty; has the daemon run with this `state` yet?".to_string()));
    }
    Ok(())
}

fn set_up(db: &mut Connection) -> rusqlite::Result<()> {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    // The log is copied back into the file after 64 pages (256 KiB) and then written over, not cut:
    // what it occupies is a reserve on a disk that fills up.
    db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 64;")?;
    schema::migrate(db)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_commit_waits_for_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let db = open(&dir.path().join("state.db")).unwrap();
            let mode: String = db.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
            let level: i32 = db.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
            assert_eq!((mode.as_str(), level), ("wal", 2), "FULL: an fsync per commit");
        }
    }
}
