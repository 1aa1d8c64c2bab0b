//! The connections that are not the writer's: made when they are needed, kept, and made anew when they are lost.

use std::{future::Future, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until},
};

use super::{
    connect::{Conn, Connector},
    error::Failure,
};
use crate::ports::StoreError;

/// How often a piece of work is tried when it loses races, or its connection.
const TRIES: u32 = 5;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What happens when the connection is lost in the middle of a piece of work.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// It is done again on another connection: doing it twice is as good as once.
    Again,
    /// It fails as transient: nobody knows what became of it.
    Fail,
}

/// How a piece of work is done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Within {
    /// Each statement for itself.
    Statements,
    /// All statements in one transaction, which commits when the work is done.
    Transaction,
}

/// Grows with each failure in a row.
pub(super) struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Pause {
    /// When to try again after a failure `now`.
    pub(super) fn after(&mut self, now: Instant) -> Instant {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST_PAUSE);
        now + pause
    }

    /// The same, at the latest at `limit`; `None` when that is over.
    pub(super) fn next(&mut self, limit: Instant) -> Option<Instant> {
        let now = Instant::now();
        let next = self.after(now).min(limit);
        (now < limit).then_some(next)
    }
}

/// The pool.
pub(super) struct Pool {
    connector: Arc<Connector>,
    idle: Mutex<Vec<Conn>>,
    free: Semaphore,
}

impl Pool {
    pub(super) fn new(connector: Arc<Connector>) -> Self {
        Self {
            free: Semaphore::new(connector.config.pool),
            idle: Mutex::default(),
            connector,
        }
    }

    /// Does `work` on a connection. Work that lost a race is done again, a few times.
    pub(super) async fn run<T, F, Fut>(
        &self,
        lost: Lost,
        within: Within,
        work: F,
    ) -> Result<T, StoreError>
    where
        F: Fn(Conn) -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        let _turn = self
            .free
            .acquire()
            .await
            .map_err(|_| StoreError::Closed {})?;
        let mut pause = Pause::default();
        for _ in 1..TRIES {
            match self.once(within, &work).await? {
                Ok(done) => return Ok(done),
                Err(failure)
                    if failure.lost_a_race()
                        || lost == Lost::Again && failure.lost_the_connection() =>
                {
                    let limit = Instant::now() + LONGEST_PAUSE;
                    sleep_until(pause.next(limit).unwrap_or(limit)).await;
                }
                Err(failure) => return Err(failure.into_store_error(&self.connector.place)),
            }
        }
        let done = self.once(within, &work).await?;
        done.map_err(|failure| failure.into_store_error(&self.connector.place))
    }

    async fn once<T, F, Fut>(
        &self,
        within: Within,
        work: &F,
    ) -> Result<Result<T, Failure>, StoreError>
    where
        F: Fn(Conn) -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        let conn = self.take().await?;
        let done = match within {
            Within::Statements => work(conn.clone()).await,
            Within::Transaction => transact(&conn, work).await,
        };
        // An answer that comes later must not be taken for another's.
        if done.as_ref().is_err_and(Failure::lost_the_connection) {
            return Ok(done);
        }
        self.put(conn);
        Ok(done)
    }

    async fn take(&self) -> Result<Conn, StoreError> {
        loop {
            let kept = self.idle.lock().pop();
            match kept {
                Some(conn) if conn.is_closed() => {}
                Some(conn) => return Ok(conn),
                None => return connect_patiently(&self.connector, |_| ()).await,
            }
        }
    }

    fn put(&self, conn: Conn) {
        // Work that goes on with a clone keeps it.
        if !conn.is_closed() && conn.is_idle() {
            self.idle.lock().push(conn);
        }
    }

    /// Refuses new work, waits for what goes on and ends the connections.
    pub(super) async fn close(&self) {
        let all = u32::try_from(self.connector.config.pool).unwrap_or(u32::MAX);
        drop(self.free.acquire_many(all).await);
        self.free.close();
        self.idle.lock().clear();
    }
}

async fn transact<T, F, Fut>(conn: &Conn, work: &F) -> Result<T, Failure>
where
    F: Fn(Conn) -> Fut,
    Fut: Future<Output = Result<T, Failure>>,
{
    conn.begin().await?;
    match work(conn.clone()).await {
        Ok(done) => {
            conn.commit().await?;
            Ok(done)
        }
        Err(failure) => {
            if !failure.lost_the_connection() {
                conn.rollback().await?;
            }
            Err(failure)
        }
    }
}

/// A new connection, tried for again and again while the server is away, as long as one attempt may take.
pub(super) async fn connect_patiently(
    connector: &Connector,
    told: impl Fn(tokio_postgres::Notification) + Clone + Send + 'static,
) -> Result<Conn, StoreError> {
    let limit = Instant::now() + connector.config.connect_timeout;
    connect_until(connector, limit, told).await
}

/// The same until `limit`, at least once.
pub(super) async fn connect_until(
    connector: &Connector,
    limit: Instant,
    told: impl Fn(tokio_postgres::Notification) + Clone + Send + 'static,
) -> Result<Conn, StoreError> {
    let mut pause = Pause::default();
    loop {
        match connector.connect(told.clone()).await {
            Err(error @ StoreError::Unavailable { .. }) => match pause.next(limit) {
                Some(at) => sleep_until(at).await,
                None => return Err(error),
            },
            connected => return connected,
        }
    }
}
