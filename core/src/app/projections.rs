//! Projections at work: the live views behind the app, and rebuilds that a caller waits for.

use std::{
    fmt, future::IntoFuture, panic::AssertUnwindSafe, path::PathBuf, sync::Arc, time::Duration,
};

use futures_util::future::FutureExt;
use parking_lot::Mutex;

use super::{
    Checkpoint, Orkestra, ReadModel,
    checkpoint::Saved,
    deliver::panicked,
    handler::{BoxFuture, HandlerError, own},
    read_model::Tend,
};
use crate::{
    AppError, Error,
    clock::Timestamp,
    code::Coded,
    delivery::Addressed,
    message::{Event as EventData, MessageKind, Metadata, wire},
    ports::{BusError, DeadLetterReason, RecordedEvent, StoreError},
    projection::{
        Mode, Progress, Projection, ProjectionBatch, ProjectionError, ProjectionOptions,
        ProjectionState, SUFFIX, Step, Work,
    },
    subscription::{Poison, SubscriptionError},
    telemetry::names,
};

/// The wait after a store failed to answer.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// A registered projection.
pub(super) struct Kept {
    pub(super) name: String,
    pub(super) full_name: String,
    pub(super) model: ReadModel,
    pub(super) options: ProjectionOptions,
    status: Mutex<Status>,
}

#[derive(Default)]
struct Status {
    running: bool,
    replaying: bool,
    rebuilding: bool,
    error: Option<String>,
}

impl Kept {
    pub(super) fn new(full_name: String, model: ReadModel, options: ProjectionOptions) -> Self {
        Self {
            name: model.name.clone(),
            full_name,
            model,
            options,
            status: Mutex::default(),
        }
    }
}

/// One view at work.
struct Keeper {
    app: Orkestra,
    kept: Arc<Kept>,
    projection: Projection,
    files: Vec<PathBuf>,
    /// Whether the view was ever saved in a transaction of its own.
    has_saved: bool,
}

/// Starts the app's live views.
pub(super) async fn start(app: &Orkestra) -> Result<(), Error> {
    for kept in &app.inner.projections {
        let mut keeper = Keeper::new(app, kept, Mode::Live);
        keeper.projection.open().await?;
        app.inner.readers.lock().push(tokio::spawn(keeper.run()));
    }
    Ok(())
}

impl Keeper {
    fn new(app: &Orkestra, kept: &Arc<Kept>, mode: Mode) -> Self {
        let services = &app.inner.services;
        let projection = services.projection(&kept.full_name, mode, &kept.options);
        Self {
            app: app.clone(),
            kept: Arc::clone(kept),
            projection,
            files: app.inner.plan.sqlite_files(),
            has_saved: false,
        }
    }

    /// The live view, until the app is closed or the projection stops.
    async fn run(mut self) {
        self.kept.status.lock().running = true;
        self.keep().await;
        self.kept.status.lock().running = false;
        self.release().await;
    }

    async fn release(&mut self) {
        if let Err(error) = self.projection.release().await {
            tracing::debug!(name = self.kept.full_name, %error, "a lease was not given back");
        }
    }

    async fn keep(&mut self) {
        let mut failures = 0;
        while self.app.is_open() {
            let app = self.app.clone();
            let Some(batch) = app.unless_closed(self.projection.next()).await else {
                return;
            };
            let result = match batch {
                Ok(batch) => self.handle(batch).await,
                Err(error) => Err(error.into()),
            };
            match result {
                Ok(()) => failures = 0,
                Err(Error::Store(StoreError::Closed {})) => return,
                Err(Error::Subscription(stopped)) => {
                    tracing::error!(name = self.kept.full_name, error = %stopped, "a projection stopped");
                    let mut all = self.app.inner.stopped.lock();
                    all.insert(self.kept.full_name.clone(), stopped);
                    return;
                }
                Err(error) => {
                    tracing::warn!(name = self.kept.full_name, code = error.code(), %error, "a projection cannot go on now");
                    // What is not in the view is read again: the next save would pass it over.
                    self.projection.rewind();
                    self.kept.status.lock().error = Some(error.to_string());
                    failures += 1;
                    let pause = self
                        .kept
                        .options
                        .retry
                        .delay(failures, 0.5)
                        .max(AFTER_FAILURE);
                    let pause = self.app.inner.plan.clock.sleep(pause);
                    if self.app.unless_closed(pause).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// Brings one batch into the view, to the end, unless the view stands elsewhere or the app is closed.
    async fn handle(&mut self, batch: ProjectionBatch) -> Result<(), Error> {
        self.prepare().await?;
        if !self.projection.mode().is_rebuild() {
            self.kept.status.lock().replaying = batch.replaying;
        }
        let options = &self.kept.options;
        let mut work = Work::new(
            batch.positions(),
            batch.position,
            &options.retry,
            options.poison,
        );
        while self.app.is_open() {
            match work.step() {
                Step::Done => {
                    self.kept.status.lock().error = None;
                    return Ok(());
                }
                Step::Wait { after } => {
                    let _span = self.span(names::RETRY, Vec::new);
                    let sleep = self.app.inner.plan.clock.sleep(after);
                    if self.app.unless_closed(sleep).await.is_none() {
                        break;
                    }
                    work.waited();
                }
                Step::Handle { events, position } => {
                    let save = self.projection.checkpoint(position);
                    let checkpoint = Checkpoint::to_save(
                        save,
                        self.projection.suffix(),
                        batch.replaying,
                        self.files.clone(),
                    );
                    let result = self
                        .call(&batch.events[events], &checkpoint, &mut work)
                        .await;
                    match (checkpoint.outcome(), result) {
                        (Some(Saved::Refused(row, _)), _) => {
                            return Ok(self.projection.found(row).await?);
                        }
                        (Some(Saved::Yes), true) => {
                            self.has_saved = true;
                            self.projection.saved(position).await?;
                            work.succeeded();
                        }
                        (None, true) => {
                            self.projection.handled(position).await?;
                            work.succeeded();
                        }
                        (_, false) => self.projection.failed(),
                    }
                }
                Step::GiveUp {
                    event,
                    poison,
                    reason,
                    position,
                } => {
                    self.give_up(&batch.events[event], &work, poison, reason)
                        .await?;
                    self.projection.handled(position).await?;
                    work.given_up();
                }
            }
        }
        self.projection.rewind();
        Ok(())
    }

    async fn prepare(&mut self) -> Result<(), Error> {
        if !self.projection.is_unprepared() {
            return Ok(());
        }
        if let Some(prepare) = &self.kept.model.prepare {
            let suffix = self.projection.suffix();
            let checkpoint = Checkpoint::to_prepare(suffix, self.files.clone());
            tend(prepare, checkpoint).await?;
        }
        self.projection.prepared();
        Ok(())
    }

    fn span(
        &self,
        name: &'static str,
        more: impl FnOnce() -> Vec<crate::telemetry::Attribute>,
    ) -> crate::telemetry::Span {
        self.app.inner.plan.telemetry.span(name, || {
            let mut attributes = vec![(names::HANDLER, self.kept.full_name.clone())];
            attributes.extend(more());
            attributes
        })
    }

    /// Calls the handler once; true if it succeeded, else `work` knows.
    async fn call(
        &self,
        events: &[RecordedEvent],
        checkpoint: &Checkpoint,
        work: &mut Work,
    ) -> bool {
        let mut span = self.span(names::PROJECTION_BATCH, || {
            let position = checkpoint.position().map_or(0, |p| p.0);
            vec![
                (names::PROJECTION_EVENTS, events.len().to_string()),
                (names::PROJECTION_POSITION, position.to_string()),
            ]
        });
        let now = self.app.inner.plan.clock.now();
        let call = match (self.kept.model.handle)(events, checkpoint.clone()) {
            Ok(call) => call,
            Err(error) => {
                span.fail(&error);
                work.undecodable(HandlerError::from(error).records(), now);
                return false;
            }
        };
        let result = AssertUnwindSafe(call)
            .catch_unwind()
            .await
            .unwrap_or_else(|panic| Err(panicked(&*panic)));
        let Err(error) = result else { return true };
        span.fail(&error);
        tracing::warn!(name = self.kept.full_name, events = events.len(), attempt = work.attempt(), %error, "a projection's handler failed");
        self.kept.status.lock().error = Some(error.to_string());
        self.failed(&error, work, self.app.inner.plan.clock.now());
        false
    }

    fn failed(&self, error: &HandlerError, work: &mut Work, now: Timestamp) {
        let draw = self.app.inner.plan.ids.draw();
        let records = error.records();
        match error {
            HandlerError::Rejected(_) => work.rejected(),
            HandlerError::RetryAfter(delay) => work.retry_after(*delay, records, now),
            HandlerError::Failed { error, .. } => {
                if is_away(&**error) {
                    return work.away(records, now, draw);
                }
                let types: Vec<String> = records.iter().map(|r| r.error_type.clone()).collect();
                work.failed(&types, records, now, draw);
            }
        }
    }

    async fn give_up(
        &self,
        event: &RecordedEvent,
        work: &Work,
        poison: Poison,
        reason: DeadLetterReason,
    ) -> Result<(), Error> {
        let error = self.kept.status.lock().error.clone().unwrap_or_default();
        match poison {
            Poison::Park => self.park(event, work, reason).await,
            Poison::Skip => {
                tracing::warn!(
                    name = self.kept.full_name,
                    position = event.position.0,
                    error,
                    "an event is skipped"
                );
                Ok(())
            }
            Poison::Stop => Err(SubscriptionError::Stopped {
                name: self.kept.full_name.clone(),
                position: event.position.0,
                reason: error,
            }
            .into()),
        }
    }

    /// Records the event as a dead letter, for as long as it takes: it counts as handled afterwards.
    async fn park(
        &self,
        event: &RecordedEvent,
        work: &Work,
        reason: DeadLetterReason,
    ) -> Result<(), Error> {
        let plan = &self.app.inner.plan;
        let now = plan.clock.now();
        let data = event.event().unwrap_or_else(|_| EventData {
            id: event.id,
            type_name: Arc::clone(&event.type_name),
            version: event.version,
            data: event.data.clone(),
            metadata: Metadata::root(event.id, event.occurred_at),
            occurred_at: event.occurred_at,
        });
        let to = Addressed {
            id: plan.ids.next_id(now),
            handler: self.kept.full_name.clone(),
            kind: MessageKind::Event,
            message_id: event.id,
            type_name: event.type_name.to_string(),
            topic: self
                .app
                .inner
                .registry
                .topic_for(&event.type_name)
                .unwrap_or_default(),
            body: wire::encode_event(&data).ok(),
            correlation_id: data.metadata.correlation_id.to_string(),
            trace_id: None,
        };
        let letter = work.dead_letter(reason, to, now);
        while let Err(error) = self.app.bury(letter.clone()).await {
            tracing::warn!(name = self.kept.full_name, position = event.position.0, %error, "an event could not be parked yet");
            let pause = plan.clock.sleep(AFTER_FAILURE);
            if self.app.unless_closed(pause).await.is_none() {
                return Err(StoreError::Closed {}.into());
            }
        }
        Ok(())
    }

    /// The whole rebuild.
    async fn rebuild(
        &mut self,
        switch: &Tend,
        report: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Progress, Error> {
        self.projection.open().await?;
        self.prepare().await?;
        self.catch_up(report).await?;
        self.projection.pause_live().await?;
        self.catch_up(report).await?;
        let progress = self.projection.progress().await?;
        let what = self.projection.switch().await?;
        let checkpoint = Checkpoint::to_switch(what, SUFFIX, self.files.clone());
        let result = match (tend(switch, checkpoint.clone()).await, checkpoint.outcome()) {
            // It may have swallowed that.
            (Ok(()), Some(Saved::Refused(_, refusal))) => Err(refusal),
            (Ok(()), None) if self.has_saved => Err(self.not_moved()),
            (result, _) => result,
        };
        match result {
            Ok(()) => {
                self.projection.switched().await?;
                report(progress);
                Ok(progress)
            }
            Err(error) => {
                self.projection.not_switched().await?;
                Err(error)
            }
        }
    }

    /// The switch function left the checkpoint where it was.
    fn not_moved(&self) -> Error {
        BusError::InvalidHandler {
            handler: self.kept.name.clone(),
            reason: "checkpoint.switch: it was not called, so the new view has no checkpoint"
                .into(),
        }
        .into()
    }

    async fn catch_up(&mut self, report: &(dyn Fn(Progress) + Send + Sync)) -> Result<(), Error> {
        loop {
            self.open_or_closed()?;
            let failed = match self.projection.try_next().await {
                Ok(None) => return Ok(()),
                Ok(Some(batch)) => match self.handle(batch).await {
                    Ok(()) => {
                        report(self.projection.progress().await?);
                        continue;
                    }
                    Err(error) => error,
                },
                Err(error) => error.into(),
            };
            if !matches!(&failed, Error::Store(error) if error.is_transient()) {
                return Err(failed);
            }
            tracing::warn!(name = self.kept.full_name, error = %failed, "a rebuild cannot go on now");
            self.projection.rewind();
            let pause = self.app.inner.plan.clock.sleep(AFTER_FAILURE);
            self.app.unless_closed(pause).await;
        }
    }

    fn open_or_closed(&self) -> Result<(), Error> {
        if self.app.is_open() {
            return Ok(());
        }
        Err(AppError::Closed {
            app: self.app.name().to_owned(),
        }
        .into())
    }
}

/// Runs a `prepare` or `switch` of the user.
async fn tend(what: &Tend, checkpoint: Checkpoint) -> Result<(), Error> {
    let result = AssertUnwindSafe(what(checkpoint)).catch_unwind().await;
    Ok(result.unwrap_or_else(|panic| Err(panicked(&*panic)))?)
}

/// Whether the error says that something is away that comes back.
fn is_away(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    if let Some(error) = own(error) {
        return match &error {
            Error::Handler(inner) => driver_is_away(&**inner),
            other => other.is_transient(),
        };
    }
    driver_is_away(error)
}

fn driver_is_away(error: &(dyn std::error::Error + 'static)) -> bool {
    #[cfg(feature = "postgres")]
    if let Some(error) = error.downcast_ref::<tokio_postgres::Error>() {
        let code = error.code().map(|code| code.code().to_owned());
        return error.is_closed()
            || code.is_some_and(|code| crate::projection::is_outage(&[code], &[]));
    }
    #[cfg(feature = "sqlite")]
    if let Some(error) = error.downcast_ref::<rusqlite::Error>() {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull};
        let code = error.sqlite_error_code();
        return matches!(code, Some(DatabaseBusy | DatabaseLocked | DiskFull));
    }
    error.is::<std::io::Error>()
}

/// A rebuild to be awaited: made by [`Orkestra::rebuild`].
#[must_use = "nothing is rebuilt before it is awaited"]
pub struct Rebuild {
    app: Orkestra,
    name: String,
    resume: bool,
    report: Arc<dyn Fn(Progress) + Send + Sync>,
}

impl fmt::Debug for Rebuild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rebuild({})", self.name)
    }
}

impl Rebuild {
    /// Goes on where a rebuild that did not come to its end stopped, with the same handler. Default: it begins again.
    pub fn resume(mut self) -> Self {
        self.resume = true;
        self
    }

    /// Calls `f` after each batch.
    pub fn on_progress(mut self, f: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.report = Arc::new(f);
        self
    }

    async fn run(self) -> Result<Progress, Error> {
        let app = &self.app;
        app.check()?;
        let mut all = app.inner.projections.iter();
        let Some(kept) = all.find(|kept| kept.name == self.name) else {
            return Err(ProjectionError::Unknown { name: self.name }.into());
        };
        let Some(switch) = kept.model.switch.clone() else {
            return Err(ProjectionError::NoSwitch { name: self.name }.into());
        };
        if std::mem::replace(&mut kept.status.lock().rebuilding, true) {
            let name = kept.full_name.clone();
            return Err(ProjectionError::RebuildRunning { name }.into());
        }
        let _done = Rebuilding(Arc::clone(kept));
        let mode = Mode::Rebuild {
            resume: self.resume,
        };
        let mut keeper = Keeper::new(app, kept, mode);
        let result = keeper.rebuild(&switch, &*self.report).await;
        keeper.release().await;
        result
    }
}

/// Says that it is over, also when the future is dropped.
struct Rebuilding(Arc<Kept>);

impl Drop for Rebuilding {
    fn drop(&mut self) {
        self.0.status.lock().rebuilding = false;
    }
}

impl IntoFuture for Rebuild {
    type Output = Result<Progress, Error>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl Orkestra {
    /// Builds the projection `name` anew beside its live view, from the log's first event on, and puts it in its place when it has caught up. The live
    /// view is read and kept meanwhile; for the moment of the switch it waits, in whichever process it is kept.
    ///
    /// ```no_run
    /// # async fn run(app: orkestra::Orkestra) -> Result<(), orkestra::Error> {
    /// app.rebuild("board").on_progress(|p| println!("{:?} of {:?}", p.position, p.head)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Whatever ends in between leaves either the old view or the new one. Dropping the future ends the rebuild; it can be
    /// [resumed](Rebuild::resume) or begun again.
    ///
    /// # Errors
    /// [`ProjectionError`]; [`SubscriptionError::Stopped`] where the poison policy is to stop; what the stores say, and `prepare` and `switch`.
    pub fn rebuild(&self, name: impl Into<String>) -> Rebuild {
        Rebuild {
            app: self.clone(),
            name: name.into(),
            resume: false,
            report: Arc::new(|_| {}),
        }
    }

    /// How far the app's projections are, in whichever process they run.
    ///
    /// # Errors
    /// What the stores say.
    pub async fn projections(&self) -> Result<Vec<ProjectionState>, Error> {
        self.check()?;
        self.states().await
    }

    pub(super) async fn states(&self) -> Result<Vec<ProjectionState>, Error> {
        let mut states = Vec::new();
        for kept in &self.inner.projections {
            let mut state = self
                .inner
                .services
                .projection_state(&kept.full_name)
                .await?;
            state.name.clone_from(&kept.name);
            let stopped = self.inner.stopped.lock().get(&kept.full_name).cloned();
            state.stopped = stopped.map(|stopped| stopped.to_string());
            let status = kept.status.lock();
            state.running = status.running;
            state.replaying = status.replaying;
            state.rebuilding = status.rebuilding;
            state.error.clone_from(&status.error);
            states.push(state);
        }
        Ok(states)
    }
}
