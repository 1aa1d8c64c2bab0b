//! Opening the file: its connections, and what may be wrong with it.

use std::{
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{
    SqliteConfig,
    error::{Failure, file_error, store_error},
    fork::OpenFile,
    gate::{Gate, beside},
    schema,
};
use crate::ports::StoreError;

/// How long to wait before asking again for the write-ahead log, which SQLite's own waiting does not cover.
const PAUSE: Duration = Duration::from_millis(5);

/// The write-ahead log is copied back into the file when it has this many pages (4 KiB each).
const CHECKPOINT_PAGES: u32 = 4000;

/// A database that was opened.
pub(super) struct Opened {
    /// The writing connection.
    pub(super) conn: Connection,
    /// The full path, links followed.
    pub(super) path: PathBuf,
    pub(super) gate: Gate,
    /// To be kept as long as there is a connection.
    pub(super) noted: OpenFile,
}

/// Opens the database and brings it up to date.
pub(super) fn open(config: &SqliteConfig) -> Result<Opened, StoreError> {
    let asked = config.path.as_os_str();
    if asked.is_empty() || asked == ":memory:" {
        return Err(StoreError::InvalidArgument {
            argument: "path".into(),
            reason: "expected a file; a store in memory has the address memory:".into(),
        });
    }
    // An absolute path is never taken for a URI or a special name.
    let path = std::path::absolute(&config.path).map_err(|e| file_error(&config.path, &e))?;
    let name = path.display().to_string();
    let failed = |error| classify(&path, store_error(&name, error));

    let noted = OpenFile::note(&path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(&path, flags).map_err(failed)?;
    conn.busy_timeout(config.busy_timeout).map_err(failed)?;
    // Nothing is written before the file is known to be ours.
    schema::version(&conn, &name).map_err(|e| classify(&path, e))?;
    if conn.is_readonly("main").map_err(failed)? {
        return Err(StoreError::ReadOnly { path: name });
    }

    // With links followed, so that every name of the file leads to the same gate.
    let real = conn.path().map_or_else(|| path.clone(), PathBuf::from);
    let gate = Gate::open(&real).map_err(|e| file_error(&real, &e))?;
    {
        let _turn = gate.turn(config.busy_timeout);
        write_ahead(&conn, config.busy_timeout)
            .map_err(|e| e.into_store_error(&name))
            .and_then(|()| schema::migrate(&conn, &name, config.clock.now()))
            .map_err(|e| classify(&path, e))?;
    }
    conn.execute_batch(&format!(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = OFF; PRAGMA temp_store = MEMORY; \
         PRAGMA cache_size = -16000; PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}; \
         PRAGMA journal_size_limit = 67108864"
    ))
    .map_err(failed)?;
    Ok(Opened {
        conn,
        path: real,
        gate,
        noted,
    })
}

/// A connection that only reads.
pub(super) fn open_reader(path: &Path, busy_timeout: Duration) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || -> Result<Connection, rusqlite::Error> {
        let conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(busy_timeout)?;
        conn.execute_batch("PRAGMA cache_size = -8000; PRAGMA temp_store = MEMORY")?;
        Ok(conn)
    };
    open().map_err(|e| store_error(&path.display().to_string(), e))
}

fn write_ahead(conn: &Connection, patience: Duration) -> Result<(), Failure> {
    let mut waited = Duration::ZERO;
    loop {
        match conn.query_row("PRAGMA journal_mode = WAL", [], |r| r.get::<_, String>(0)) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => {
                return Err(StoreError::CannotOpen {
                    path: conn.path().unwrap_or_default().to_owned(),
                    reason: format!("expected a write-ahead log, found journal mode {mode}"),
                }
                .into());
            }
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && waited < patience =>
            {
                thread::sleep(PAUSE);
                waited += PAUSE;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// SQLite says only that it cannot open a file; the folder tells why.
fn classify(path: &Path, error: StoreError) -> StoreError {
    let cannot = |reason: &str| StoreError::CannotOpen {
        path: path.display().to_string(),
        reason: reason.to_owned(),
    };
    if !matches!(error, StoreError::CannotOpen { .. }) {
        return error;
    }
    if path.is_dir() {
        return cannot("it is a folder");
    }
    let Some(folder) = path.parent() else {
        return error;
    };
    match fs::metadata(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return cannot(&format!("there is no folder {}", folder.display()));
        }
        Err(e) => return file_error(path, &e),
        Ok(found) if !found.is_dir() => {
            return cannot(&format!("{} is no folder", folder.display()));
        }
        Ok(_) => {}
    }
    // Never the database itself: closing a second descriptor of it would end SQLite's locks.
    let probe = beside(path, "-probe");
    match OpenOptions::new().write(true).create_new(true).open(&probe) {
        Ok(_) => {
            let _ = fs::remove_file(&probe);
            error
        }
        Err(e) => file_error(path, &e),
    }
}
