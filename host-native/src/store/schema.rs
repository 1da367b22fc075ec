//! The tables, and opening the file that holds them.

use super::StoreError;
use crate::files::{self, FileError};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::Duration;

/// Version of the tables; a file of another one is refused.
pub(super) const VERSION: i64 = 6;
/// The oldest version whose files are taken over.
const TAKEN_OVER: i64 = 5;
/// Marks the file as ours: `CIMK`.
const APPLICATION: i64 = 0x4349_4D4B;
/// How long a write waits for another process's.
const BUSY: Duration = Duration::from_secs(30);
/// How long between two tries where SQLite does not wait by itself.
const PAUSE: Duration = Duration::from_millis(10);

const TABLES: &str = "
CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    operator TEXT NOT NULL,
    namespace TEXT NOT NULL,
    head INTEGER NOT NULL,
    progress TEXT NOT NULL,
    -- Place in the journal up to which what commands left is the state at head.
    settled INTEGER NOT NULL,
    -- Moves when a command is added, decided anew or settled: what the sync machine works from.
    revision INTEGER NOT NULL,
    -- Moves with every write: what a decision was read at.
    changes INTEGER NOT NULL,
    -- Commands up to this place in the journal may have been sent.
    sent_to INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE escrow (recipient TEXT PRIMARY KEY) WITHOUT ROWID;

-- Each entity as the stream says (position 0), and as commands of the journal left it. Up to `settled` these are the state at
-- head, of each entity the last one; behind it they lie over that, as an overlay.
CREATE TABLE entities (
    id TEXT NOT NULL,
    position INTEGER NOT NULL,
    -- Whether it is the last one of all.
    newest INTEGER NOT NULL,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    parent TEXT,
    name TEXT NOT NULL,
    holds INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (id, position)
);
CREATE INDEX entities_positions ON entities (position);
CREATE INDEX entities_names ON entities (parent, name) WHERE holds = 1;
CREATE INDEX entities_keys ON entities (key) WHERE newest = 1;
CREATE INDEX entities_kinds ON entities (kind, parent, name) WHERE newest = 1;

CREATE TABLE journal (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    command_id BLOB NOT NULL UNIQUE,
    state TEXT NOT NULL,
    command TEXT NOT NULL,
    context TEXT NOT NULL,
    facts_hash TEXT NOT NULL,
    draft_hash TEXT NOT NULL,
    -- Missing where the messages came from elsewhere: they are verified before they are sent.
    messages_hash TEXT,
    attempt INTEGER NOT NULL,
    -- Number of its events.
    count INTEGER NOT NULL,
    -- As its events say it.
    command_hash TEXT NOT NULL,
    authority TEXT NOT NULL,
    -- Unix seconds that the first attempt at a revocation named.
    revoked_at INTEGER,
    first INTEGER,
    reason TEXT,
    -- Whether it came in a bundle: only whoever minted a command decides it anew under its id.
    imported INTEGER NOT NULL,
    -- Whether an attempt at it left this store before it was held: was sent, or exported.
    sent INTEGER NOT NULL DEFAULT 0,
    -- Whether creds or a token of an attempt at it were given to somebody.
    handed_out INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX journal_pending ON journal (position) WHERE state = 'pending';
CREATE INDEX journal_held ON journal (position) WHERE state = 'held';
CREATE INDEX journal_first ON journal (first) WHERE first IS NOT NULL;

-- Messages of the journal's commands. The id is the command's position * 1024 + the event's place.
CREATE TABLE envelopes (
    id INTEGER PRIMARY KEY,
    subject TEXT NOT NULL,
    headers TEXT NOT NULL,
    payload BLOB NOT NULL
);

-- Commands of others that were admitted. Of ours the journal tells.
CREATE TABLE recorded (command_id BLOB PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE messages (sequence INTEGER PRIMARY KEY, subject TEXT NOT NULL, headers TEXT NOT NULL, payload BLOB NOT NULL);
CREATE TABLE anomalies (first INTEGER PRIMARY KEY, body TEXT NOT NULL);

CREATE TABLE keys (
    key TEXT PRIMARY KEY,
    sealed BLOB NOT NULL,
    -- The command that made it; missing where it was brought here, or made for itself.
    made_by BLOB
) WITHOUT ROWID;
CREATE TABLE hand_outs (command_id BLOB PRIMARY KEY, account TEXT NOT NULL, key TEXT NOT NULL, sealed BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX hand_outs_keys ON hand_outs (key);

CREATE TABLE pushed (account TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;

-- How the last run of sync stood: written when that changes.
CREATE TABLE report (one INTEGER PRIMARY KEY CHECK (one = 1), body TEXT NOT NULL);
";

/// What version 6 has beside that of 5.
const SINCE_6: &str = "
CREATE INDEX entities_called ON entities (name) WHERE newest = 1;

-- When the server stored a message, in nanoseconds since 1970, where that was told: of what this host appended itself an
-- acknowledgement does not.
CREATE TABLE times (sequence INTEGER PRIMARY KEY, nanos INTEGER NOT NULL);

-- Read models: their rows are those of the generation that is live. One that is being made anew has its own beside them.
CREATE TABLE projections (
    generation INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    -- The last sequence that was folded.
    sequence INTEGER NOT NULL,
    -- live, building or dropped.
    state TEXT NOT NULL
);
CREATE UNIQUE INDEX projections_live ON projections (name) WHERE state = 'live';
CREATE TABLE projection_rows (
    id INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL
);
CREATE UNIQUE INDEX projection_keys ON projection_rows (generation, key);
";

/// Makes the file with its tables, or opens one that has them.
pub(super) fn create(path: &Path) -> Result<Connection, StoreError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        files::make_folder(folder)?;
    }
    // First as an empty private file: SQLite gives its companions the same mode.
    match files::private().create_new(true).open(path) {
        Ok(file) => file.sync_all().map_err(|error| FileError::io("write", path, &error))?,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            if path.metadata().is_ok_and(|meta| !meta.is_file()) {
                return Err(StoreError::NoFile { path: path.to_owned() });
            }
        }
        Err(error) => return Err(FileError::io("write", path, &error).into()),
    }
    let connection = connect(path)?;
    make_tables(&connection).map_err(|error| StoreError::sqlite(path, &error))?;
    check(&connection, path)?;
    Ok(connection)
}

/// Tables in a file without a name, which goes away with the connection: room for a fold beside the store.
pub(super) fn scratch() -> Result<Connection, StoreError> {
    let made = || {
        let connection = Connection::open("")?;
        // Beyond its cache it stands on the disk, however large a registry is.
        connection.pragma_update(None, "temp_store", "FILE")?;
        connection.pragma_update(None, "journal_mode", "MEMORY")?;
        connection.pragma_update(None, "cache_size", -16_000)?;
        connection.set_prepared_statement_cache_capacity(64);
        make_tables(&connection)?;
        Ok(connection)
    };
    made().map_err(|error| StoreError::sqlite(Path::new("(scratch)"), &error))
}

/// Opens a file that has the tables. One whose making has only begun, here or in a process that was ended, is none yet.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    // One look: whoever makes it may do so in between.
    match path.metadata() {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => return Err(StoreError::NoFile { path: path.to_owned() }),
        Err(_) => return Err(StoreError::Missing { path: path.to_owned() }),
    }
    let connection = connect(path)?;
    check(&connection, path)?;
    Ok(connection)
}

pub(crate) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).and_then(|connection| {
        connection.busy_timeout(BUSY)?;
        write_ahead(&connection)?;
        // After the commit it is on the disk, whatever happens to the machine.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        // An erased hand-out leaves nothing behind, sealed though it was.
        connection.pragma_update(None, "secure_delete", "ON")?;
        connection.pragma_update(None, "cache_size", -16_000)?;
        connection.set_prepared_statement_cache_capacity(64);
        // A plan that may depend on bound values is made anew each time a cached statement is used again.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        Ok(connection)
    });
    opened.map_err(|error| StoreError::sqlite(path, &error))
}

/// Whoever switches a new file to a write-ahead log needs it alone for a moment, and SQLite does not wait for that.
fn write_ahead(connection: &Connection) -> rusqlite::Result<()> {
    let switch = || connection.pragma_update(None, "journal_mode", "WAL");
    for _ in 0..BUSY.as_millis() / PAUSE.as_millis() {
        match switch() {
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
                std::thread::sleep(PAUSE);
            }
            done => return done,
        }
    }
    switch()
}

fn make_tables(connection: &Connection) -> rusqlite::Result<()> {
    let tables =
        || connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get::<_, i64>(0));
    if tables()? > 0 {
        return Ok(());
    }
    let transaction =
        rusqlite::Transaction::new_unchecked(connection, rusqlite::TransactionBehavior::Immediate)?;
    // Another process may have been first.
    if tables()? == 0 {
        transaction.execute_batch(TABLES)?;
        transaction.execute_batch(SINCE_6)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()
}

/// What a file says of itself, at one moment.
struct Marks {
    application: i64,
    version: i64,
    tables: i64,
}

fn marks(connection: &Connection) -> rusqlite::Result<Marks> {
    // Another process may be making the tables: all of it is seen or nothing.
    let transaction = connection.unchecked_transaction()?;
    let number = |name: &str| transaction.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let tables = transaction.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
    Ok(Marks { application: number("application_id")?, version: number("user_version")?, tables })
}

/// Brings a file of an older version to this one: all of what it has stays as it is.
fn take_over(connection: &Connection) -> rusqlite::Result<()> {
    let transaction =
        rusqlite::Transaction::new_unchecked(connection, rusqlite::TransactionBehavior::Immediate)?;
    let version = || transaction.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0));
    // Another process may have been first.
    if version()? == TAKEN_OVER {
        transaction.execute_batch(SINCE_6)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()
}

fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |error| StoreError::sqlite(path, &error);
    let mut found = marks(connection).map_err(failed)?;
    if (found.application, found.version) == (APPLICATION, TAKEN_OVER) {
        take_over(connection).map_err(failed)?;
        found = marks(connection).map_err(failed)?;
    }
    let Marks { application, version: found, tables } = found;
    if (application, found, tables) == (0, 0, 0) {
        return Err(StoreError::Empty { path: path.to_owned() });
    }
    if application != APPLICATION {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    if found < VERSION {
        return Err(StoreError::Older { path: path.to_owned(), found, supported: VERSION });
    }
    if found > VERSION {
        return Err(StoreError::Newer { path: path.to_owned(), found, supported: VERSION });
    }
    Ok(())
}
