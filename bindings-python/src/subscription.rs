//! `Reader`: the core's subscription, pulled by Python.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{
    future::{Either, select},
    lock::Mutex,
};
use orkestra::{
    clock::Clock,
    ports::{Position, StoreError},
    subscription::{Batch, Start, Subscription, SubscriptionOptions},
};
use pyo3::{
    IntoPyObjectExt,
    exceptions::PyValueError,
    prelude::*,
    types::{PyBool, PyString},
};

use crate::{
    recorded::Page,
    registry,
    runtime::{Gate, Op},
    store::Services,
};

/// A reader of the log with a place of its own.
#[pyclass(frozen, module = "orkestra._orkestra")]
#[derive(Debug)]
pub(crate) struct Reader {
    core: Arc<Mutex<Subscription>>,
    registry: Arc<registry::Inner>,
    /// Whether the batch that was read last reached nobody.
    missed: Arc<AtomicBool>,
    /// Opened when the app closes.
    closing: Gate,
    clock: Arc<dyn Clock>,
}

/// How long a closing app waits for a reader that is in use.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// A batch on its way to Python: a task that is cancelled when it is there already never gets it.
struct Handed {
    batch: Option<Batch>,
    missed: Arc<AtomicBool>,
}

impl Handed {
    fn take(mut self) -> Batch {
        self.batch.take().unwrap_or_default()
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if self.batch.is_some() {
            self.missed.store(true, Ordering::Release);
        }
    }
}

pub(crate) fn start(value: &Bound<'_, PyAny>) -> PyResult<Start> {
    if let Ok(text) = value.cast::<PyString>() {
        match &*text.to_string_lossy() {
            "origin" => return Ok(Start::Origin),
            "now" => return Ok(Start::Now),
            _ => {}
        }
    } else if !value.is_instance_of::<PyBool>()
        && let Ok(position) = value.extract()
    {
        return Ok(Start::After(Position(position)));
    }
    Err(PyValueError::new_err(format!(
        "start: expected 'origin', 'now' or a position, found {}",
        value.repr()?.to_string_lossy()
    )))
}

#[pymethods]
impl Reader {
    /// A reader named `name`, or without a checkpoint; of a handler's events, or of these topics.
    #[new]
    #[pyo3(signature = (services, *, name, handler=None, topics=None, stream_prefix=None, start, batch_size))]
    fn new(
        services: &Services,
        name: Option<String>,
        handler: Option<usize>,
        topics: Option<Vec<String>>,
        stream_prefix: Option<String>,
        start: &Bound<'_, PyAny>,
        batch_size: usize,
    ) -> PyResult<Self> {
        let registry = Arc::clone(&services.registry.0);
        let types = match handler {
            Some(handler) => registry.filter_for(handler),
            None => registry.filter(topics)?,
        };
        let mut options =
            SubscriptionOptions::new(self::start(start)?, types).batch_size(batch_size);
        options.stream_prefix = stream_prefix;
        let core = services.core.subscribe(name, options);
        Ok(Self {
            core: Arc::new(Mutex::new(core)),
            registry,
            missed: Arc::default(),
            closing: Gate::default(),
            clock: Arc::clone(&services.core.clock),
        })
    }

    /// Finds the place to start at.
    fn open(&self) -> Op {
        let core = Arc::clone(&self.core);
        Op::value(async move { Ok(core.lock().await.open().await?) })
    }

    /// Waits for the next page.
    fn next(&self) -> Op {
        let core = Arc::clone(&self.core);
        let registry = Arc::clone(&self.registry);
        let missed = Arc::clone(&self.missed);
        let closing = self.closing.opened();
        Op::new(
            async move {
                let mut core = core.lock().await;
                if missed.swap(false, Ordering::Acquire) {
                    core.give_back();
                }
                match select(pin!(core.next()), closing).await {
                    Either::Left((batch, _)) => Ok(Handed {
                        batch: Some(batch?),
                        missed,
                    }),
                    Either::Right(_) => Err(StoreError::Closed {}),
                }
            },
            move |py, handed| page(handed.take(), registry).into_py_any(py),
        )
    }

    /// The next page, `None` when there is none now.
    fn try_next(&self) -> Op {
        let core = Arc::clone(&self.core);
        let registry = Arc::clone(&self.registry);
        let missed = Arc::clone(&self.missed);
        Op::new(
            async move {
                let mut core = core.lock().await;
                if missed.swap(false, Ordering::Acquire) {
                    core.give_back();
                }
                let batch = core.try_next().await?;
                Ok::<_, StoreError>(batch.map(|batch| Handed {
                    batch: Some(batch),
                    missed,
                }))
            },
            move |py, handed| {
                handed
                    .map(|handed| page(handed.take(), registry))
                    .into_py_any(py)
            },
        )
    }

    /// Everything up to `position` is handled.
    fn ack(&self, position: Option<u64>) -> Op {
        let core = Arc::clone(&self.core);
        Op::value(async move { Ok(core.lock().await.ack(position.map(Position)).await?) })
    }

    /// Goes back to `position`, so that what follows it is read again.
    fn rewind(&self, position: Option<u64>) -> Op {
        let core = Arc::clone(&self.core);
        self.missed.store(false, Ordering::Release);
        Op::value(async move {
            core.lock().await.rewind(position.map(Position));
            Ok(())
        })
    }

    /// The same when the app closes: whoever waits for a page hears that the store is closed.
    fn leave(&self) -> Op {
        self.closing.open();
        let core = Arc::clone(&self.core);
        let limit = self.clock.sleep(LAST_WAIT);
        Op::value(async move {
            let release = pin!(async { core.lock().await.release().await });
            match select(release, limit).await {
                Either::Left((released, _)) => Ok(released?),
                // Whose loop stands still: the lease ends by itself.
                Either::Right(_) => Ok(()),
            }
        })
    }

    /// Lets another process read under this name at once.
    fn release(&self) -> Op {
        let core = Arc::clone(&self.core);
        Op::value(async move { Ok(core.lock().await.release().await?) })
    }
}

fn page(batch: Batch, registry: Arc<registry::Inner>) -> Page {
    let last = batch.position.map(|p| p.0);
    Page::new(batch.events, registry, last, false)
}
