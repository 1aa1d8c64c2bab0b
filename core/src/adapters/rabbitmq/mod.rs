//! RabbitMQ as the bus between processes.
//!
//! Everything that speaks to the broker runs on one thread of the bus's own, `orkestra-rabbitmq`, and on lapin's thread per connection. Callers put
//! what they want into queues and wait for wakers, so the port's futures need no runtime. Time limits of the network are in real time, whatever
//! clock is injected; the clock only says what time it is.

mod config;
mod consumer;
mod copies;
mod error;
mod headers;
mod ladder;
mod letters;
mod link;
mod publisher;
mod replies;
mod returns;
mod session;
mod settle;
mod tls;
mod topology;
mod tracker;
mod ward;

use std::{
    fmt, fs, process,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
pub use config::RabbitmqConfig;
use futures_util::future::{Either, select};
use lapin::types::ShortString;
use parking_lot::Mutex;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::oneshot,
    time::{Instant, timeout_at},
};
use uuid::Uuid;

use self::{
    consumer::Consumer,
    link::Link,
    publisher::{Content, Done, Item, Publisher, Requeue},
    replies::Replies,
    topology::home_queue,
};
use crate::{
    clock::Clock,
    ports::{
        BrokerLetter, Bus, BusError, BusHealth, ConsumerSpec, HandlerAddress, Inbox, Outgoing,
        TakeLetter,
    },
};

/// How long a connection is given to be closed politely.
const POLITE: Duration = Duration::from_secs(1);

/// A bus over RabbitMQ.
pub struct RabbitmqBus {
    core: Arc<Core>,
    runtime: Mutex<Option<Started>>,
}

/// The bus's thread, and the process that started it.
struct Started {
    runtime: Runtime,
    process: u32,
}

/// What the tasks of a bus share.
struct Core {
    config: Arc<RabbitmqConfig>,
    app: ShortString,
    clock: Arc<dyn Clock>,
    publish: Arc<Link>,
    consume: Arc<Link>,
    publisher: Publisher,
    replies: Replies,
    consumers: Mutex<Vec<Arc<Consumer>>>,
    /// The largest body that the broker takes, as far as it has said.
    largest: AtomicUsize,
    closed: AtomicBool,
}

impl Core {
    /// The handler that this bus consumes `queue` for.
    fn handler_of(&self, queue: &str) -> Option<String> {
        let consumers = self.consumers.lock();
        let consumer = consumers.iter().find(|c| c.queue == queue)?;
        Some(consumer.spec.address.handler.clone())
    }

    fn forget(&self, consumer: &Arc<Consumer>) {
        self.consumers.lock().retain(|c| !Arc::ptr_eq(c, consumer));
    }
}

impl fmt::Debug for RabbitmqBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RabbitmqBus({:?})", self.core.config)
    }
}

impl RabbitmqBus {
    /// A bus for the app of that (underscored) name. It connects when it is first needed.
    ///
    /// # Errors
    /// [`BusError::Unavailable`] if its thread cannot be started.
    pub fn open(
        config: RabbitmqConfig,
        app: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BusError> {
        let config = Arc::new(config);
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let link = |what: &str| {
            let name = format!("{app}@{} pid {} {what}", host.trim(), process::id());
            Arc::new(Link::new(Arc::clone(&config), name))
        };
        Ok(Self {
            core: Arc::new(Core {
                app: topology::short(app),
                clock,
                publish: link("publish"),
                consume: link("consume"),
                publisher: Publisher::default(),
                replies: Replies::new(app),
                consumers: Mutex::default(),
                largest: AtomicUsize::new(usize::MAX),
                closed: AtomicBool::new(false),
                config,
            }),
            runtime: Mutex::default(),
        })
    }

    /// The bus's own runtime, started when it is first needed: so a bus that was made before a fork works in the child.
    fn runtime(&self) -> Result<Handle, BusError> {
        if self.is_closed() {
            return Err(BusError::Closed {});
        }
        let mut runtime = self.runtime.lock();
        if let Some(started) = &*runtime {
            if started.process != process::id() {
                return Err(error::unavailable(
                    "it was used before this process was forked: open it after the fork",
                ));
            }
            return Ok(started.runtime.handle().clone());
        }
        let started = Builder::new_multi_thread()
            // More would cost more in waking one another than they bring.
            .worker_threads(1)
            .thread_name("orkestra-rabbitmq")
            .enable_all()
            .build()
            .map_err(|error| error::unavailable(format!("no thread: {error}")))?;
        let handle = started.handle().clone();
        handle.spawn(publisher::run(Arc::clone(&self.core)));
        *runtime = Some(Started {
            runtime: started,
            process: process::id(),
        });
        Ok(handle)
    }

    fn is_closed(&self) -> bool {
        self.core.closed.load(std::sync::atomic::Ordering::Acquire)
    }

    fn publish(
        &self,
        message: Outgoing,
        reply_to: Option<Arc<str>>,
        requeue: Option<Requeue>,
    ) -> Result<oneshot::Receiver<Result<(), BusError>>, BusError> {
        self.runtime()?;
        let (tell, told) = oneshot::channel();
        self.core.publisher.push(Item {
            content: Content::Message {
                message,
                reply_to,
                requeue,
            },
            done: Done::Caller(tell),
            deadline: Some(Instant::now() + self.core.config.publish_timeout),
            tries: 0,
        });
        Ok(told)
    }

    async fn ended(&self, deadline: Duration) {
        let Ok(handle) = self.runtime() else { return };
        let core = Arc::clone(&self.core);
        let task = handle.spawn(async move {
            let at = Instant::now() + deadline;
            let consumers = core.consumers.lock().clone();
            for consumer in &consumers {
                // Told when it ends, which is waited for below.
                drop(consumer.desk.pause());
            }
            for consumer in &consumers {
                // Past the deadline what is in hand comes again, here or elsewhere.
                let _ = timeout_at(at, consumer.desk.drained()).await;
            }
            let _ = timeout_at(at, core.publisher.drained()).await;
            core.publisher.close();
            core.replies.close();
            core.consume.close(POLITE).await;
            core.publish.close(POLITE).await;
        });
        if let Err(error) = task.await {
            tracing::error!(%error, "closing the bus failed");
        }
    }
}

impl RabbitmqBus {
    fn stop_thread(&self) {
        let Some(started) = self.runtime.lock().take() else {
            return;
        };
        if started.process == process::id() {
            started.runtime.shutdown_background();
        } else {
            // The thread is the parent's; here it was never there.
            std::mem::forget(started);
        }
    }
}

impl Drop for RabbitmqBus {
    fn drop(&mut self) {
        self.stop_thread();
    }
}

fn closed<T>(_: T) -> BusError {
    BusError::Closed {}
}

#[async_trait]
impl Bus for RabbitmqBus {
    async fn send(&self, message: Outgoing) -> Result<(), BusError> {
        self.publish(message, None, None)?.await.map_err(closed)?
    }

    async fn ask(&self, command: Outgoing) -> Result<Bytes, BusError> {
        let listening = {
            let handle = self.runtime()?;
            let _here = handle.enter();
            Replies::listen(&self.core)
        };
        if let Some(listening) = listening {
            listening.await.map_err(closed)??;
        }
        let mut question = Replies::ask(&self.core, command.id);
        let reply_to = Some(Arc::clone(&self.core.replies.queue));
        let published = self.publish(command, reply_to, None)?;
        match select(&mut question.answer, published).await {
            Either::Left((answer, _)) => answer.map_err(closed),
            Either::Right((published, _)) => {
                published.map_err(closed)??;
                (&mut question.answer).await.map_err(closed)
            }
        }
    }

    async fn consume(&self, spec: ConsumerSpec) -> Result<Inbox, BusError> {
        let handle = self.runtime()?;
        let consumer = Arc::new(Consumer::new(spec));
        if consumer.queue.len() > usize::from(u8::MAX) {
            return Err(BusError::InvalidHandler {
                handler: consumer.spec.address.handler.clone(),
                reason: format!(
                    "the name of its queue is longer than 255 bytes: {}",
                    consumer.queue
                ),
            });
        }
        {
            let mut consumers = self.core.consumers.lock();
            // One of a start that failed later says nothing of this one.
            consumers.retain(|other| other.queue != consumer.queue || !other.desk.is_drained());
            consumers.push(Arc::clone(&consumer));
        }
        let (tell, told) = oneshot::channel();
        handle.spawn(consumer::run(Arc::clone(&self.core), consumer, tell));
        told.await.map_err(closed)?
    }

    async fn requeue(
        &self,
        to: HandlerAddress,
        message: Outgoing,
        entry: Option<Uuid>,
    ) -> Result<(), BusError> {
        let requeue = Requeue {
            queue: home_queue(&to),
            entry,
        };
        self.publish(message, None, Some(requeue))?
            .await
            .map_err(closed)?
    }

    async fn letters(&self, limit: usize) -> Result<Vec<BrokerLetter>, BusError> {
        let task = self
            .runtime()?
            .spawn(letters::look(Arc::clone(&self.core), limit));
        task.await.map_err(closed)?
    }

    async fn drain_letters(&self, limit: usize, take: TakeLetter) -> Result<usize, BusError> {
        let task = self
            .runtime()?
            .spawn(letters::drain(Arc::clone(&self.core), limit, take));
        task.await.map_err(closed)?
    }

    fn health(&self) -> BusHealth {
        let (publish, publish_blocked, publish_error) = self.core.publish.health();
        let (consume, consume_blocked, consume_error) = self.core.consume.health();
        let all = self.core.consumers.lock();
        // Of those of one queue the last: an earlier one is of a start that failed later.
        let is_last = |at: usize| all[at + 1..].iter().all(|c| c.queue != all[at].queue);
        let last = (0..all.len()).filter(|at| is_last(*at));
        let consumers = last.map(|at| all[at].health()).collect();
        BusHealth {
            connected: publish || consume,
            blocked: publish_blocked.or(consume_blocked),
            error: publish_error
                .or(consume_error)
                .map(|error| error.to_string()),
            consumers,
        }
    }

    async fn pause(&self) {
        let consumers = self.core.consumers.lock().clone();
        let paused: Vec<_> = consumers.iter().map(|c| c.desk.pause()).collect();
        for paused in paused {
            // Dropped with the task, which is an end as well.
            let _ = paused.await;
        }
    }

    async fn close(&self, deadline: Duration) {
        if self.is_closed() {
            return;
        }
        if self.runtime.lock().is_some() {
            self.ended(deadline).await;
        }
        self.core
            .closed
            .store(true, std::sync::atomic::Ordering::Release);
        self.stop_thread();
    }
}
