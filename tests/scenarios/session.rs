//! A connection of the user's own, with transactions of the user's own.

use orkestra::clock::{Clock, SystemClock};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::process::PATIENCE;

pub(crate) struct Session {
    runtime: Runtime,
    client: Client,
}

impl Session {
    pub(crate) fn open(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let url = url.split('?').next().unwrap();
        let (client, connection) = runtime
            .block_on(tokio_postgres::connect(url, NoTls))
            .unwrap();
        runtime.spawn(async move {
            // Its end is told to the client, too.
            let _ = connection.await;
        });
        Self { runtime, client }
    }

    /// Statements that succeed.
    pub(crate) fn run(&self, statements: &str) {
        self.try_run(statements)
            .unwrap_or_else(|error| panic!("{statements}: {error:?}"));
    }

    pub(crate) fn try_run(&self, statements: &str) -> Result<(), tokio_postgres::Error> {
        let run = self.client.batch_execute(statements);
        self.runtime.block_on(run)
    }

    /// The first column of the rows.
    pub(crate) fn query(&self, statement: &str) -> Vec<String> {
        self.try_query(statement).unwrap()
    }

    pub(crate) fn try_query(&self, statement: &str) -> Result<Vec<String>, tokio_postgres::Error> {
        let rows = self.client.simple_query(statement);
        let rows = self.runtime.block_on(rows)?;
        let first = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
            _ => None,
        };
        Ok(rows.iter().filter_map(first).collect())
    }

    /// Looks until the statement has rows; fails when it has none in time.
    pub(crate) fn until_rows(&self, statement: &str) -> Vec<String> {
        let clock = SystemClock::default();
        loop {
            let rows = self.query(statement);
            if !rows.is_empty() {
                return rows;
            }
            assert!(clock.monotonic() < PATIENCE, "not in time: {statement}");
        }
    }
}
