//! The one writer: a task that turns what is queued into transactions. Concurrent appends share one (group commit).

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::future::{Either, select};
use tokio::time::{Instant, sleep_until};
use tokio_postgres::{error::SqlState, types::Type};

use super::{
    batch::{Batch, Besides, Manner, number},
    config::Pooler,
    connect::Conn,
    error::Failure,
    numbers::{Numbers, Seen},
    one,
    pool::connect_patiently,
    queue::{Deletion, OneAppend, Work},
    store::Core,
    value::{Json, unsigned},
};
use crate::{
    adapters::shared::reply::Wakers,
    ports::{Append, Appended, DeleteMode, NewEvent, Position, StoreError},
};

pub(super) const LISTEN: &str = "LISTEN {schema}";
const DELETE: &str = "SELECT {schema}.delete_stream($1, $2, $3)";
const NOTIFY: &str = "SELECT pg_notify('{schema}', $1)";
const LOOK: &str = "SELECT (SELECT max(position) FROM {schema}.events), {schema}.any_staged(tables.generation), \
     tables.generation, seen.horizon, seen.unfinished \
     FROM (SELECT {schema}.generation()) tables LEFT JOIN {schema}.staging_seen seen ON seen.id = 1 AND seen.generation = tables.generation";
const IS_FINE: &str = "SELECT $1::jsonb IS NOT NULL AND $2::json IS NOT NULL";

/// Others are told at once after a quiet moment of this length, and otherwise once at its end.
const QUIET: Duration = Duration::from_millis(2);

/// How often a transaction is tried that loses races.
const TRIES: u32 = 5;

/// What the writer's task works with.
pub(super) struct Writer {
    core: Arc<Core>,
    conn: Option<Conn>,
    numbers: Numbers,
    /// When others were told last.
    told: Option<Instant>,
    /// The position that they have not been told of.
    owed: Option<Position>,
    /// Whether users' transactions have left something that waits to be recorded.
    staged: bool,
    /// Whether to look for it also where all was recorded before.
    look_at_all: bool,
    /// The last position that was seen, and when to look again.
    head: Option<i64>,
    look: Instant,
}

impl Writer {
    pub(super) fn new(core: Arc<Core>, conn: Conn) -> Self {
        Self {
            look: Instant::now() + core.connector.config.poll_interval,
            core,
            conn: Some(conn),
            numbers: Numbers::default(),
            told: None,
            owed: None,
            // Somebody may have left something before we came.
            staged: true,
            look_at_all: true,
            head: None,
        }
    }

    /// Works until the queue is closed and empty.
    pub(super) async fn run(mut self) {
        let core = Arc::clone(&self.core);
        while !core.queue.is_over() {
            if let Some(work) = core.queue.take() {
                self.serve(work).await;
                // Whoever always has something to write looks around all the same.
                if self.conn.is_some() && Instant::now() >= self.look {
                    self.tick().await;
                }
                continue;
            }
            if self.staged {
                self.record_staged().await;
                continue;
            }
            let wake = match self.told {
                Some(told) if self.owed.is_some() => self.look.min(told + QUIET),
                _ => self.look,
            };
            let (filled, staged) = (pin!(core.queue.filled()), pin!(core.hub.staged.notified()));
            match select(select(filled, staged), pin!(sleep_until(wake))).await {
                Either::Left((Either::Left(_), _)) => {}
                Either::Left((Either::Right(_), _)) => self.staged = true,
                Either::Right(_) => self.tick().await,
            }
        }
        self.tell().await;
        core.queue.end();
    }

    async fn serve(&mut self, work: Work) {
        match work {
            Work::Appends(appends) => self.appends(appends).await,
            Work::Many(appends, answer) => answer.give(self.many(&appends).await),
            Work::Delete(deletion, answer) => answer.give(self.delete(&deletion).await),
        }
    }

    async fn appends(&mut self, appends: Vec<OneAppend>) {
        let all: Vec<&Append> = appends.iter().map(|one| &one.append).collect();
        let results = match self.write(&all, Manner::default()).await {
            Ok(results) => results,
            Err(failure) if failure.is_about_data() => {
                // One holds what the database refuses: each for itself, so that it hurts no other.
                let mut results = Vec::with_capacity(all.len());
                for one in &all {
                    results.push(self.alone(one).await);
                }
                results
            }
            Err(failure) => {
                let error = self.error(failure);
                all.iter().map(|_| Err(error.clone())).collect()
            }
        };
        let waiting = Arc::new(Wakers::default());
        for (one, result) in appends.into_iter().zip(results) {
            one.answer.give_with(result, &waiting, Box::new(one.append));
        }
        waiting.wake();
    }

    async fn alone(&mut self, append: &Append) -> Result<Appended, StoreError> {
        match self.write(&[append], Manner::default()).await {
            Ok(mut results) => results.pop().unwrap_or(Err(StoreError::Closed {})),
            Err(failure) if failure.is_about_data() => {
                Err(self.unsupported(&append.events, failure).await)
            }
            Err(failure) => Err(self.error(failure)),
        }
    }

    async fn many(&mut self, appends: &[Append]) -> Result<Vec<Appended>, StoreError> {
        let all: Vec<&Append> = appends.iter().collect();
        let manner = Manner {
            atomic: true,
            careful: false,
        };
        match self.write(&all, manner).await {
            Ok(results) => results.into_iter().collect(),
            Err(failure) if failure.is_about_data() => {
                let events: Vec<_> = appends.iter().flat_map(|a| &a.events).cloned().collect();
                Err(self.unsupported(&events, failure).await)
            }
            Err(failure) => Err(self.error(failure)),
        }
    }

    /// Writes `appends` in one transaction. After this nothing is known only if the connection was lost twice.
    async fn write(
        &mut self,
        appends: &[&Append],
        manner: Manner,
    ) -> Result<Vec<Result<Appended, StoreError>>, Failure> {
        let mut manner = manner;
        let (mut races, mut losses, mut learned) = (1, 0, false);
        loop {
            let failure = match self.write_once(appends, manner).await {
                Ok(results) => return Ok(results),
                Err(failure) => failure,
            };
            if failure.code() == Some(&SqlState::UNIQUE_VIOLATION) && !manner.careful {
                manner.careful = true;
            } else if failure.code() == Some(&SqlState::UNIQUE_VIOLATION) && !learned {
                // A sequence that is behind what it counts is mended where all is learned anew.
                learned = true;
                self.numbers = Numbers::default();
            } else if failure.lost_a_race() && races < TRIES {
                races += 1;
            } else if failure.lost_the_connection() {
                self.conn = None;
                losses += 1;
                if losses > 1 {
                    return Err(failure);
                }
                // What was stored before the loss is found again by its ids.
                manner.careful = true;
            } else {
                return Err(failure);
            }
        }
    }

    async fn write_once(
        &mut self,
        appends: &[&Append],
        manner: Manner,
    ) -> Result<Vec<Result<Appended, StoreError>>, Failure> {
        let conn = self.conn().await?;
        self.numbers.learn(&conn, appends).await?;
        let now = Instant::now();
        let tell = self.told.is_none_or(|told| now >= told + QUIET);
        let note = tell.then(|| self.core.hub.note("events"));
        let when = tell.then_some(now);
        if let [append] = appends
            && let [event] = &*append.events
            && !manner.careful
        {
            let done = one::write(&conn, append, event, &self.numbers, note.as_deref()).await?;
            if let Some((appended, stream)) = done {
                self.stored(appended.position, when);
                if self.numbers.stream(&append.stream).is_none() {
                    self.numbers
                        .learn_streams([(append.stream.shared(), stream)]);
                }
                return Ok(vec![Ok(appended)]);
            }
        }
        let batch = Batch::new(appends.iter().copied(), &self.numbers);
        let row = batch.write(&conn, manner, note.as_deref()).await?;
        let besides = Besides::read(&row)?;
        self.note(&besides, when);
        let written = batch.read(&row, &besides, appends.iter().copied())?;
        self.numbers.learn_streams(written.streams);
        Ok(written.results)
    }

    /// Takes to heart what a call did besides its appends; others were told `when` it was done.
    fn note(&mut self, besides: &Besides, when: Option<Instant>) {
        if besides
            .generation
            .is_some_and(|g| g != self.numbers.generation())
        {
            tracing::debug!("the tables are others than before: numbers are learned anew");
            self.numbers = Numbers::default();
        }
        if besides.refusals > 0 {
            tracing::warn!(
                calls = besides.refusals,
                "what users' transactions appended was refused; the table staging says why"
            );
        }
        self.staged |= besides.staged;
        if besides.last.is_some() {
            self.stored(besides.last, when);
        }
    }

    /// Events up to `last` are committed; others were told `when` that was, or are to be told yet.
    fn stored(&mut self, last: Option<Position>, when: Option<Instant>) {
        match when {
            Some(_) => (self.told, self.owed) = (when, None),
            None => self.owed = last,
        }
        self.core.hub.stored(last);
    }

    async fn delete(&mut self, deletion: &Deletion) -> Result<bool, StoreError> {
        let mode = match deletion.mode {
            DeleteMode::Soft => "soft",
            DeleteMode::Hard => "hard",
        };
        let params = [
            (&&*deletion.stream as _, Type::TEXT),
            (&number(deletion.expected) as _, Type::INT8),
            (&mode as _, Type::TEXT),
        ];
        let mut races = 1;
        let row = loop {
            let conn = self.conn().await.map_err(|failure| self.error(failure))?;
            match conn.write(DELETE, &params).await {
                Err(failure) if failure.lost_a_race() && races < TRIES => races += 1,
                Err(failure) => {
                    if failure.lost_the_connection() {
                        self.conn = None;
                    }
                    return Err(self.error(failure));
                }
                Ok(row) => break row,
            }
        };
        let said: Result<Json<'_>, _> = row.try_get(0);
        let said = said.map_err(|error| self.error(error.into()))?;
        let said: serde_json::Value = serde_json::from_slice(said.0).unwrap_or_default();
        match said.get("deleted").and_then(serde_json::Value::as_bool) {
            Some(deleted) => Ok(deleted),
            None => Err(StoreError::RevisionConflict {
                stream: deletion.stream.to_string(),
                expected: deletion.expected,
                actual: said.get("conflict").and_then(serde_json::Value::as_u64),
            }),
        }
    }

    /// Which of `events` the database cannot hold, as far as it tells.
    async fn unsupported(&mut self, events: &[NewEvent], failure: Failure) -> StoreError {
        let Failure::Database(error) = &failure else {
            return self.error(failure);
        };
        let said = error.as_db_error().map(|said| said.message().to_owned());
        let Ok(conn) = self.conn().await else {
            return self.error(failure);
        };
        for event in events {
            let (data, metadata) = (Json(&event.data), Json(&event.metadata));
            let params = [(&data as _, Type::JSONB), (&metadata as _, Type::JSON)];
            match conn.query(IS_FINE, &params).await {
                Err(Failure::Database(error)) if error.as_db_error().is_some() => {
                    return StoreError::UnsupportedPayload {
                        event_id: event.id.to_string(),
                        path: String::new(),
                        reason: error
                            .as_db_error()
                            .map_or_else(String::new, |said| said.message().to_owned()),
                    };
                }
                Err(_) => return self.error(failure),
                Ok(_) => {}
            }
        }
        tracing::warn!(
            ?said,
            "the database refuses an append, but none of its payloads"
        );
        self.error(failure)
    }

    /// Has waiting appends of users' transactions recorded.
    async fn record_staged(&mut self) {
        self.staged = false;
        let manner = Manner {
            careful: self.look_at_all,
            atomic: false,
        };
        let done = self.write_once(&[], manner).await;
        if done.is_ok() && !self.staged {
            self.look_at_all = false;
        }
        if let Err(failure) = done {
            if failure.lost_the_connection() {
                self.conn = None;
            }
            let error = self.error(failure);
            tracing::warn!(%error, "what users' transactions appended was not recorded yet");
        }
    }

    /// Does what its time has come for: telling others, and looking whether there are news that nobody told.
    async fn tick(&mut self) {
        let now = Instant::now();
        self.tell().await;
        if now < self.look {
            return;
        }
        self.look = now + self.core.connector.config.poll_interval;
        if let Err(failure) = self.look_around().await {
            if failure.lost_the_connection() {
                self.conn = None;
            }
            let error = self.error(failure);
            tracing::debug!(%error, "no look at the log");
        }
    }

    async fn look_around(&mut self) -> Result<(), Failure> {
        if self.conn.as_ref().is_none_or(Conn::is_closed) {
            // One attempt: whoever has something to write is more patient.
            let hub = Arc::clone(&self.core.hub);
            let conn = self.core.connector.connect(move |n| hub.hear(&n)).await?;
            self.begin(conn).await?;
        }
        let Some(conn) = self.conn.clone() else {
            return Ok(());
        };
        let row = conn.query_one(LOOK, &[]).await?;
        let head: Option<i64> = row.try_get(0)?;
        self.staged |= row.try_get::<_, bool>(1)? || self.look_at_all;
        let seen = Seen {
            horizon: row.try_get::<_, Option<_>>(3)?.unwrap_or_default(),
            unfinished: row.try_get::<_, Option<_>>(4)?.unwrap_or_default(),
        };
        self.numbers.learn_seen(row.try_get(2)?, seen);
        if head != self.head {
            self.head = head;
            self.core
                .hub
                .stored(head.map(|head| Position(unsigned(head))));
        }
        self.core.hub.checkpoints.ring();
        self.core.hub.messages.ring();
        Ok(())
    }

    /// Tells others what they have not been told.
    async fn tell(&mut self) {
        let Some(last) = self.owed.take() else {
            return;
        };
        let note = format!("{} {last}", self.core.hub.note("events"));
        self.told = Some(Instant::now());
        let Some(conn) = self.conn.clone() else {
            return;
        };
        // Those who are not told look by themselves.
        if let Err(failure) = conn.query(NOTIFY, &[(&note, Type::TEXT)]).await {
            tracing::debug!(?failure, "nobody was told");
        }
    }

    /// The connection; a new one if it was lost.
    async fn conn(&mut self) -> Result<Conn, Failure> {
        if let Some(conn) = &self.conn
            && !conn.is_closed()
        {
            return Ok(conn.clone());
        }
        self.conn = None;
        let hub = Arc::clone(&self.core.hub);
        let conn = connect_patiently(&self.core.connector, move |n| hub.hear(&n)).await?;
        self.begin(conn).await
    }

    /// Works with `conn` from now on.
    async fn begin(&mut self, conn: Conn) -> Result<Conn, Failure> {
        listen(&self.core, &conn).await?;
        self.core.hub.ring_all();
        self.conn = Some(conn.clone());
        Ok(conn)
    }

    fn error(&self, failure: Failure) -> StoreError {
        failure.into_store_error(&self.core.connector.place)
    }
}

/// Has the session told of others' commits, where it can be.
pub(super) async fn listen(core: &Core, conn: &Conn) -> Result<(), Failure> {
    if core.connector.config.pooler == Pooler::Session {
        conn.batch(&core.connector.sql.render(LISTEN)).await?;
    }
    Ok(())
}
