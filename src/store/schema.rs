//! What is kept, as tables; how a connection is set up; how an older file is brought up to date.
//!
//! Migrations are a numbered list: entry n brings a file from version n to n + 1 and is never
//! edited after a release. Rows that matter carry a sum over their content, because `SQLite` notices
//! damage to its own structure but not to what is written in it (F81). Tables are `STRICT`, so that
//! damage to the schema's text is an error and not another meaning.

use std::time::Duration;

use rusqlite::{Connection, Result};

/// Says in the file's header whose it is: "WDOG".
pub const APPLICATION_ID: i32 = 0x5744_4F47;

/// From an empty file to the present, in order.
pub const MIGRATIONS: &[&str] = &[
    // 0 → 1
    "CREATE TABLE meta (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        boot_id TEXT NOT NULL,
        wall INTEGER NOT NULL,
        mono INTEGER NOT NULL,
        tick INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE signals (
        key TEXT PRIMARY KEY,
        body TEXT NOT NULL,
        sum INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        tick INTEGER NOT NULL,
        channel TEXT NOT NULL,
        key TEXT NOT NULL,
        incident TEXT NOT NULL,
        kind TEXT NOT NULL,
        wall INTEGER NOT NULL,
        mono INTEGER NOT NULL,
        times INTEGER NOT NULL,
        first INTEGER NOT NULL,
        also TEXT NOT NULL,
        body TEXT NOT NULL,
        sum INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX outbox_order ON outbox (channel);
    CREATE UNIQUE INDEX outbox_place ON outbox (channel, key, incident, kind);
    CREATE TABLE receipts (
        channel TEXT NOT NULL,
        incident TEXT NOT NULL,
        reference TEXT NOT NULL,
        touched INTEGER NOT NULL,
        closed INTEGER,
        sum INTEGER NOT NULL,
        PRIMARY KEY (channel, incident)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE remembered (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        channel TEXT NOT NULL,
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        sum INTEGER NOT NULL,
        UNIQUE (channel, name)
    ) STRICT;
    CREATE TABLE history (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at INTEGER NOT NULL,
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        incident TEXT,
        severity TEXT,
        text TEXT NOT NULL
    ) STRICT;
    CREATE INDEX history_at ON history (at);
    CREATE INDEX history_subject ON history (subject);",
    // 1 → 2
    "CREATE TABLE journal (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        saga TEXT NOT NULL,
        target TEXT NOT NULL,
        number INTEGER NOT NULL,
        wall INTEGER NOT NULL,
        body TEXT NOT NULL,
        sum INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX journal_saga ON journal (saga);
    CREATE TABLE targets (
        key TEXT PRIMARY KEY,
        body TEXT NOT NULL,
        sum INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;",
];

/// The version of a file that this program writes.
pub fn version() -> i32 {
    i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX)
}

/// The version that an open database says it has.
pub fn of(db: &Connection) -> Result<i32> {
    db.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// A sum over the fields of a row. Any single changed byte changes it (FNV-1a, each step of
/// which maps different sums to different sums).
pub fn sum(fields: &[&str]) -> i64 {
    let mut sum: u64 = 0xcbf2_9ce4_8422_2325;
    for field in fields {
        // 0xff is in no UTF-8 text: it keeps ("ab", "c") and ("a", "bc") apart.
        for byte in field.bytes().chain([0xff]) {
            sum = (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    sum.cast_signed()
}

/// Settings of every connection, before anything is read: little memory, no trust in the file.
pub fn prepare(db: &Connection) -> Result<()> {
    db.busy_timeout(Duration::from_secs(1))?;
    db.set_prepared_statement_cache_capacity(32);
    db.execute_batch(
        "PRAGMA cache_size = -256; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;
         PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;",
    )
}

/// A database in memory with the present schema.
pub fn memory() -> Result<Connection> {
    let mut db = Connection::open_in_memory()?;
    prepare(&db)?;
    migrate(&mut db)?;
    Ok(db)
}

/// Brings a database of ours, or an empty one, to the present version in one transaction.
pub fn migrate(db: &mut Connection) -> Result<()> {
    let present = of(db)?;
    if present >= version() {
        return Ok(());
    }
    let change = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    change.pragma_update(None, "application_id", APPLICATION_ID)?;
    for step in MIGRATIONS.iter().skip(usize::try_from(present).unwrap_or(0)) {
        change.execute_batch(step)?;
    }
    change.pragma_update(None, "user_version", version())?;
    change.commit()
}
