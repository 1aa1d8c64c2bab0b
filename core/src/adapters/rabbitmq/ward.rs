//! Messages that may have ended their process: each is handled alone, so that the broker counts no other one with it.
//!
//! When one comes, nothing more is taken, what is in hand is finished, the other suspects go to the end of the queue, and this one is handled.
//! After that one message at a time is taken until one comes that never came back.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use lapin::{
    Channel,
    options::{BasicCancelOptions, BasicQosOptions},
};
use tokio::time::timeout;

use super::{
    consumer::consume,
    error::{bus_error, unavailable},
    returns::Verdict,
    session::{End, Session},
    topology::short,
};
use crate::ports::{Arrived, BusError};

/// How long the broker is given to confirm that it delivers no more.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a consumer takes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// As many as its prefetch says.
    Normal,
    /// No more: what is in hand is finished.
    Finishing,
    /// No more: one suspect is in hand, and the broker is asked whether it has read every acknowledgement.
    Last,
    /// No more: that suspect is being handled.
    Alone,
    /// One at a time.
    Careful,
    /// None any more: the bus is closed.
    Paused,
}

impl Session<'_> {
    /// Whether a delivery goes to the host now.
    pub(super) fn admit(
        &mut self,
        arrived: Arrived,
        returns: u32,
        verdict: Verdict,
    ) -> Option<Arrived> {
        if self.prefetch == 1 {
            return Some(arrived);
        }
        match (self.mode, verdict) {
            (Mode::Normal | Mode::Finishing, Verdict::Suspect) => {
                if self.mode == Mode::Normal {
                    tracing::warn!(
                        queue = self.consumer.queue,
                        id = ?arrived.raw.id,
                        returns,
                        "a message came back without an answer; it is handled alone"
                    );
                    self.mode = Mode::Finishing;
                }
                self.consumer.desk.opened(1);
                self.suspects.push(arrived);
                None
            }
            (Mode::Careful, _) if returns == 0 => {
                self.mode = Mode::Normal;
                Some(arrived)
            }
            _ => Some(arrived),
        }
    }

    /// Goes from one mode to the next when it is time.
    pub(super) fn turn(&mut self, context: &mut Context<'_>) -> Result<(), End> {
        while self.switched(context)? {
            if self.consumer.desk.is_pausing() && self.mode != Mode::Paused {
                self.pause();
            } else {
                self.next_mode();
            }
            if self.switching.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Whether no change of the deliveries is under way.
    fn switched(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        let Some(switching) = &mut self.switching else {
            return Ok(true);
        };
        let Poll::Ready(outcome) = switching.as_mut().poll(context) else {
            return Ok(false);
        };
        let deliveries = outcome.map_err(End::Lost)?;
        // What came before the answer is in the stream already.
        while self.deliveries.is_some() && self.deliver(context)? > 0 {}
        self.switching = None;
        self.deliveries = deliveries;
        // The new stream has not been looked at yet.
        context.waker().wake_by_ref();
        Ok(true)
    }

    fn next_mode(&mut self) {
        match self.mode {
            Mode::Normal if self.taking != self.prefetch => self.take_up(self.prefetch),
            Mode::Finishing if self.deliveries.is_some() => self.stop(),
            Mode::Finishing if self.suspects.len() > 1 => {
                // Given back, a suspect goes to the end of the queue. The last stays, so that one frame acknowledges those before it.
                self.suspects.drain(..self.suspects.len() - 1);
            }
            Mode::Finishing if self.tracker.open() == 1 && self.tracker.done_count() == 0 => {
                self.mode = Mode::Last;
                self.ask();
            }
            Mode::Last => {
                self.mode = Mode::Alone;
                let alone = std::mem::take(&mut self.suspects);
                if let Some(inbox) = self.inbox.as_ref() {
                    inbox.put(alone);
                }
            }
            Mode::Alone if self.is_settled() => {
                self.mode = Mode::Careful;
                self.take_up(1);
            }
            _ => {}
        }
    }

    /// Stops the deliveries, and gives back what nobody has opened.
    fn pause(&mut self) {
        if self.deliveries.is_some() {
            return self.stop();
        }
        self.mode = Mode::Paused;
        self.suspects.clear();
        if let Some(inbox) = self.inbox.take() {
            drop(inbox.recall());
        }
        self.consumer.set_health(false, None);
        self.consumer.desk.set_paused();
    }

    /// Whether the deliveries are being changed, or are about to be.
    pub(super) fn is_turning(&self) -> bool {
        let turning = match self.mode {
            Mode::Normal => self.taking != self.prefetch,
            Mode::Finishing => self.deliveries.is_some(),
            Mode::Last | Mode::Alone | Mode::Careful | Mode::Paused => false,
        };
        turning || self.switching.is_some()
    }

    /// Waits until the broker has read what was sent to it. An acknowledgement on its way is lost when the process ends, and what it was for would
    /// count as returned.
    fn ask(&mut self) {
        let channel = self.channel.clone();
        self.switching = Some(Box::pin(async move {
            let asked = channel.basic_qos(1, BasicQosOptions::default());
            timeout(PATIENCE, asked)
                .await
                .map_err(|_| unavailable("the broker does not answer"))?
                .map_err(|error| bus_error(&error))?;
            Ok(None)
        }));
    }

    fn stop(&mut self) {
        let Some(deliveries) = &self.deliveries else {
            return;
        };
        let (channel, tag) = (self.channel.clone(), deliveries.tag());
        self.switching = Some(Box::pin(async move {
            cancel(&channel, tag).await?;
            Ok(None)
        }));
    }

    /// Takes messages again, `prefetch` at a time.
    fn take_up(&mut self, prefetch: u16) {
        self.taking = prefetch;
        self.restarts += 1;
        let restarts = self.restarts;
        let channel = self.channel.clone();
        let consumer = Arc::clone(self.consumer);
        let tag = self.deliveries.as_ref().map(lapin::Consumer::tag);
        self.switching = Some(Box::pin(async move {
            if let Some(tag) = tag {
                cancel(&channel, tag).await?;
            }
            let tag = short(&format!("{restarts}.{}", consumer.spec.address.handler));
            consume(&channel, &consumer.queue, tag, prefetch)
                .await
                .map(Some)
        }));
    }
}

/// Ends an error when the broker has gone silent, which its missing heartbeats tell much later: closing must not wait for that.
async fn cancel(channel: &Channel, tag: lapin::types::ShortString) -> Result<(), BusError> {
    let cancelled = channel.basic_cancel(tag, BasicCancelOptions::default());
    timeout(PATIENCE, cancelled)
        .await
        .map_err(|_| unavailable("the broker does not confirm that it delivers no more"))?
        .map_err(|error| bus_error(&error))
}
