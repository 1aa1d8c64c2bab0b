//! `projector URL VIEW CRASH` and `rebuilder URL VIEW CRASH`: processes that keep a view in the SQLite file VIEW, and build it anew. CRASH is `no`,
//! `before` or `after` the commit: of the third batch, or of the switch.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use orkestra::{Checkpoint, Error, HandlerError, Orkestra, ReadModel, Recorded};
use rusqlite::{Connection, Transaction};

use crate::{
    report,
    work::{Happened, Report},
};

/// Keeps the view until it is killed.
pub(crate) async fn project(url: &str, view: &str, crash: &str) -> Result<(), Error> {
    let _app = start(url, view, crash, "no").await?;
    pending().await
}

/// Builds the view anew.
pub(crate) async fn rebuild(url: &str, view: &str, crash: &str) -> Result<(), Error> {
    let app = start(url, view, "no", crash).await?;
    app.rebuild("board").await?;
    app.close().await
}

async fn start(url: &str, view: &str, batch: &str, switch: &str) -> Result<Orkestra, Error> {
    let views = [view, view, view].map(Arc::<str>::from);
    let [written, prepared, switched] = views;
    let (batch, switch) = (Arc::<str>::from(batch), Arc::<str>::from(switch));
    let calls = Arc::new(AtomicU32::new(0));
    let board = ReadModel::new(
        "board",
        move |events: Vec<Recorded<Happened>>, checkpoint: Checkpoint| {
            let third = calls.fetch_add(1, Ordering::SeqCst) == 2;
            let crash = if third { &*batch } else { "no" };
            let done = write(&written, &events, &checkpoint, crash);
            async move { done }
        },
    )
    .prepare(move |checkpoint| {
        let done = prepare(&prepared, checkpoint.suffix());
        async move { done }
    })
    .switch(move |checkpoint| {
        let done = rename(&switched, &checkpoint, &switch);
        async move { done }
    })
    .batch_size(10);
    let app = Orkestra::builder("scenario").store(url).projection(board);
    let app = app.start().await?;
    report(&Report::Ready {
        pid: std::process::id(),
    });
    Ok(app)
}

fn open(view: &str) -> Result<Connection, HandlerError> {
    let connection = Connection::open(view)?;
    connection.busy_timeout(std::time::Duration::from_secs(60))?;
    Ok(connection)
}

/// Commits, unless the process ends before that, or after it.
fn commit(tx: Transaction<'_>, crash: &str) -> Result<(), HandlerError> {
    if crash == "before" {
        std::process::abort();
    }
    tx.commit()?;
    if crash == "after" {
        std::process::abort();
    }
    Ok(())
}

fn write(
    view: &str,
    events: &[Recorded<Happened>],
    checkpoint: &Checkpoint,
    crash: &str,
) -> Result<(), HandlerError> {
    let mut connection = open(view)?;
    let tx = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let insert = format!("INSERT INTO board{} VALUES (?1)", checkpoint.suffix());
    for Recorded { event, .. } in events {
        tx.execute(&insert, [i64::try_from(event.number)?])?;
    }
    checkpoint.save_sqlite(&tx)?;
    commit(tx, crash)
}

fn prepare(view: &str, suffix: &str) -> Result<(), HandlerError> {
    let drop = if suffix.is_empty() {
        ""
    } else {
        "DROP TABLE IF EXISTS board_rebuild;"
    };
    let sql = format!("{drop} CREATE TABLE IF NOT EXISTS board{suffix} (number INTEGER)");
    Ok(open(view)?.execute_batch(&sql)?)
}

fn rename(view: &str, checkpoint: &Checkpoint, crash: &str) -> Result<(), HandlerError> {
    let mut connection = open(view)?;
    let tx = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    tx.execute_batch("DROP TABLE board; ALTER TABLE board_rebuild RENAME TO board")?;
    checkpoint.switch_sqlite(&tx)?;
    commit(tx, crash)
}
