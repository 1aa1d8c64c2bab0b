//! The reading side of a projection: where the view stands, and what comes next.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    ProjectionError, ReadError,
    view::{ViewCheckpoint, ViewRow},
};
use crate::{
    background::Background,
    clock::Clock,
    ports::{
        CheckpointStore, EventStore, Expected, FencingToken, LeaseStore, Position, RecordedEvent,
        SaveCheckpoint, StoreError, TypeFilter,
    },
    retry::RetryPolicy,
    subscription::{
        Batch, LEASE, Pauses, Poison, Start, Subscription, SubscriptionOptions, pause::beside,
    },
};

/// What the names of a view have at their end while it is rebuilt: tables by convention, its lease and its checkpoints.
pub const SUFFIX: &str = "_rebuild";

/// While a view catches up, its mirror in the state store is moved no more often than this.
const MIRROR_EVERY: Duration = Duration::from_millis(250);

/// Which of a projection's two views.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// The one that is read.
    #[default]
    Live,
    /// The one that is built beside it, from the origin.
    Rebuild {
        /// Whether it goes on where one that did not come to its end stopped. The handler has to be the same then.
        resume: bool,
    },
}

impl Mode {
    /// Whether it is a rebuild.
    pub fn is_rebuild(self) -> bool {
        matches!(self, Self::Rebuild { .. })
    }
}

/// How a projection reads, and what becomes of events that it cannot handle.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ProjectionOptions {
    /// Which events.
    pub types: TypeFilter,
    /// Only streams whose names begin so.
    pub stream_prefix: Option<String>,
    /// Where to start when there is no checkpoint.
    pub start: Start,
    /// At most this many events in a batch; 0 means 500.
    pub batch_size: usize,
    /// What becomes of an event that the handler cannot handle, after the retries. For [`Work`](super::Work).
    pub poison: Poison,
    /// When to try again. For [`Work`](super::Work).
    pub retry: RetryPolicy,
}

impl ProjectionOptions {
    /// Reads these events from the origin on.
    pub fn new(types: TypeFilter) -> Self {
        Self {
            types,
            ..Self::default()
        }
    }
}

/// What a projection reads from and keeps its place in.
#[derive(Clone)]
pub(crate) struct Ports {
    pub(crate) events: Arc<dyn EventStore>,
    pub(crate) checkpoints: Arc<dyn CheckpointStore>,
    pub(crate) leases: Arc<dyn LeaseStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) background: Background,
    pub(crate) pauses: Pauses,
    /// A name that no other reader has.
    pub(crate) owner: String,
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ports")
    }
}

impl Ports {
    /// A reader under `name`, the only one of all processes.
    pub(super) fn subscribe(&self, name: &str, options: SubscriptionOptions) -> Subscription {
        let (events, checkpoints) = (Arc::clone(&self.events), Arc::clone(&self.checkpoints));
        Subscription::durable(events, checkpoints, name, options)
            .owned(
                Arc::clone(&self.leases),
                self.owner.clone(),
                Arc::clone(&self.clock),
            )
            .kept_by(self.background.clone())
    }
}

/// What a projection is to handle next.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProjectionBatch {
    /// The wanted events, in increasing position; at least one.
    pub events: Vec<RecordedEvent>,
    /// Where the view has to stand.
    pub from: Option<Position>,
    /// Where it stands afterwards: how far was read, over unwanted events too.
    pub position: Option<Position>,
    /// The right to save that.
    pub token: FencingToken,
    /// Whether all of it is history: a rebuild, or what was in the log before the projection's very first start.
    pub replaying: bool,
    /// Whether nothing followed when it was read.
    pub end: bool,
}

impl ProjectionBatch {
    /// The positions of its events.
    pub fn positions(&self) -> impl Iterator<Item = Position> {
        self.events.iter().map(|event| event.position)
    }
}

/// How far a projection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Progress {
    /// How far it has handled the log.
    pub position: Option<Position>,
    /// The position of the log's last event.
    pub head: Option<Position>,
    /// Events handled or given up since it was opened.
    pub handled: u64,
    /// Whether it came to the end of the log at its last look.
    pub caught_up: bool,
}

/// A place in the log; `None` before the first event.
pub(super) type Place = Option<Position>;

/// The reader of one view.
///
/// Where the view stands is known from the last save; at the beginning of a term from the mirror in the state store. That may be wrong: the view
/// committed and the mirror did not follow, the view's database was restored, another process went on. Then the first save is refused, the host says
/// what it [found](Projection::found), and reading goes on from there.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each read by name"
)]
pub struct Projection {
    pub(super) ports: Ports,
    pub(super) subscription: Subscription,
    /// The full name of the live view.
    pub(super) live: String,
    pub(super) mode: Mode,
    pub(super) start: Start,
    /// The right to the live view, while this one takes its place.
    pub(super) takeover: Option<super::rebuild::Takeover>,
    /// Where a view without a checkpoint stands.
    origin: Place,
    /// The log's end at the very first start.
    history: Place,
    term: u64,
    pub(super) expected: Place,
    /// A token that the view knows, of leases that the state store has forgotten.
    lowest_token: Option<FencingToken>,
    suspicion: Option<FencingToken>,
    anew: bool,
    unprepared: bool,
    unsure: bool,
    opened: bool,
    caught_up: bool,
    pub(super) done: Place,
    handled: u64,
    batch: Vec<Position>,
    mirrored_at: Option<Duration>,
}

impl Projection {
    pub(crate) fn new(ports: Ports, live: String, mode: Mode, options: &ProjectionOptions) -> Self {
        let mut reading = SubscriptionOptions::new(Start::Origin, options.types.clone())
            .batch_size(options.batch_size);
        reading.stream_prefix.clone_from(&options.stream_prefix);
        let subscription = match mode {
            Mode::Live => ports
                .subscribe(&live, reading)
                .stepping_back_on(&ports.pauses),
            Mode::Rebuild { .. } => ports.subscribe(&beside(&live), reading),
        };
        Self {
            ports,
            subscription,
            live,
            mode,
            start: options.start,
            takeover: None,
            origin: None,
            history: None,
            term: 0,
            expected: None,
            lowest_token: None,
            suspicion: None,
            anew: false,
            unprepared: false,
            unsure: true,
            opened: false,
            caught_up: false,
            done: None,
            handled: 0,
            batch: Vec::new(),
            mirrored_at: None,
        }
    }

    /// The full name of the projection.
    pub fn name(&self) -> &str {
        &self.live
    }

    /// Which of the two views.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// `""` for the live view, [`SUFFIX`] for a rebuild: what its tables have at their end.
    pub fn suffix(&self) -> &'static str {
        if self.mode.is_rebuild() { SUFFIX } else { "" }
    }

    /// Finds the place to start at. For the live view it does not wait for the lease; a rebuild has it afterwards. [`Projection::next`] does it
    /// when it was not done before.
    ///
    /// # Errors
    /// [`ProjectionError::RebuildRunning`] if another process rebuilds the projection and does not end within the time of a lease; what the stores
    /// say.
    pub async fn open(&mut self) -> Result<(), ReadError> {
        if self.opened {
            return Ok(());
        }
        self.find_history().await?;
        self.origin = match self.start {
            Start::Origin => None,
            Start::Now if self.mode.is_rebuild() => None,
            Start::Now => self.history,
            Start::After(position) => Some(position),
        };
        self.subscription.begin_after(self.origin);
        match self.mode {
            Mode::Live => self.subscription.open().await?,
            Mode::Rebuild { resume } => {
                let patience = self.ports.clock.monotonic() + LEASE * 6 / 5;
                while !self.subscription.claim().await? {
                    if self.ports.clock.monotonic() >= patience {
                        return Err(self.running_elsewhere());
                    }
                    self.ports.clock.sleep(LEASE / 10).await;
                }
                if !resume {
                    self.subscription.reset(None).await?;
                    self.subscription.find_again();
                    self.subscription.open().await?;
                }
                self.begin_term();
            }
        }
        self.opened = true;
        Ok(())
    }

    pub(super) fn running_elsewhere(&self) -> ReadError {
        let name = self.live.clone();
        ProjectionError::RebuildRunning { name }.into()
    }

    /// The log's end at the projection's very first start, which all processes agree on.
    async fn find_history(&mut self) -> Result<(), StoreError> {
        let name = format!("{}_history", self.live);
        let checkpoints = &self.ports.checkpoints;
        loop {
            if let Some(checkpoint) = checkpoints.load(name.clone()).await? {
                self.history = checkpoint.position;
                return Ok(());
            }
            let head = self.ports.events.head().await?;
            let first = SaveCheckpoint::expected(Expected::At(None));
            match checkpoints.save(name.clone(), head, first).await {
                // Another process was first, perhaps: what is there now counts.
                Ok(()) | Err(StoreError::CheckpointMismatch { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for the next wanted events and returns them.
    ///
    /// Unwanted events are passed over, and the mirror moves on over them. Dropping the future loses nothing.
    ///
    /// # Errors
    /// As [`Projection::open`]; what the stores say; [`StoreError::Closed`] once the store is closed.
    pub async fn next(&mut self) -> Result<ProjectionBatch, ReadError> {
        self.open().await?;
        self.hold_the_rebuild().await?;
        let batch = self.subscription.next().await?;
        self.check_term();
        Ok(self.batch(batch))
    }

    /// As [`Projection::next`], but `None` when the log has no more wanted events now, or another process has the live view.
    ///
    /// # Errors
    /// As [`Projection::next`].
    pub async fn try_next(&mut self) -> Result<Option<ProjectionBatch>, ReadError> {
        self.open().await?;
        self.hold_the_rebuild().await?;
        let batch = self.subscription.try_next().await?;
        self.check_term();
        let Some(batch) = batch else {
            self.caught_up = true;
            self.done = self.done.max(self.subscription.saved());
            return Ok(None);
        };
        Ok(Some(self.batch(batch)))
    }

    /// A rebuild that another process has taken over is that one's.
    async fn hold_the_rebuild(&mut self) -> Result<(), ReadError> {
        if self.mode.is_rebuild() && !self.subscription.claim().await? {
            return Err(self.running_elsewhere());
        }
        Ok(())
    }

    fn check_term(&mut self) {
        if self.subscription.term() != self.term {
            self.begin_term();
        }
        if let Some(token) = self.suspicion.take() {
            // The state store says that the lease is ours still. So the view remembers leases that the state store does not: it was restored.
            self.lowest_token = Some(token);
        }
    }

    fn begin_term(&mut self) {
        self.term = self.subscription.term();
        let found = self.subscription.found();
        self.expected = found.filter(|found| Some(*found) > self.origin);
        self.done = self.subscription.saved();
        self.unsure = true;
        self.anew = self.mode.is_rebuild() && self.expected.is_none();
        self.unprepared = !self.mode.is_rebuild() || self.anew;
    }

    fn batch(&mut self, batch: Batch) -> ProjectionBatch {
        self.caught_up = batch.end;
        self.batch = batch.events.iter().map(|event| event.position).collect();
        ProjectionBatch {
            from: self.expected,
            token: self.token(),
            replaying: self.mode.is_rebuild() || batch.position <= self.history,
            position: batch.position,
            end: batch.end,
            events: batch.events,
        }
    }

    fn token(&self) -> FencingToken {
        let held = self.subscription.token();
        held.max(self.lowest_token).unwrap_or(FencingToken(0))
    }

    /// What the view knows of leases that the state store has forgotten.
    pub(super) fn lowest_known_token(&self) -> FencingToken {
        self.lowest_token.unwrap_or(FencingToken(0))
    }

    /// Whether the tables may be missing, and those of a rebuild not empty: the host calls the user's `prepare` before it hands over the batch, and
    /// for a rebuild after [`Projection::open`] too.
    pub fn is_unprepared(&self) -> bool {
        self.unprepared
    }

    /// The tables are there.
    pub fn prepared(&mut self) {
        self.unprepared = false;
    }

    /// The checkpoint for a view that stands at `position` after what is handed over now.
    pub fn checkpoint(&self, position: Option<Position>) -> ViewCheckpoint {
        let mut checkpoint = ViewCheckpoint::new(
            format!("{}{}", self.live, self.suffix()),
            self.expected,
            position,
            self.token(),
        );
        checkpoint.anew = self.anew;
        checkpoint.unsure = self.unsure;
        checkpoint
    }

    /// The view's transaction is committed, with the checkpoint at `position`: moves the mirror in the state store.
    ///
    /// A mirror that cannot be moved now is moved with the next save. While there is more to read it is moved four times a second only.
    ///
    /// # Errors
    /// [`StoreError::StaleLease`] and [`StoreError::CheckpointMismatch`] if another process has the view by now: leave the rest of the batch and call
    /// [`Projection::next`]. [`StoreError::Closed`].
    pub async fn saved(&mut self, position: Option<Position>) -> Result<(), StoreError> {
        self.expected = position;
        self.anew = false;
        self.unsure = false;
        self.count(position);
        let now = self.ports.clock.monotonic();
        let recently = |at: Duration| now.saturating_sub(at) < MIRROR_EVERY;
        if !self.caught_up && self.mirrored_at.is_some_and(recently) {
            self.subscription.handled(position);
            return Ok(());
        }
        self.mirrored_at = Some(now);
        self.acknowledge(position).await
    }

    /// The handler returned without a transaction of the view, or the event was given up: everything up to `position` is handled at least once.
    ///
    /// # Errors
    /// As [`Projection::saved`].
    pub async fn handled(&mut self, position: Option<Position>) -> Result<(), StoreError> {
        self.count(position);
        self.acknowledge(position).await
    }

    fn count(&mut self, position: Option<Position>) {
        let done = self.batch.partition_point(|p| Some(*p) <= position);
        self.handled += self.batch.drain(..done).count() as u64;
        self.done = position;
    }

    async fn acknowledge(&mut self, position: Option<Position>) -> Result<(), StoreError> {
        match self.subscription.ack(position).await {
            Err(error) if crate::code::Coded::is_transient(&error) => {
                tracing::warn!(name = self.live, %error, "the mirror of a view's checkpoint could not be moved yet");
                Ok(())
            }
            other => other,
        }
    }

    /// The handler failed: the next attempt asks whether the table of checkpoints is there.
    pub fn failed(&mut self) {
        self.unsure = true;
    }

    /// The view said where it stands, and that is elsewhere: goes there. `row` is what it said, `None` for no row.
    ///
    /// # Errors
    /// What the stores say.
    pub async fn found(&mut self, row: Option<ViewRow>) -> Result<(), StoreError> {
        let actual = row.and_then(|row| row.position);
        let newer = row
            .map(|row| row.token)
            .filter(|token| *token > self.token());
        tracing::warn!(
            name = self.live,
            expected = self.expected.map(|p| p.0),
            actual = actual.map(|p| p.0),
            "a view stands elsewhere than expected; reading goes on from there"
        );
        if newer.is_none() && actual == self.expected && !self.anew {
            // Somebody was in between, or the host asked wrongly: not in a tight loop.
            self.ports.clock.sleep(Duration::from_millis(100)).await;
        }
        self.suspicion = newer;
        if newer.is_some() {
            self.subscription.doubt();
        }
        self.unsure = true;
        self.expected = actual;
        if row.is_none() {
            self.unprepared = true;
            self.anew = self.mode.is_rebuild();
        }
        let place = actual.max(self.origin);
        self.done = place;
        // Before the mirror, which may not be there: nothing is passed over either way.
        self.subscription.rewind(place);
        if place < self.subscription.saved() {
            match self.subscription.reset(place).await {
                // Then the next look at the lease begins a new term.
                Ok(()) | Err(StoreError::StaleLease { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what follows the view's place again: for a batch that was handed over only in part.
    pub fn rewind(&mut self) {
        // Where the place is still to be found, that begins at the mirror.
        if self.subscription.is_placed() {
            self.subscription.rewind(self.done.max(self.origin));
        }
    }

    /// How far it is.
    ///
    /// # Errors
    /// What the store says.
    pub async fn progress(&self) -> Result<Progress, StoreError> {
        Ok(Progress {
            position: self.done,
            head: self.ports.events.head().await?,
            handled: self.handled,
            caught_up: self.caught_up,
        })
    }

    /// Gives the lease back, so that another process goes on at once, and moves the mirror to where the view stands.
    ///
    /// # Errors
    /// What the stores say; the lease ends by itself in that case.
    pub async fn release(&mut self) -> Result<(), StoreError> {
        self.give_back_the_live_one().await;
        if self.subscription.token().is_some() && self.done > self.subscription.saved() {
            self.acknowledge(self.done).await?;
        }
        self.subscription.release().await
    }
}
