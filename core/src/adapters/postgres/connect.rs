//! One connection: how it is made, and statements on it.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    sync::Arc,
    time::Duration,
};

use futures_util::join;
use parking_lot::Mutex;
use tokio::time::timeout;
use tokio_postgres::{
    AsyncMessage, Client, Notification, Row, RowStream, Statement,
    types::{ToSql, Type},
};

use super::{
    config::{Pooler, PostgresConfig, SslMode},
    error::{Failure, store_error},
    sql::Sql,
    tls::MakeTls,
};
use crate::ports::StoreError;

/// A value and its type in SQL.
pub(super) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// What a server may be late by with the answer to a statement that it ends by itself.
const GRACE: Duration = Duration::from_secs(5);

/// Makes connections.
pub(super) struct Connector {
    pub(super) config: PostgresConfig,
    pub(super) sql: Arc<Sql>,
    /// The store as messages name it.
    pub(super) place: Arc<str>,
    driver: tokio_postgres::Config,
    tls: MakeTls,
}

impl Connector {
    pub(super) fn new(config: PostgresConfig) -> Result<Self, StoreError> {
        let place: Arc<str> = config.place().into();
        let tls = MakeTls::new(&config).map_err(|reason| StoreError::CannotOpen {
            path: place.to_string(),
            reason,
        })?;
        let mut driver = tokio_postgres::Config::new();
        driver
            .host(&config.host)
            .port(config.port)
            .user(&config.user)
            .dbname(&config.database)
            .application_name(&config.application_name)
            .connect_timeout(config.connect_timeout)
            .keepalives_idle(Duration::from_secs(30))
            .keepalives_interval(Duration::from_secs(10))
            .keepalives_retries(3)
            .ssl_mode(match config.sslmode {
                SslMode::Disable => tokio_postgres::config::SslMode::Disable,
                SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
                _ => tokio_postgres::config::SslMode::Require,
            });
        if let Some(password) = &config.password {
            driver.password(password);
        }
        Ok(Self {
            sql: Arc::new(Sql::new(&config.schema)),
            config,
            place,
            driver,
            tls,
        })
    }

    /// A new connection, its session set up; `told` hears its notifications.
    pub(super) async fn connect(
        &self,
        told: impl Fn(Notification) + Send + 'static,
    ) -> Result<Conn, StoreError> {
        let limit = self.config.connect_timeout;
        match timeout(limit, self.connect_once(told)).await {
            Ok(connected) => connected.map_err(|failure| failure.into_store_error(&self.place)),
            Err(_) => Err(StoreError::Unavailable {
                reason: format!(
                    "{}: no connection within {} s",
                    self.place,
                    limit.as_secs_f64()
                ),
            }),
        }
    }

    async fn connect_once(
        &self,
        told: impl Fn(Notification) + Send + 'static,
    ) -> Result<Conn, Failure> {
        let connecting = self.driver.connect(self.tls.clone());
        let (client, mut connection) = connecting
            .await
            .map_err(|error| Failure::Refused(store_error(&self.place, &error)))?;
        tokio::spawn(async move {
            loop {
                match poll_fn(|cx| connection.poll_message(cx)).await {
                    Some(Ok(AsyncMessage::Notification(notification))) => told(notification),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        tracing::debug!(%error, "a connection to PostgreSQL ended");
                        return;
                    }
                    None => return,
                }
            }
        });
        let config = &self.config;
        let conn = Conn(Arc::new(Inner {
            client,
            sql: Arc::clone(&self.sql),
            prepared: (config.pooler == Pooler::Session).then(Mutex::default),
            patience: match config.statement_timeout {
                Duration::ZERO => None,
                limit => Some(limit + config.lock_timeout + GRACE),
            },
            settings: settings(config),
        }));
        if config.pooler == Pooler::Session {
            let set: Vec<_> = conn.0.settings.iter().map(|s| format!("SET {s}")).collect();
            conn.batch(&set.join("; ")).await?;
        }
        Ok(conn)
    }
}

/// What a session, or a transaction behind a pooler, is set to.
fn settings(config: &PostgresConfig) -> Vec<String> {
    let millis = |limit: Duration| limit.as_millis();
    vec![
        // Two writers read what the other has committed, whatever the database's default is.
        "default_transaction_isolation = 'read committed'".into(),
        format!("statement_timeout = {}", millis(config.statement_timeout)),
        format!("lock_timeout = {}", millis(config.lock_timeout)),
        "idle_in_transaction_session_timeout = 60000".into(),
        // Plans are kept from when the tables were small: ours always have an index that fits.
        "enable_seqscan = off".into(),
        // An array is thought to have ten elements, so a statement for one is planned anew each time: that doubles what it costs.
        "plan_cache_mode = force_generic_plan".into(),
        "jit = off".into(),
    ]
}

/// A connection that is shared by the pieces of one piece of work. Statements on it run one after the other.
#[derive(Clone)]
pub(super) struct Conn(Arc<Inner>);

struct Inner {
    client: Client,
    sql: Arc<Sql>,
    /// Prepared statements by their text; `None` where they would not be found again, behind a pooler.
    prepared: Option<Mutex<HashMap<(usize, usize), Statement>>>,
    /// How long an answer is waited for.
    patience: Option<Duration>,
    settings: Vec<String>,
}

impl Conn {
    /// Whether the connection has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.0.client.is_closed()
    }

    /// Whether nobody else works with it.
    pub(super) fn is_idle(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// What a statement gives; its text has `{schema}` where the schema's name belongs.
    pub(super) async fn query(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, Failure> {
        self.patiently(async {
            let Some(statement) = self.statement(sql, params).await? else {
                let text = self.0.sql.render(sql);
                return Ok(self.0.client.query_typed(&text, params).await?);
            };
            Ok(self.0.client.query(&statement, &values(params)).await?)
        })
        .await
    }

    /// The one row that a statement gives.
    pub(super) async fn query_one(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Row, Failure> {
        let found = self.query_opt(sql, params).await?;
        found.ok_or_else(|| {
            Failure::Refused(StoreError::Corrupt {
                what: "the answer of the database".into(),
                reason: "expected a row, found none".into(),
            })
        })
    }

    /// The first row that a statement gives, if there is one.
    pub(super) async fn query_opt(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Option<Row>, Failure> {
        Ok(self.query(sql, params).await?.into_iter().next())
    }

    /// The one row that a statement gives which writes, in a transaction of its own.
    pub(super) async fn write(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Row, Failure> {
        if self.0.prepared.is_some() {
            return self.query_one(sql, params).await;
        }
        // All three are sent before the first is answered. After a failure the commit undoes.
        let (begun, row, committed) =
            join!(self.begin(), self.query_one(sql, params), self.commit());
        let row = row.map_err(|failure| begun.err().unwrap_or(failure))?;
        committed?;
        Ok(row)
    }

    /// How many rows a statement changed.
    pub(super) async fn execute(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<u64, Failure> {
        self.patiently(async {
            let Some(statement) = self.statement(sql, params).await? else {
                let text = self.0.sql.render(sql);
                return Ok(self.0.client.execute_typed(&text, params).await?);
            };
            Ok(self.0.client.execute(&statement, &values(params)).await?)
        })
        .await
    }

    /// The rows of a statement as they come.
    pub(super) async fn stream(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<RowStream, Failure> {
        self.patiently(async {
            let Some(statement) = self.statement(sql, params).await? else {
                let text = self.0.sql.render(sql);
                let params = params.iter().map(|(value, kind)| (*value, kind.clone()));
                return Ok(self.0.client.query_typed_raw(&text, params).await?);
            };
            let values = params.iter().map(|(value, _)| *value);
            Ok(self.0.client.query_raw(&statement, values).await?)
        })
        .await
    }

    /// Statements without parameters, as they are.
    pub(super) async fn batch(&self, sql: &str) -> Result<(), Failure> {
        self.patiently(async { Ok(self.0.client.batch_execute(sql).await?) })
            .await
    }

    /// The same, however long it takes.
    pub(super) async fn batch_at_leisure(&self, sql: &str) -> Result<(), Failure> {
        Ok(self.0.client.batch_execute(sql).await?)
    }

    /// Begins a transaction that sees what others commit meanwhile.
    pub(super) async fn begin(&self) -> Result<(), Failure> {
        let mut begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE".to_owned();
        if self.0.prepared.is_none() {
            for setting in &self.0.settings[1..] {
                begin = format!("{begin}; SET LOCAL {setting}");
            }
        }
        self.batch(&begin).await
    }

    /// Ends a transaction.
    pub(super) async fn commit(&self) -> Result<(), Failure> {
        self.batch("COMMIT").await
    }

    /// Undoes a transaction. If that fails, the connection is of no more use.
    pub(super) async fn rollback(&self) -> Result<(), Failure> {
        self.batch("ROLLBACK").await
    }

    /// Waits for `work` no longer than the server may take for it.
    pub(super) async fn patiently<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        match self.0.patience {
            None => work.await,
            Some(limit) => timeout(limit, work).await.unwrap_or(Err(Failure::Silent)),
        }
    }

    /// The prepared statement, `None` where nothing may be prepared.
    async fn statement(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Option<Statement>, Failure> {
        let Some(prepared) = &self.0.prepared else {
            return Ok(None);
        };
        let key = (sql.as_ptr().addr(), sql.len());
        if let Some(statement) = prepared.lock().get(&key) {
            return Ok(Some(statement.clone()));
        }
        let types: Vec<_> = params.iter().map(|(_, kind)| kind.clone()).collect();
        let text = self.0.sql.render(sql);
        let statement = self.0.client.prepare_typed(&text, &types).await?;
        prepared.lock().insert(key, statement.clone());
        Ok(Some(statement))
    }
}

fn values<'a>(params: &[Param<'a>]) -> Vec<&'a (dyn ToSql + Sync)> {
    params.iter().map(|(value, _)| *value).collect()
}
