//! From a path to a working store, whatever lies at that path.
//!
//! A bad file is put aside and a fresh one begun; what was still to be said, and what is told of
//! repairs, is saved from it as far as it can be believed, its signal states are not (an alert may
//! come twice, a machine may not stay switched off, F81). A file that cannot be used is worked
//! without. The only refusal: somebody else is using it.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::client::shortage;
use crate::core::time::Now;

use super::disk::{self, Trouble};
use super::engine::{Engine, Place};
use super::fallback::Away;
use super::lock::{Lock, Refused};
use super::tables::SAVED;
use super::{Before, StoreError, fallback, outbox, schema, signals};

/// Rows of one table read from a bad file in one direction: a damaged tree could hand out the same rows for ever.
const SAVED_ROWS: usize = 20_000;

/// Opens the store; gives it, what happened, and what the previous run left.
pub fn open(path: Option<&Path>, now: Now, boot_id: &str) -> Result<(Engine, Vec<String>, Option<Before>), StoreError> {
    let mut notes = Vec::new();
    let mut engine = match path {
        None => Engine::new(schema::memory().map_err(StoreError::Memory)?, Place::Memory, now, boot_id),
        Some(path) => {
            if let Some(directory) = path.parent() {
                // Failing shows in the next step, with the reason.
                let _ = DirBuilder::new().recursive(true).mode(0o700).create(directory);
            }
            on_file(&real(path), now, boot_id, &mut notes)?
        }
    };
    let before = engine.before()?;
    if before.as_ref().is_some_and(|before| !before.same_boot) {
        engine.write(Some(now), &|db, _| outbox::rebase(db, now))?;
    }
    notes.append(&mut engine.take_notes());
    Ok((engine, notes, before))
}

/// A read-only view for commands.
pub fn view(path: &Path) -> Result<Engine, StoreError> {
    let path = real(path);
    let unreadable = |why: String| StoreError::Unreadable { path: path.clone(), why };
    match fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(StoreError::Absent { path }),
        Err(error) => return Err(unreadable(error.to_string())),
        Ok(found) if !found.is_file() => return Err(unreadable("it is not a regular file".to_string())),
        Ok(_) => {}
    }
    match disk::view(&path) {
        Ok((db, _)) => Ok(Engine::new(db, Place::View, Now::default(), "")),
        Err(Trouble::Damaged(why)) => Err(unreadable(format!("{why}; the daemon puts it aside at its next start"))),
        Err(Trouble::Newer(version)) => {
            Err(unreadable(format!("a newer watchdog wrote it (version {version}); use that one to read it")))
        }
        Err(Trouble::Unusable(why)) => Err(unreadable(why)),
    }
}

fn on_file(path: &Path, now: Now, boot_id: &str, notes: &mut Vec<String>) -> Result<Engine, StoreError> {
    let mut lock = match Lock::take(path) {
        Ok(lock) => lock,
        Err(Refused::Held(holder)) => return Err(StoreError::Locked { path: path.to_path_buf(), holder }),
        Err(Refused::Unusable(error)) => {
            return without_file(path, None, &format!("its lock file cannot be used: {error}"), now, boot_id);
        }
    };
    fallback::end_swap(path);
    // A file that is not there yet is made here, so that it is locked before it is used. Failing shows below.
    let _ = disk::touch(path);
    if let Err(Refused::Held(holder)) = lock.claim(path) {
        return Err(StoreError::Locked { path: path.to_path_buf(), holder });
    }
    let fresh = match disk::open(path) {
        Ok(db) => return Ok(with_file(path, db, lock, now, boot_id, Some(notes))),
        Err(Trouble::Unusable(why)) => return without_file(path, Some(lock), &why, now, boot_id),
        Err(Trouble::Damaged(why)) => {
            begin_afresh(path, "corrupt", &format!("is damaged ({why})"), lock.tick(), now, notes)
        }
        Err(Trouble::Newer(version)) => begin_afresh(
            path,
            "newer",
            &format!("was written by a newer watchdog (version {version})"),
            lock.tick(),
            now,
            notes,
        ),
    };
    match fresh {
        Ok((db, missing)) => {
            // It took the place of the one that was locked a moment ago, under the lock file all the time.
            let _ = lock.claim(path);
            let mut engine = with_file(path, db, lock, now, boot_id, None);
            engine.miss(missing);
            Ok(engine)
        }
        Err(why) => without_file(path, Some(lock), &why, now, boot_id),
    }
}

/// `notes` is `None` where it has been told what is missing.
fn with_file(
    path: &Path,
    db: Connection,
    lock: Lock,
    now: Now,
    boot_id: &str,
    notes: Option<&mut Vec<String>>,
) -> Engine {
    let held = signals::mark(&db).ok().flatten().map_or(0, |mark| mark.tick);
    let missing = notes.filter(|_| held < lock.tick()).map_or(0, |notes| {
        notes.push(format!(
            "state file {}: {} of {} commits are missing from it; it was removed, damaged or replaced by an older copy, or they were only in memory",
            path.display(),
            lock.tick() - held,
            lock.tick()
        ));
        // Any of them may have told of a repair.
        1
    });
    let place = Place::File { path: path.to_path_buf(), identity: disk::identity(path) };
    let mut engine = Engine::new(db, place, now, boot_id);
    engine.miss(missing);
    engine.hold(lock);
    engine.forget_marks();
    engine
}

/// Puts the file aside and opens a fresh one with what could be saved, or says why not. Gives also how
/// many rows about repairs are known to have been lost; `commits` is how many there were.
fn begin_afresh(
    path: &Path,
    word: &str,
    what: &str,
    commits: i64,
    now: Now,
    notes: &mut Vec<String>,
) -> Result<(Connection, usize), String> {
    let (saved, missing) = save(path, commits).map_err(|error| format!("it {what}, and no memory is left: {error}"))?;
    let fill = |db: &mut Connection| {
        let change = db.transaction()?;
        for table in SAVED {
            table.copy(&saved, &change, "")?;
        }
        change.commit()
    };
    let (db, aside) = fallback::swap(path, word, now.wall, &fill)
        .map_err(|why| format!("it {what}, and a fresh one cannot take its place: {why}"))?;
    let pending = outbox::count(&saved).unwrap_or(0);
    let lines: i64 = saved.query_row("SELECT count(*) FROM journal", [], |row| row.get(0)).unwrap_or(0);
    let lost = if missing == 0 {
        ""
    } else {
        "; some of what it told of repairs may be missing: check the machines that were being repaired"
    };
    notes.push(format!(
        "state file {} {what}; it was put aside as {} and a fresh one begun; {pending} messages still to be sent and {lines} lines of the journal of repairs were saved from it{lost}",
        path.display(),
        aside.unwrap_or_default().display()
    ));
    Ok((db, missing))
}

/// What can be believed in a bad file, in memory, and how many rows about repairs cannot or are not there.
fn save(path: &Path, commits: i64) -> rusqlite::Result<(Connection, usize)> {
    let mut saved = schema::memory()?;
    let change = saved.transaction()?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut missing = 0;
    match Connection::open_with_flags(path, flags) {
        Ok(db) if schema::prepare(&db).is_ok() => {
            for table in SAVED {
                let copied = table.rescue(&db, &change, SAVED_ROWS)?;
                if table.since > 1 {
                    missing += copied.unsound + usize::from(!copied.whole);
                }
            }
            let held = signals::mark(&db).ok().flatten().map_or(0, |mark| mark.tick);
            missing += usize::from(held < commits);
        }
        _ => missing += 1,
    }
    change.commit()?;
    Ok((saved, missing))
}

/// In memory until the file can be used; with what can be read from it, if anything.
fn without_file(path: &Path, lock: Option<Lock>, why: &str, now: Now, boot_id: &str) -> Result<Engine, StoreError> {
    let lack = shortage::now(1).map(|lack| format!("{why}: {lack}"));
    let why = lack.as_deref().unwrap_or(why);
    let source = disk::view(path).ok();
    let source = source.as_ref().map(|(db, blind)| (db, *blind));
    let (db, away) = Away::begin(path, source, why, now).map_err(StoreError::Memory)?;
    let (told, missing) = (away.told(), away.missing);
    let mut engine = Engine::new(db, Place::Away(away), now, boot_id);
    engine.miss(missing);
    engine.say(told);
    if let Some(lock) = lock {
        engine.hold(lock);
    }
    Ok(engine)
}

/// The path without symbolic links, so that what lies beside the file is found where `SQLite` puts it.
fn real(path: &Path) -> PathBuf {
    if let Ok(real) = fs::canonicalize(path) {
        return real;
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (fs::canonicalize(parent), path.file_name()) {
        (Ok(parent), Some(name)) => parent.join(name),
        _ => path.to_path_buf(),
    }
}

/// `path` with `suffix` appended to its name.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(OsStr::new(suffix));
    PathBuf::from(name)
}
