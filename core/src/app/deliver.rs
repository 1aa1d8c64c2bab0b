//! One message to one handler: slots, attempts, waits, dead letters. The decisions are [`Delivery`]'s.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc};

use bytes::Bytes;
use futures_util::future::{Either, FutureExt, select};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Envelope, Next, Orkestra,
    context::{Context, Handling, current, handling},
    handler::{Answer, BoxFuture, HandlerError, Inbound},
};
use crate::{
    Error,
    delivery::{Addressed, Delivery, Next as Step},
    message::MessageKind,
    ports::{BusError, DeadLetter, DeadLetterReason, ErrorRecord, StoreError},
    registry::{HandlerIndex, HandlerInfo},
    telemetry::names,
};

/// A message on its way to one handler.
pub(super) struct Parcel {
    pub(super) handler: HandlerIndex,
    pub(super) inbound: Inbound,
    pub(super) handling: Arc<Handling>,
    pub(super) type_name: Arc<str>,
    pub(super) delivery: Delivery,
}

/// Why a message was given up, and the last error.
pub(super) type GivenUp = (DeadLetterReason, HandlerError);

/// What an attempt came to.
pub(super) enum Attempt {
    Done(Answer),
    Retry(std::time::Duration, HandlerError),
    GiveUp(DeadLetterReason, HandlerError),
}

impl Parcel {
    fn info<'a>(&self, app: &'a Orkestra) -> &'a HandlerInfo {
        app.inner.registry.handler(self.handler)
    }

    /// A slot of the handler; waits in line for one.
    pub(super) async fn slot(&self, app: &Orkestra) -> Option<OwnedSemaphorePermit> {
        let slots = Arc::clone(&app.inner.handlers[&self.handler].slots);
        slots.acquire_owned().await.ok()
    }

    /// A slot if one is free now.
    pub(super) fn try_slot(&self, app: &Orkestra) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&app.inner.handlers[&self.handler].slots)
            .try_acquire_owned()
            .ok()
    }

    /// A slot for a sender that waits for the answer. Inside a handler waiting could be for oneself, so there it is done without one
    /// (`docs/decisions/0003-slots-in-process.md`).
    async fn turn(&self, app: &Orkestra) -> Option<OwnedSemaphorePermit> {
        if current().is_some() {
            self.try_slot(app)
        } else {
            self.slot(app).await
        }
    }

    /// Calls the handler once.
    pub(super) async fn attempt(&mut self, app: &Orkestra) -> Attempt {
        let attempt = self.delivery.begin();
        let info = self.info(app);
        let (span_name, type_key, id_key) = match self.handling.kind {
            MessageKind::Command => (
                names::COMMAND_HANDLE,
                names::COMMAND_TYPE,
                names::COMMAND_ID,
            ),
            MessageKind::Event => (names::EVENT_HANDLE, names::EVENT_TYPE, names::EVENT_ID),
        };
        let mut span = app.inner.plan.telemetry.span(span_name, || {
            vec![
                (type_key, self.type_name.to_string()),
                (id_key, self.handling.id.to_string()),
                (
                    names::CORRELATION_ID,
                    self.handling.metadata.correlation_id.to_string(),
                ),
                (names::HANDLER, info.full_name.clone()),
            ]
        });
        let context = Context {
            app: app.clone(),
            handling: Arc::clone(&self.handling),
            handler: self.handler,
            attempt,
        };
        let registered = &app.inner.handlers[&self.handler];
        let call = match (registered.call)(self.inbound.clone(), context) {
            Ok(call) => call,
            Err(error) => {
                span.fail(&error);
                // It would not be another time.
                let (reason, error) = self.undecodable(app, error.into());
                return Attempt::GiveUp(reason, error);
            }
        };
        let answer = self.call(app, attempt, call).await;
        let Err(error) = answer else {
            return Attempt::Done(answer);
        };
        span.fail(&error);
        let now = app.inner.plan.clock.now();
        let records = error.records();
        let step = match &error {
            HandlerError::Rejected(_) => return Attempt::Done(Err(error)),
            HandlerError::RetryAfter(delay) => self.delivery.retry_after(*delay, records, now),
            HandlerError::Failed { .. } => {
                let types: Vec<String> = records.iter().map(|r| r.error_type.clone()).collect();
                self.delivery
                    .failed(&types, records, now, app.inner.plan.ids.draw())
            }
        };
        match step {
            Step::Retry { after } => Attempt::Retry(after, error),
            Step::DeadLetter { reason } => Attempt::GiveUp(reason, error),
        }
    }

    async fn call(&self, app: &Orkestra, attempt: u32, call: BoxFuture<Answer>) -> Answer {
        let info = self.info(app);
        let chain = &app.inner.around_handle;
        let work = async {
            if chain.is_empty() {
                return handling(Arc::clone(&self.handling), call).await;
            }
            let envelope = Envelope {
                kind: self.handling.kind,
                id: self.handling.id,
                type_name: Arc::clone(&self.type_name),
                topic: app
                    .inner
                    .registry
                    .topic_for(&self.type_name)
                    .unwrap_or_default(),
                metadata: self.handling.metadata.clone(),
                handler: Some(info.full_name.clone()),
                attempt,
            };
            let inner = Next::new(chain, &envelope, move || call).run();
            handling(Arc::clone(&self.handling), inner).await
        };
        // A panic is this handler's failure: nobody else's, and not the end of the task that reads the log.
        let work = AssertUnwindSafe(work)
            .catch_unwind()
            .map(|answer| answer.unwrap_or_else(|panic| Err(panicked(&*panic))));
        let Some(limit) = info.options.timeout else {
            return work.await;
        };
        let work = std::pin::pin!(work);
        match select(work, app.inner.plan.clock.sleep(limit)).await {
            Either::Left((answer, _)) => answer,
            Either::Right(((), _)) => Err(BusError::HandlerTimeout {
                handler: info.full_name.clone(),
                seconds: limit.as_secs_f64(),
            }
            .into()),
        }
    }

    /// Attempts until there is an answer or the message is to be given up. Between the attempts it holds no slot.
    pub(super) async fn run_to_the_end(&mut self, app: &Orkestra) -> Result<Answer, GivenUp> {
        loop {
            let slot = self.turn(app).await;
            let attempt = self.attempt(app).await;
            drop(slot);
            match attempt {
                Attempt::Done(answer) => return Ok(answer),
                Attempt::Retry(after, error) => {
                    if !self.wait(app, after).await {
                        return Err((DeadLetterReason::RetriesExhausted, error));
                    }
                }
                Attempt::GiveUp(reason, error) => return Err((reason, error)),
            }
        }
    }

    /// Notes that the handler cannot be called, because of `error`.
    pub(super) fn undecodable(&mut self, app: &Orkestra, error: HandlerError) -> GivenUp {
        let now = app.inner.plan.clock.now();
        let _ = self.delivery.failed(&[], error.records(), now, 0.0);
        (DeadLetterReason::Undecodable, error)
    }

    /// Waits before the next attempt; false if the app is closed before there can be one.
    pub(super) async fn wait(&self, app: &Orkestra, after: std::time::Duration) -> bool {
        let _span = app.inner.plan.telemetry.span(names::RETRY, || {
            vec![(names::HANDLER, self.info(app).full_name.clone())]
        });
        let sleep = app.inner.plan.clock.sleep(after);
        app.unless_closed(sleep).await.is_some()
    }

    /// Records the dead letter and tells those who want to know. It never fails: what cannot be recorded is logged.
    pub(super) async fn give_up(&self, app: &Orkestra, reason: DeadLetterReason) {
        let letter = self.dead_letter(app, reason);
        if let Err(error) = app.bury(letter.clone()).await {
            tracing::error!(handler = letter.handler, message_id = %letter.message_id, %error, "a dead letter could not be recorded");
            app.announce(&letter);
        }
    }

    /// The dead letter of this parcel.
    pub(super) fn dead_letter(&self, app: &Orkestra, reason: DeadLetterReason) -> DeadLetter {
        let now = app.inner.plan.clock.now();
        let body = app.body_of(self);
        let letter = self.delivery.dead_letter(
            reason,
            Addressed {
                id: app.inner.plan.ids.next_id(now),
                handler: self.info(app).full_name.clone(),
                kind: self.handling.kind,
                message_id: self.handling.id,
                type_name: self.type_name.to_string(),
                topic: app
                    .inner
                    .registry
                    .topic_for(&self.type_name)
                    .unwrap_or_default(),
                body: body.as_ref().ok().cloned(),
                correlation_id: self.handling.metadata.correlation_id.to_string(),
                trace_id: self.handling.trace.trace_id(),
            },
            now,
        );
        with_error(letter, body)
    }
}

pub(super) fn panicked(panic: &(dyn Any + Send)) -> HandlerError {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message");
    HandlerError::text(format!("the handler panicked: {text}"))
}

fn with_error(mut letter: DeadLetter, body: Result<Bytes, Error>) -> DeadLetter {
    if let Err(error) = body {
        letter.errors.push(ErrorRecord {
            error_type: "MessageError".into(),
            message: format!("the body could not be encoded: {error}"),
            trace: String::new(),
        });
    }
    letter
}

impl Orkestra {
    /// The body of a parcel as on the wire.
    fn body_of(&self, parcel: &Parcel) -> Result<Bytes, Error> {
        self.encode_inbound(
            &parcel.inbound,
            parcel.handling.kind,
            &parcel.type_name,
            parcel.handling.id,
            &parcel.handling.metadata,
        )
    }

    /// Records `letter` and announces it.
    pub(super) async fn bury(&self, letter: DeadLetter) -> Result<(), StoreError> {
        let letter = self.inner.services.dead_letters.record(letter).await?;
        self.announce(&letter);
        Ok(())
    }

    pub(super) fn announce(&self, letter: &DeadLetter) {
        tracing::warn!(handler = letter.handler, message_id = %letter.message_id, reason = letter.reason.as_str(), attempts = letter.attempts, "a message was given up");
        for listener in &self.inner.on_dead_letter {
            listener(letter);
        }
    }
}
