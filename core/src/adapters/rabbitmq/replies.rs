//! Answers to commands: one queue per bus, matched by the command's id.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use lapin::{options::BasicConsumeOptions, types::FieldTable};
use parking_lot::Mutex;
use tokio::{sync::oneshot, time::sleep};
use uuid::Uuid;

use super::{
    Core,
    error::bus_error,
    topology::{Topology, short},
};
use crate::ports::BusError;

/// The questions that wait for an answer.
pub(super) struct Replies {
    /// The queue's name, the same after a reconnect: who answers late must find it.
    pub(super) queue: Arc<str>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By the command's id; one may be asked again before its answer is there.
    asked: HashMap<Uuid, Vec<(u64, oneshot::Sender<Bytes>)>>,
    /// Questions so far.
    count: u64,
    listening: Listening,
}

#[derive(Default)]
enum Listening {
    #[default]
    Never,
    /// For the first time; who asks meanwhile waits here.
    Starting(Vec<oneshot::Sender<Result<(), BusError>>>),
    Yes,
}

/// A question: forgotten when dropped.
pub(super) struct Question {
    id: Uuid,
    number: u64,
    core: Arc<Core>,
    pub(super) answer: oneshot::Receiver<Bytes>,
}

impl Drop for Question {
    fn drop(&mut self) {
        let mut state = self.core.replies.state.lock();
        if let Some(asked) = state.asked.get_mut(&self.id) {
            asked.retain(|(number, _)| *number != self.number);
            if asked.is_empty() {
                state.asked.remove(&self.id);
            }
        }
    }
}

impl Replies {
    pub(super) fn new(app: &str) -> Self {
        let mut bytes = [0; 16];
        // Without randomness two processes would share a queue; the process id is the second best.
        if getrandom::fill(&mut bytes).is_err() {
            bytes[..4].copy_from_slice(&std::process::id().to_be_bytes());
        }
        let id = uuid::Builder::from_random_bytes(bytes).into_uuid();
        Self {
            queue: format!("orkestra.reply.{app}.{id}").into(),
            state: Mutex::default(),
        }
    }

    /// Registers the question `id`.
    pub(super) fn ask(core: &Arc<Core>, id: Uuid) -> Question {
        let (tell, answer) = oneshot::channel();
        let number = {
            let mut state = core.replies.state.lock();
            state.count += 1;
            let number = state.count;
            state.asked.entry(id).or_default().push((number, tell));
            number
        };
        Question {
            id,
            number,
            core: Arc::clone(core),
            answer,
        }
    }

    fn answered(&self, id: Option<&str>, body: &Bytes) {
        let asked = id
            .and_then(|id| Uuid::try_parse(id).ok())
            .and_then(|id| self.state.lock().asked.remove(&id));
        if asked.is_none() {
            tracing::debug!(?id, "an answer that nobody waits for is dropped");
        }
        for (_, asked) in asked.into_iter().flatten() {
            // Who asked may have gone just now.
            let _ = asked.send(body.clone());
        }
    }

    /// No answer comes any more; who waits for one is told that the bus is closed.
    pub(super) fn close(&self) {
        drop(std::mem::take(&mut self.state.lock().asked));
    }

    /// Ends when answers are listened to. The first caller starts that, on the bus's own runtime.
    pub(super) fn listen(core: &Arc<Core>) -> Option<oneshot::Receiver<Result<(), BusError>>> {
        let (tell, told) = oneshot::channel();
        let mut state = core.replies.state.lock();
        match &mut state.listening {
            Listening::Yes => return None,
            Listening::Starting(waiting) => waiting.push(tell),
            never @ Listening::Never => {
                *never = Listening::Starting(vec![tell]);
                tokio::spawn(run(Arc::clone(core)));
            }
        }
        Some(told)
    }

    fn started(&self, outcome: &Result<(), BusError>) {
        let listening = match outcome {
            Ok(()) => Listening::Yes,
            Err(_) => Listening::Never,
        };
        let before = std::mem::replace(&mut self.state.lock().listening, listening);
        if let Listening::Starting(waiting) = before {
            for tell in waiting {
                // Who asked may have gone.
                let _ = tell.send(outcome.clone());
            }
        }
    }
}

async fn run(core: Arc<Core>) {
    let first = match core.consume.get_first().await {
        Ok(_) => open(&core).await,
        Err(error) => Err(error),
    };
    let mut opened = match first {
        Ok(opened) => {
            core.replies.started(&Ok(()));
            Some(opened)
        }
        Err(error) => return core.replies.started(&Err(error)),
    };
    loop {
        let next = match opened.take() {
            Some(opened) => Ok(opened),
            None => open(&core).await,
        };
        match next {
            Ok((_channel, mut deliveries)) => {
                while let Some(Ok(delivery)) = deliveries.next().await {
                    let id = delivery.properties.correlation_id();
                    let id = id.as_ref().map(std::borrow::Borrow::borrow);
                    core.replies.answered(id, &Bytes::from(delivery.data));
                }
            }
            Err(BusError::Closed {}) => return,
            Err(error) => tracing::debug!(%error, "answers cannot be listened to yet"),
        }
        let delay = core.consume.delay().max(Duration::from_millis(20));
        sleep(delay).await;
    }
}

async fn open(core: &Arc<Core>) -> Result<(lapin::Channel, lapin::Consumer), BusError> {
    let live = core.consume.get().await?;
    let channel = live.channel().await?;
    let topology = Topology {
        config: &core.config,
    };
    topology.replies(&channel, &core.replies.queue).await?;
    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let deliveries = channel
        .basic_consume(
            short(&core.replies.queue),
            "replies".into(),
            options,
            FieldTable::default(),
        )
        .await
        .map_err(|error| bus_error(&error))?;
    Ok((channel, deliveries))
}
