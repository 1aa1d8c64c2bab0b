//! Reading the whole store.
//!
//! The server leaves out its own streams, or all but those with a prefix. It searches until it has found enough, however far that is, and does
//! not say how far it got: so who reads stops at what he asked for, keeps what has come when time is short, and goes on without the filter where
//! nothing comes at all.

use std::collections::HashSet;

use kurrentdb::{Error, ReadAllOptions, StreamPosition, SubscriptionFilter};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{
    Core,
    error::Failure,
    event::FromServer,
    read::{MAX_BYTES, MAX_EVENTS, event_ref},
};
use crate::ports::{Direction, EventRef, Page, Position, ReadAll, StoreError};

/// Events in a page that names no limit.
const DEFAULT_PAGE: usize = 1_000;

/// Unwanted events that a page passes over at most.
const MAX_PASSED_OVER: usize = 10_000;

/// How many events the server looks at in one go; its own default is 32.
const WINDOW: u32 = 2_000;

/// How many readers may be in the middle of a stretch without wanted events and be known for it.
const WADERS: usize = 64;

/// The commit position of a record and its own; `None` is where reading in that direction begins.
type Place = Option<(u64, u64)>;

/// Where readers stand for whom the filter is too slow.
#[derive(Debug, Default)]
pub(super) struct Wading(Mutex<HashSet<Position>>);

impl Wading {
    fn take(&self, at: Option<Position>) -> bool {
        at.is_some_and(|at| self.0.lock().remove(&at))
    }

    fn put(&self, at: Option<Position>) {
        let mut places = self.0.lock();
        if places.len() >= WADERS {
            places.clear();
        }
        places.extend(at);
    }
}

/// What a read of the whole store gave.
struct Stretch {
    events: Vec<FromServer>,
    /// Whether the store ended before the count was reached.
    ended: bool,
    /// Whether there would have been more, but not in good time.
    late: bool,
}

/// Streams of users and of snapshots, not the server's own.
pub(super) fn no_system_streams() -> SubscriptionFilter {
    SubscriptionFilter::on_stream_name()
        .regex("^[^$]")
        .max(WINDOW)
}

/// Where a page begins, what is wanted on it, and how far it is.
struct Reading<'a> {
    options: &'a ReadAll,
    prefix: &'a str,
    limit: usize,
    page: Page,
    passed_over: usize,
    bytes: usize,
    /// The commit of the transaction that ends behind where the page begins.
    inside: Option<u64>,
}

impl Reading<'_> {
    fn after(&self) -> Option<Position> {
        self.page.position.or(self.options.after)
    }

    fn is_full(&self) -> bool {
        self.page.events.len() >= self.limit
            || self.passed_over >= MAX_PASSED_OVER
            || self.bytes >= MAX_BYTES
    }

    /// Whether there is room for more than `event`.
    fn see(&mut self, event: FromServer) -> Result<bool, StoreError> {
        let position = event.position()?;
        if Some(position) <= self.after() {
            self.inside = (event.commit > event.prepare).then_some(event.commit);
            return Ok(true);
        }
        if self.is_full() {
            return Ok(false);
        }
        self.page.position = Some(position);
        let wanted = !event.is_hidden()
            && event.stream.starts_with(self.prefix)
            && self.options.types.wants(&event.type_name);
        if wanted {
            self.bytes += event.data.len() + event.metadata.len();
            self.page.events.push(event.recorded()?);
        } else {
            self.passed_over += 1;
        }
        Ok(true)
    }
}

impl Core {
    /// Events of the whole store from `from` on, as many as come in good time; late if none does but the one at `from`.
    async fn stretch(
        &self,
        from: Place,
        direction: Direction,
        count: usize,
        filter: Option<&SubscriptionFilter>,
    ) -> Result<Stretch, Failure> {
        let begin = match (from, direction) {
            (Some((commit, prepare)), _) => {
                StreamPosition::Position(kurrentdb::Position { commit, prepare })
            }
            (None, Direction::Forwards) => StreamPosition::Start,
            (None, Direction::Backwards) => StreamPosition::End,
        };
        let options = ReadAllOptions::default().position(begin).max_count(count);
        let options = match direction {
            Direction::Forwards => options.forwards(),
            Direction::Backwards => options.backwards(),
        };
        let options = match filter {
            Some(filter) => options.filter(filter.clone()),
            None => options,
        };
        let options = match self.login() {
            Some(login) => options.authenticated(login),
            None => options,
        };
        // The other half is for a read without the filter.
        let patience = self.link.config().deadline / 2;
        self.link
            .call("read the whole store", |client| {
                let options = options.clone();
                async move {
                    let until = Instant::now() + patience;
                    let (mut events, mut bytes, mut ended) = (Vec::new(), 0, false);
                    let reading = async {
                        let mut reading = client.read_all(&options).await?;
                        while events.len() < count && bytes < MAX_BYTES {
                            let Some(event) = reading.next().await? else {
                                ended = true;
                                break;
                            };
                            let Some(event) = event.event else { continue };
                            let event = FromServer::new(event);
                            bytes += event.data.len() + event.metadata.len();
                            events.push(event);
                        }
                        Ok::<_, Error>(())
                    };
                    let late = match timeout_at(until, reading).await {
                        Ok(read) => read.map(|()| false)?,
                        Err(_) => true,
                    };
                    let is_further = |e: &FromServer| Some((e.commit, e.prepare)) != from;
                    if late && !events.iter().any(is_further) {
                        return Err(Error::DeadlineExceeded);
                    }
                    Ok(Stretch {
                        events,
                        ended,
                        late,
                    })
                }
            })
            .await
    }

    /// The same with `filter` as long as `filtered`, and without it where it finds nothing in good time.
    async fn search(
        &self,
        from: Place,
        direction: Direction,
        count: usize,
        filter: &SubscriptionFilter,
        filtered: &mut bool,
    ) -> Result<Stretch, StoreError> {
        if *filtered {
            match self.stretch(from, direction, count, Some(filter)).await {
                Err(Failure::Late(_)) => *filtered = false,
                read => return read.map_err(|failure| failure.into_store("$all")),
            }
        }
        let count = count.max(DEFAULT_PAGE);
        let read = self.stretch(from, direction, count, None).await;
        read.map_err(|failure| failure.into_store("$all"))
    }

    pub(super) async fn read_all(&self, options: &ReadAll) -> Result<Page, StoreError> {
        let prefix = options.stream_prefix.as_deref().unwrap_or_default();
        let filter = if prefix.is_empty() || prefix.starts_with('$') {
            no_system_streams()
        } else {
            let filter = SubscriptionFilter::on_stream_name().max(WINDOW);
            filter.add_prefix(prefix)
        };
        let mut reading = Reading {
            options,
            prefix,
            limit: match options.limit {
                0 => DEFAULT_PAGE,
                limit => limit.min(MAX_EVENTS),
            },
            page: Page::default(),
            passed_over: 0,
            bytes: 0,
            inside: None,
        };
        let mut filtered = !self.wading.take(options.after);
        loop {
            let after = reading.after();
            let from = match (reading.inside.take(), after) {
                (Some(commit), Some(Position(prepare))) => Some((commit, prepare)),
                (_, after) => after.map(|Position(at)| (at, at)),
            };
            let missing = reading.limit - reading.page.events.len();
            let choosy = options.types.patterns.is_some();
            // One more for the event at `after` itself.
            let count = 1 + if choosy {
                missing.max(DEFAULT_PAGE / 2)
            } else {
                missing
            };
            let forwards = Direction::Forwards;
            let stretch = self
                .search(from, forwards, count, &filter, &mut filtered)
                .await?;
            let mut room = true;
            for event in stretch.events {
                room = reading.see(event)?;
                if !room {
                    break;
                }
            }
            reading.page.end = stretch.ended && room;
            // A transaction is given again from its beginning, unless its commit is named.
            let stuck = reading.after() == after && reading.inside.is_none();
            if reading.page.end || stuck || stretch.late || reading.is_full() {
                break;
            }
        }
        let page = reading.page;
        if !filtered && page.events.is_empty() && !page.end {
            self.wading.put(page.position);
        }
        Ok(page)
    }

    /// The last event that `wanted` takes, from the end of the store backwards.
    async fn last_event(
        &self,
        mut count: usize,
        wanted: impl Fn(&FromServer) -> bool,
    ) -> Result<Option<FromServer>, StoreError> {
        let (filter, mut filtered) = (no_system_streams(), true);
        let mut from = None;
        loop {
            let backwards = Direction::Backwards;
            let stretch = self
                .search(from, backwards, count, &filter, &mut filtered)
                .await?;
            let Some(reached) = stretch.events.last() else {
                return Ok(None);
            };
            from = Some((reached.commit, reached.prepare));
            let mut events = stretch.events.into_iter();
            let found = events.find(|event| !event.is_hidden() && wanted(event));
            if found.is_some() || stretch.ended {
                return Ok(found);
            }
            count = (count * 4).min(DEFAULT_PAGE);
        }
    }

    pub(super) async fn head(&self) -> Result<Option<Position>, StoreError> {
        let last = self.last_event(1, |_| true).await?;
        last.map(|event| event.position()).transpose()
    }

    /// Looks through the whole store, the newest first.
    pub(super) async fn find_event(&self, id: Uuid) -> Result<Option<EventRef>, StoreError> {
        let found = self
            .last_event(DEFAULT_PAGE, |event| event.id == id)
            .await?;
        found.map(|event| event_ref(&event)).transpose()
    }
}
