//! Where hosts put what they say of deliveries, on its way to the consumer's task.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use futures_util::{
    future::{Either, select},
    task::AtomicWaker,
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::ports::{BusError, Settle, Settlement};

/// Bits of a tag that are the channel's own; the channel's number stands above them.
const TAG_BITS: u32 = 40;

/// What the task is told.
#[derive(Debug)]
pub(super) enum Note {
    /// By a host.
    Settled(u64, Settlement),
    /// The copy of a delivery has been published, or not.
    Copied(u64, Result<(), BusError>),
}

/// The settlements of one handler's deliveries.
#[derive(Default)]
pub(super) struct Desk {
    state: Mutex<State>,
    waker: AtomicWaker,
}

/// What is still to come.
#[derive(Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    #[default]
    Running,
    /// Nothing more is to be delivered.
    Pausing,
    /// Nothing more will be.
    Paused,
    /// And everything is settled.
    Drained,
}

#[derive(Default)]
struct State {
    notes: Vec<Note>,
    /// The number of the channel: what is settled of an earlier one is settled already, by coming again.
    channel: u64,
    /// Deliveries that hosts have not settled.
    open: usize,
    /// Whether the task looks here soon by itself.
    armed: bool,
    /// So many are taken note of before the task is woken all the same.
    batch: usize,
    phase: Phase,
    on_paused: Vec<oneshot::Sender<()>>,
    on_drained: Vec<oneshot::Sender<()>>,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Desk({} open)", self.state.lock().open)
    }
}

impl Settle for Desk {
    fn settle(&self, tag: u64, settlement: Settlement) {
        let wake = {
            let mut state = self.state.lock();
            if tag >> TAG_BITS != state.channel {
                return;
            }
            state.open = state.open.saturating_sub(1);
            let plain = matches!(settlement, Settlement::Done { reply: None });
            state.notes.push(Note::Settled(tag, settlement));
            !state.armed || !plain || state.open == 0 || state.notes.len() == state.batch
        };
        if wake {
            self.waker.wake();
        }
    }
}

impl Desk {
    /// The copy of `tag` has been published, or not.
    pub(super) fn copied(&self, tag: u64, outcome: Result<(), BusError>) {
        {
            let mut state = self.state.lock();
            if tag >> TAG_BITS != state.channel {
                return;
            }
            state.notes.push(Note::Copied(tag, outcome));
        }
        self.waker.wake();
    }

    pub(super) fn is_current(&self, tag: u64) -> bool {
        tag >> TAG_BITS == self.state.lock().channel
    }

    /// A new channel: forgets what was said of the last one.
    pub(super) fn begin(&self) {
        let mut state = self.state.lock();
        state.channel += 1;
        state.notes.clear();
        state.open = 0;
        state.armed = false;
    }

    /// The broker's tag with the channel's number.
    pub(super) fn tag(&self, delivery: u64) -> u64 {
        (self.state.lock().channel << TAG_BITS) | delivery
    }

    pub(super) fn delivery(tag: u64) -> u64 {
        tag & ((1 << TAG_BITS) - 1)
    }

    /// So many have been handed to hosts.
    pub(super) fn opened(&self, count: usize) {
        self.state.lock().open += count;
    }

    /// Takes the notes; returns how many deliveries hosts have in hand.
    pub(super) fn take(&self, context: &std::task::Context<'_>, into: &mut Vec<Note>) -> usize {
        self.waker.register(context.waker());
        let mut state = self.state.lock();
        into.append(&mut state.notes);
        state.open
    }

    /// Whether the task looks here soon by itself, and how many notes it does not wait for. True if there is something already that it does not
    /// know of.
    pub(super) fn arm(&self, armed: bool, batch: usize) -> bool {
        let mut state = self.state.lock();
        (state.armed, state.batch) = (armed, batch);
        !armed && !state.notes.is_empty()
    }

    /// Asks the task to deliver nothing more; told when the broker has confirmed it.
    pub(super) fn pause(&self) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        {
            let mut state = self.state.lock();
            state.phase = state.phase.max(Phase::Pausing);
            if state.phase >= Phase::Paused {
                // Who asked waits on the other end.
                let _ = tell.send(());
            } else {
                state.on_paused.push(tell);
            }
        }
        self.waker.wake();
        told
    }

    pub(super) fn is_pausing(&self) -> bool {
        self.state.lock().phase >= Phase::Pausing
    }

    /// Whether nothing more comes and everything is settled.
    pub(super) fn is_drained(&self) -> bool {
        self.state.lock().phase == Phase::Drained
    }

    /// Runs `future` to its end; `None` when nothing more is to be delivered.
    pub(super) async fn unless_pausing<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let pausing = poll_fn(|context| {
            self.waker.register(context.waker());
            if self.is_pausing() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        match select(pin!(pausing), pin!(future)).await {
            Either::Left(((), _)) => None,
            Either::Right((outcome, _)) => Some(outcome),
        }
    }

    pub(super) fn set_paused(&self) {
        let told = {
            let mut state = self.state.lock();
            state.phase = state.phase.max(Phase::Paused);
            std::mem::take(&mut state.on_paused)
        };
        tell_all(told);
    }

    /// Told when a paused consumer has nothing in hand any more.
    pub(super) fn drained(&self) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        {
            let mut state = self.state.lock();
            if state.phase == Phase::Drained {
                // Who asked waits on the other end.
                let _ = tell.send(());
            } else {
                state.on_drained.push(tell);
            }
        }
        self.waker.wake();
        told
    }

    pub(super) fn set_drained(&self) {
        let told = {
            let mut state = self.state.lock();
            state.phase = Phase::Drained;
            std::mem::take(&mut state.on_drained)
        };
        tell_all(told);
    }
}

fn tell_all(told: Vec<oneshot::Sender<()>>) {
    for tell in told {
        // Who waited may have gone.
        let _ = tell.send(());
    }
}
