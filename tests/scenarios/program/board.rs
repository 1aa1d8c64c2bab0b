//! The view that processes keep: a row for each event, with the suffix of the table that it was written to, so that a rebuilt view is told from the one
//! before it.

use orkestra::{Checkpoint, HandlerError, Recorded};
use rusqlite::{Connection, TransactionBehavior};
use tokio_postgres::{Client, NoTls};

use crate::{halt::Halt, work::Happened};

/// Where the view is.
#[derive(Debug, Clone)]
pub(crate) enum Board {
    /// The file.
    Sqlite(String),
    /// The URL.
    Postgres(String),
}

impl Board {
    pub(crate) fn at(view: &str) -> Self {
        match view.strip_prefix("sqlite:") {
            Some(file) => Self::Sqlite(file.into()),
            None => Self::Postgres(view.into()),
        }
    }

    /// Makes the table, and an empty one for a rebuild.
    pub(crate) async fn prepare(self, suffix: &'static str) -> Result<(), HandlerError> {
        let drop = if suffix.is_empty() {
            ""
        } else {
            "DROP TABLE IF EXISTS board_rebuild;"
        };
        let sql = format!(
            "{drop} CREATE TABLE IF NOT EXISTS board{suffix} (number bigint NOT NULL, made text NOT NULL)"
        );
        match self {
            Self::Sqlite(file) => Ok(open(&file)?.execute_batch(&sql)?),
            Self::Postgres(url) => Ok(connect(&url).await?.batch_execute(&sql).await?),
        }
    }

    /// Writes the events and saves the checkpoint in one transaction. Places: `written`, `saved`, `committed`.
    pub(crate) async fn write(
        self,
        events: Vec<Recorded<Happened>>,
        checkpoint: Checkpoint,
        halt: Halt,
    ) -> Result<(), HandlerError> {
        let suffix = checkpoint.suffix();
        let numbers = events.iter().map(|e| i64::try_from(e.event.number));
        let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
        match self {
            Self::Sqlite(file) => {
                aside(move || {
                    let mut connection = open(&file)?;
                    let tx =
                        connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                    let insert = format!("INSERT INTO board{suffix} VALUES (?1, ?2)");
                    for number in numbers {
                        tx.execute(&insert, (number, suffix))?;
                    }
                    halt.here("written");
                    checkpoint.save_sqlite(&tx)?;
                    halt.here("saved");
                    tx.commit()?;
                    halt.here("committed");
                    Ok(())
                })
                .await
            }
            Self::Postgres(url) => {
                let mut client = connect(&url).await?;
                let tx = client.transaction().await?;
                let insert = format!("INSERT INTO board{suffix} SELECT unnest($1::bigint[]), $2");
                tx.execute(&insert, &[&numbers, &suffix]).await?;
                halt.waits_here("written").await;
                checkpoint.save_postgres(&tx).await?;
                halt.waits_here("saved").await;
                tx.commit().await?;
                halt.waits_here("committed").await;
                Ok(())
            }
        }
    }

    /// Puts the rebuilt table in the place of the other. Places: `switched`, `committed`.
    pub(crate) async fn switch(
        self,
        checkpoint: Checkpoint,
        halt: Halt,
    ) -> Result<(), HandlerError> {
        const RENAME: &str = "DROP TABLE board; ALTER TABLE board_rebuild RENAME TO board";
        match self {
            Self::Sqlite(file) => {
                aside(move || {
                    let mut connection = open(&file)?;
                    let tx =
                        connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                    tx.execute_batch(RENAME)?;
                    checkpoint.switch_sqlite(&tx)?;
                    halt.here("switched");
                    tx.commit()?;
                    halt.here("committed");
                    Ok(())
                })
                .await
            }
            Self::Postgres(url) => {
                let mut client = connect(&url).await?;
                let tx = client.transaction().await?;
                tx.batch_execute(RENAME).await?;
                checkpoint.switch_postgres(&tx).await?;
                halt.waits_here("switched").await;
                tx.commit().await?;
                halt.waits_here("committed").await;
                Ok(())
            }
        }
    }
}

fn open(file: &str) -> Result<Connection, HandlerError> {
    let connection = Connection::open(file)?;
    connection.busy_timeout(std::time::Duration::from_secs(2))?;
    Ok(connection)
}

async fn connect(url: &str) -> Result<Client, HandlerError> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Where a thread may block.
async fn aside(
    work: impl FnOnce() -> Result<(), HandlerError> + Send + 'static,
) -> Result<(), HandlerError> {
    tokio::task::spawn_blocking(work).await.unwrap()
}
