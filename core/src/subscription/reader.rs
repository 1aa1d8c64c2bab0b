//! The reading side of a subscription: pages after a position, live without polling, and the checkpoint.
//!
//! The host pulls: it asks for the next batch, has it handled, and says how far it got. One batch at most is read ahead of the handlers, so what
//! is in memory stays under two.

use std::{pin::pin, sync::Arc};

use futures_util::future::{Either, select};

use super::{
    ahead::Ahead,
    ownership::{Ownership, Term},
    pause::{Ear, Pauses},
};
use crate::{
    background::Background,
    clock::Clock,
    ports::{
        CheckpointStore, EventStore, Expected, FencingToken, LeaseStore, Position, ReadAll,
        RecordedEvent, SaveCheckpoint, StoreError, TypeFilter,
    },
};

/// Where a subscription without a checkpoint starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// At the first event of the store.
    #[default]
    Origin,
    /// After the last event that is there when it starts.
    Now,
    /// After this position.
    After(Position),
}

/// What becomes of an event that its handler cannot handle, after the retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Poison {
    /// A dead letter, and on.
    #[default]
    Park,
    /// A line in the log, and on.
    Skip,
    /// The subscription stops before it, with the reason; it begins there again at the next start.
    Stop,
}

/// How a subscription reads.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SubscriptionOptions {
    /// Where to start when there is no checkpoint.
    pub start: Start,
    /// Which events.
    pub types: TypeFilter,
    /// Only streams whose names begin so.
    pub stream_prefix: Option<String>,
    /// At most this many events in a batch; 0 means 500.
    pub batch_size: usize,
}

impl SubscriptionOptions {
    /// Reads these events from `start` on.
    pub fn new(start: Start, types: TypeFilter) -> Self {
        Self {
            start,
            types,
            ..Self::default()
        }
    }

    /// The same with another batch size.
    #[must_use]
    pub fn batch_size(self, batch_size: usize) -> Self {
        Self { batch_size, ..self }
    }

    /// The same for streams whose names begin with `prefix`.
    #[must_use]
    pub fn stream_prefix(self, prefix: impl Into<String>) -> Self {
        Self {
            stream_prefix: Some(prefix.into()),
            ..self
        }
    }
}

/// What a subscription read.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The wanted events, in increasing position; at least one.
    pub events: Vec<RecordedEvent>,
    /// How far was read: acknowledge this when all of it is handled.
    pub position: Option<Position>,
    /// Whether nothing followed when it was read.
    pub end: bool,
}

/// A reader of the log with a place of its own.
#[derive(Debug)]
pub struct Subscription {
    store: Arc<dyn EventStore>,
    /// `None` for a transient subscription, which keeps its place in memory only.
    checkpoints: Option<(Arc<dyn CheckpointStore>, String)>,
    ownership: Option<Ownership>,
    options: SubscriptionOptions,
    ahead: Ahead,
    place: Option<Place>,
    saved: Option<Position>,
    /// Where it stood when the term began.
    found: Option<Position>,
    /// Nothing at this position or before it is read.
    floor: Option<Position>,
    /// Grows whenever the place is found anew: at the first start, and when another process may have moved it.
    term: u64,
    /// Whether the log is known to reach as far as the place.
    sound: bool,
    /// The last position handed out that is not acknowledged yet.
    outstanding: Option<Position>,
    /// How far acknowledgements went whose answers were not heard: the checkpoint may stand there.
    in_doubt: Option<Position>,
    /// The place, and what was outstanding, before the batch that was read last.
    before: Option<(Place, Option<Position>)>,
}

#[derive(Debug, Clone, Copy)]
struct Place(Option<Position>);

impl Subscription {
    /// A subscription that keeps its place under `name` in `checkpoints`.
    pub fn durable(
        store: Arc<dyn EventStore>,
        checkpoints: Arc<dyn CheckpointStore>,
        name: impl Into<String>,
        options: SubscriptionOptions,
    ) -> Self {
        let mut subscription = Self::transient(store, options);
        subscription.checkpoints = Some((checkpoints, name.into()));
        subscription
    }

    /// A subscription that keeps its place in memory only.
    pub fn transient(store: Arc<dyn EventStore>, options: SubscriptionOptions) -> Self {
        Self {
            store,
            checkpoints: None,
            ownership: None,
            options,
            ahead: Ahead::default(),
            place: None,
            saved: None,
            found: None,
            floor: None,
            term: 0,
            sound: false,
            outstanding: None,
            in_doubt: None,
            before: None,
        }
    }

    /// Reads only while `owner`, a name that no other reader has, holds the lease of the subscription's name: of all processes one at a time.
    ///
    /// The lease lasts [`LEASE`](super::LEASE) and is renewed as the subscription is used, and beside it with [`Subscription::kept_by`].
    /// [`Subscription::release`] lets the next one go on at once. A transient subscription has no name to own.
    #[must_use]
    pub fn owned(
        mut self,
        leases: Arc<dyn LeaseStore>,
        owner: impl Into<String>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        if let Some((_, name)) = &self.checkpoints {
            self.ownership = Some(Ownership::new(leases, name.clone(), owner.into(), clock));
        }
        self
    }

    /// Has the lease renewed by `background` for as long as it is held, whatever the host is doing, and given back when this is dropped.
    #[must_use]
    pub fn kept_by(mut self, background: Background) -> Self {
        if let Some(ownership) = &mut self.ownership {
            ownership.keep_in(background);
        }
        self
    }

    /// Lets the lease go for as long as somebody asks for it through `pauses`, or through the checkpoint store from another process.
    pub(crate) fn stepping_back_on(mut self, pauses: &Pauses) -> Self {
        if let (Some(ownership), Some((checkpoints, _))) = (&mut self.ownership, &self.checkpoints)
        {
            ownership.step_back_on(Ear::new(Arc::clone(checkpoints), pauses));
        }
        self
    }

    /// Reads nothing at `position` or before it.
    pub(crate) fn begin_after(&mut self, position: Option<Position>) {
        self.floor = position;
    }

    /// Takes or renews the lease; false while another process has it.
    pub(crate) async fn claim(&mut self) -> Result<bool, StoreError> {
        self.open().await?;
        self.own().await
    }

    /// Begins at the checkpoint again.
    pub(crate) fn find_again(&mut self) {
        self.place = None;
        self.outstanding = None;
    }

    /// The number of the term: another one means that the place was found anew.
    pub(crate) fn term(&self) -> u64 {
        self.term
    }

    /// Where the checkpoint stands, as far as it is known here.
    pub(crate) fn saved(&self) -> Option<Position> {
        self.saved
    }

    /// Where the checkpoint stood when the term began.
    pub(crate) fn found(&self) -> Option<Position> {
        self.found
    }

    /// The token of the lease that is held.
    pub(crate) fn token(&self) -> Option<FencingToken> {
        self.ownership.as_ref().and_then(Ownership::token)
    }

    fn fence(&self) -> Option<FencingToken> {
        self.ownership.as_ref().and_then(Ownership::fence)
    }

    /// Asks whether the lease is still held before anything more is read.
    pub(crate) fn doubt(&mut self) {
        if let Some(ownership) = &mut self.ownership {
            ownership.doubt();
        }
    }

    /// Whether the place is known.
    pub(crate) fn is_placed(&self) -> bool {
        self.place.is_some()
    }

    /// How far was read, `None` before the first event.
    pub fn position(&self) -> Option<Position> {
        self.place.and_then(|place| place.0)
    }

    /// Finds the place to start at. Called by [`Subscription::next`] when it was not called before; call it first when `Start::Now` has to mean
    /// the time of the call. It does not wait for the lease.
    ///
    /// # Errors
    /// What the stores say.
    pub async fn open(&mut self) -> Result<(), StoreError> {
        if self.place.is_some() {
            return Ok(());
        }
        self.sound = false;
        self.before = None;
        let Some((checkpoints, name)) = &self.checkpoints else {
            self.place = Some(Place(self.first_place().await?));
            self.term += 1;
            return Ok(());
        };
        loop {
            if let Some(checkpoint) = checkpoints.load(name.clone()).await? {
                self.saved = checkpoint.position;
                break;
            }
            let start = self.first_place().await?;
            // Kept at once, also as "nothing yet": after a crash `Now` would mean a later place, and what came in between would be lost.
            let save = SaveCheckpoint::expected(Expected::At(None));
            match checkpoints.save(name.clone(), start, save).await {
                Ok(()) => {
                    self.saved = start;
                    break;
                }
                // Another process was first: its place is ours.
                Err(StoreError::CheckpointMismatch { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.found = self.saved;
        self.place = Some(Place(self.saved.max(self.floor)));
        self.term += 1;
        Ok(())
    }

    /// Goes to the log's end if the place is behind it. Nothing that is there now is passed over or read again by that; events to come would
    /// be passed over otherwise, where the log gives out positions again after it was restored from a backup.
    async fn stand_on_the_log(&mut self) -> Result<(), StoreError> {
        // What was read ahead may be of the log as it was before.
        self.ahead = Ahead::default();
        if let Some(place) = self.position() {
            let head = self.store.head().await?;
            if head < Some(place) {
                let name = self.checkpoints.as_ref().map_or("", |(_, name)| name);
                tracing::warn!(
                    name,
                    position = place.0,
                    head = head.map_or(0, |head| head.0),
                    "a subscription stood behind the end of the log: its last events were deleted, or it was restored; it goes on at the end"
                );
                self.place = Some(Place(head));
                self.outstanding = None;
                if self.saved > head {
                    self.reset(head).await?;
                }
            }
        }
        self.sound = true;
        Ok(())
    }

    /// Moves the checkpoint to `position`, also backwards.
    pub(crate) async fn reset(&mut self, position: Option<Position>) -> Result<(), StoreError> {
        if let Some((checkpoints, name)) = &self.checkpoints {
            let mut save = SaveCheckpoint::expected(Expected::Reset);
            save.token = self.fence();
            checkpoints.save(name.clone(), position, save).await?;
        }
        self.saved = position;
        Ok(())
    }

    async fn first_place(&self) -> Result<Option<Position>, StoreError> {
        match self.options.start {
            Start::Origin => Ok(None),
            Start::Now => self.store.head().await,
            Start::After(position) => Ok(Some(position)),
        }
    }

    /// Waits for the next wanted events and returns them.
    ///
    /// Unwanted events are passed over, and the checkpoint moves on over them. Dropping the future loses nothing.
    ///
    /// # Errors
    /// What the stores say; [`StoreError::Closed`] once the store is closed.
    pub async fn next(&mut self) -> Result<Batch, StoreError> {
        self.open().await?;
        loop {
            while !self.own().await? {
                if let Some(ownership) = &mut self.ownership {
                    ownership.pause().await;
                }
            }
            if let Some(batch) = self.read().await? {
                return Ok(batch);
            }
            let position = self.position();
            let news = self.store.wait_for_events(position);
            let news = match &mut self.ownership {
                None => news.await,
                Some(ownership) => match select(news, pin!(ownership.until_renewal())).await {
                    Either::Left((news, _)) => news,
                    Either::Right(_) => Ok(()),
                },
            };
            if news.is_err() {
                self.sound = false;
            }
            news?;
        }
    }

    /// As [`Subscription::next`], but `None` when the log has no more wanted events now, or another process reads under this name.
    ///
    /// # Errors
    /// What the stores say.
    pub async fn try_next(&mut self) -> Result<Option<Batch>, StoreError> {
        self.open().await?;
        if !self.own().await? {
            return Ok(None);
        }
        self.read().await
    }

    /// Takes or renews the lease where there is one; a new term begins at the checkpoint, which others may have moved.
    async fn own(&mut self) -> Result<bool, StoreError> {
        let Some(ownership) = &mut self.ownership else {
            return Ok(true);
        };
        match ownership.renew().await? {
            Term::Same => Ok(true),
            Term::New => {
                self.place = None;
                self.outstanding = None;
                self.open().await?;
                Ok(true)
            }
            Term::Elsewhere => Ok(false),
        }
    }

    async fn read(&mut self) -> Result<Option<Batch>, StoreError> {
        let read = self.read_on().await;
        if read.is_err() {
            // What comes back may be an older one.
            self.sound = false;
        }
        read
    }

    async fn read_on(&mut self) -> Result<Option<Batch>, StoreError> {
        if !self.sound {
            self.stand_on_the_log().await?;
        }
        loop {
            let limit = match self.options.batch_size {
                0 => 500,
                size => size,
            };
            let mut read = ReadAll::after(self.position())
                .limit(limit)
                .types(self.options.types.clone());
            read.stream_prefix.clone_from(&self.options.stream_prefix);
            let page = self.ahead.take(&self.store, read.clone()).await?;
            let before = self.place;
            if page.position.is_some() {
                self.place = Some(Place(page.position));
                if !page.end {
                    read.after = page.position;
                    self.ahead.begin(&self.store, read);
                }
            }
            if !page.events.is_empty() {
                self.before = before.map(|place| (place, self.outstanding));
                self.outstanding = page.position;
                return Ok(Some(Batch {
                    events: page.events,
                    position: page.position,
                    end: page.end,
                }));
            }
            if page.end {
                // Passing over unwanted events must not acknowledge what was handed out before them.
                if self.outstanding.is_none() {
                    self.ack(self.position()).await?;
                }
                return Ok(None);
            }
        }
    }

    /// Everything up to `position` is handled: saves the checkpoint.
    ///
    /// # Errors
    /// [`StoreError::StaleLease`] if another process reads under this name by now: what was handled may be handled there again. What the
    /// checkpoint store says; a checkpoint that stands further on already is left there.
    pub async fn ack(&mut self, position: Option<Position>) -> Result<(), StoreError> {
        self.handled(position);
        let Some((checkpoints, name)) = &self.checkpoints else {
            return Ok(());
        };
        if position.is_none() || position <= self.saved {
            return Ok(());
        }
        loop {
            let mut save = SaveCheckpoint::expected(Expected::At(self.saved));
            save.token = self.fence();
            let doubted = self.in_doubt;
            // Before its answer: that may get lost, or nobody waits for it.
            self.in_doubt = doubted.max(position);
            let saved = checkpoints.save(name.clone(), position, save).await;
            match saved {
                Ok(()) => {
                    self.saved = position;
                    self.in_doubt = None;
                }
                // An acknowledgement of ours went through: on from there.
                Err(StoreError::CheckpointMismatch { actual, .. })
                    if actual.map(Position) > self.saved && actual.map(Position) <= doubted =>
                {
                    self.saved = actual.map(Position);
                    if position > self.saved {
                        continue;
                    }
                    self.in_doubt = None;
                    return Ok(());
                }
                Err(StoreError::StaleLease { .. } | StoreError::CheckpointMismatch { .. }) => {
                    if let (Err(StoreError::StaleLease { .. }), Some(ownership)) =
                        (&saved, &mut self.ownership)
                    {
                        ownership.lose();
                    }
                    // Whoever moved it: the next reading begins where it stands now.
                    self.place = None;
                    self.outstanding = None;
                    self.in_doubt = None;
                }
                // What is handled stays handled: the next acknowledgement covers it too.
                Err(_) => {}
            }
            return saved;
        }
    }

    /// Everything up to `position` is handled: the checkpoint follows with the next acknowledgement, or when there is nothing more to read.
    pub(crate) fn handled(&mut self, position: Option<Position>) {
        if position >= self.outstanding {
            self.outstanding = None;
        }
    }

    /// Goes back to `position`, so that what follows it is read again: for a batch that was handled only in part.
    pub fn rewind(&mut self, position: Option<Position>) {
        self.place = Some(Place(position));
        self.sound = false;
        self.outstanding = None;
        self.before = None;
    }

    /// The batch that was read last did not reach anybody, as who asked for it is gone: it is read again.
    pub fn give_back(&mut self) {
        if let (Some((place, outstanding)), true) = (self.before, self.is_placed()) {
            self.rewind(place.0);
            self.outstanding = outstanding;
        }
    }

    /// Goes back to what follows `handled`, or the checkpoint if that is further on, so that the rest of a batch is read again: the next
    /// acknowledgement would cover it.
    pub fn go_back(&mut self, handled: Option<Position>) {
        // Where the place is still to be found, that begins at the checkpoint.
        if self.is_placed() {
            self.rewind(handled.max(self.saved).max(self.floor));
        }
    }

    /// Gives the lease back, so that another process goes on at once.
    ///
    /// # Errors
    /// What the lease store says; the lease ends by itself in that case.
    pub async fn release(&mut self) -> Result<(), StoreError> {
        match &mut self.ownership {
            None => Ok(()),
            Some(ownership) => ownership.release().await,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(ownership) = &mut self.ownership {
            ownership.abandon();
        }
    }
}

/// Which of `lanes` workers handles the events of `stream`: the same one always, so that a stream's events keep their order.
pub fn lane_of(stream: &str, lanes: usize) -> usize {
    // FNV-1a: the same in every process and release.
    let hash = stream
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let lanes = lanes.max(1) as u64;
    usize::try_from(hash % lanes).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_keeps_its_lane() {
        assert_eq!(lane_of("order-1", 4), lane_of("order-1", 4));
        assert!(
            (0..100)
                .map(|n| lane_of(&format!("order-{n}"), 4))
                .any(|lane| lane == 3)
        );
        assert_eq!(lane_of("order-1", 0), 0);
    }
}
