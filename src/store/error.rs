//! What a caller of the store can be told went wrong.
//!
//! Few things can: a bad file and a failing disk are conditions of a store that works, not errors.

use std::path::PathBuf;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another live process has the state file open for writing.
    #[error(
        "state file {}: another watchdog ({holder}) is using it; stop that one, or give this one another file in `state`",
        path.display()
    )]
    Locked {
        /// The state file.
        path: PathBuf,
        /// Who, as far as is known: `process 812`.
        holder: String,
    },
    /// There is nothing to view.
    #[error("state file {}: there is none; has the daemon run with this `state` yet?", path.display())]
    Absent {
        /// The state file.
        path: PathBuf,
    },
    /// A file to view that is damaged, of another version, or not ours to read.
    #[error("state file {}: cannot be viewed: {why}", path.display())]
    Unreadable {
        /// The state file.
        path: PathBuf,
        /// Why, and what to do about it.
        why: String,
    },
    /// A change was asked of a read-only view.
    #[error("this view of the state file is read-only; only the daemon writes")]
    ReadOnly,
    /// Even the database in memory refused.
    #[error("the store in memory failed; it may be out of memory: {0}")]
    Memory(#[source] rusqlite::Error),
    /// Reading a view failed half-way.
    #[error("the state file could not be read: {0}; the daemon may be replacing it, try again")]
    View(#[source] rusqlite::Error),
}
