//! The adapters of an app: settings in, stores out.

use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    thread,
};

use napi_derive::napi;
use orkestra::{
    AppError, Backend, Error, Plan, Services, Settings,
    broker::Broker,
    code::Cause,
    ports::{BusError, StoreError},
};
use parking_lot::Mutex;
use serde::Deserialize;

use crate::{
    bridge::{Bridge, Spawner, Started},
    error::{parse, throw},
    relay::Parked,
};

#[derive(Deserialize)]
struct SettingsIn {
    bus: Option<String>,
    store: Option<String>,
    state: Option<String>,
    max_payload_bytes: Option<usize>,
}

/// The stores of an app: settings first, adapters once opened.
#[napi(js_name = "Stores")]
pub struct NodeStores {
    pub(crate) spawner: Spawner,
    plan: Plan,
    opened: Rc<RefCell<Option<Services>>>,
    pub(crate) parked: Arc<Parked>,
}

#[napi]
impl NodeStores {
    /// Checks the settings, JSON. Nothing is opened yet.
    #[napi(constructor)]
    pub fn new(bridge: &Bridge, json: String) -> napi::Result<Self> {
        let given: SettingsIn = parse(&json)?;
        let mut settings = Settings::default();
        settings.bus = given.bus;
        settings.store = given.store;
        settings.state = given.state;
        settings.max_payload_bytes = given.max_payload_bytes;
        Ok(Self {
            spawner: bridge.spawner(),
            plan: Plan::new(settings).map_err(|error| throw(&error))?,
            opened: Rc::default(),
            parked: Arc::default(),
        })
    }

    /// Whether nothing of the app outlives its process.
    #[napi(getter)]
    pub fn memory_only(&self) -> bool {
        self.plan.is_memory_only()
    }

    /// Whether messages go through a broker.
    #[napi(getter)]
    pub fn has_broker(&self) -> bool {
        self.plan.has_broker()
    }

    /// The longest payload in bytes.
    #[napi(getter)]
    pub fn max_payload_bytes(&self) -> i64 {
        i64::try_from(self.plan.limits.max_bytes).unwrap_or(i64::MAX)
    }

    /// The files of SQLite stores, which nothing else may open.
    #[napi(getter)]
    pub fn sqlite_files(&self) -> Vec<String> {
        [Some(&self.plan.store), self.plan.state.as_ref()]
            .into_iter()
            .flatten()
            .filter_map(|backend| match backend {
                Backend::Sqlite(path) => Some(path.display().to_string()),
                _ => None,
            })
            .collect()
    }

    /// The schema of the state store in PostgreSQL, nothing if the state is kept elsewhere.
    #[napi(getter)]
    pub fn state_schema(&self) -> Option<String> {
        self.plan.state_schema().map(str::to_owned)
    }

    /// Opens the adapters for the app of that underscored name, away from the JavaScript thread: a disk may be slow.
    #[napi]
    pub fn open(&self, app: String) -> napi::Result<Started> {
        let plan = self.plan.clone();
        let opened = Rc::clone(&self.opened);
        self.spawner.start(async move {
            let services = if plan.is_memory_only() {
                plan.open(&app)?
            } else {
                away(move || plan.open(&app)).await?
            };
            *opened.borrow_mut() = Some(services);
            Ok::<_, Error>(None)
        })
    }

    /// Closes the adapters: what was accepted is finished.
    #[napi]
    pub fn close(&self) -> napi::Result<Started> {
        let opened = self.opened.borrow().clone();
        self.spawner.start(async move {
            if let Some(services) = opened {
                services.close().await?;
            }
            Ok::<_, Error>(None)
        })
    }
}

impl NodeStores {
    /// The opened broker.
    pub(crate) fn broker(&self) -> napi::Result<Broker> {
        let broker = self.services()?.broker;
        broker.ok_or_else(|| throw(&BusError::Closed {}))
    }

    /// The opened adapters.
    pub(crate) fn services(&self) -> napi::Result<Services> {
        let opened = self.opened.borrow().clone();
        opened.ok_or_else(|| throw(&StoreError::Closed {}))
    }
}

/// What `work` returns, done on a thread of its own.
async fn away<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let shared = Arc::new(Mutex::new(Away {
        result: None,
        waker: None,
    }));
    let done = Arc::clone(&shared);
    let spawned = thread::Builder::new()
        .name("orkestra-open".into())
        .spawn(move || {
            let result = work();
            let waker = {
                let mut away = done.lock();
                away.result = Some(result);
                away.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        });
    if let Err(error) = spawned {
        let reason = Cause::new(error).to_string();
        return Err(AppError::InvalidSetting {
            setting: "threads".into(),
            reason,
        }
        .into());
    }
    Arrival(shared).await
}

struct Away<T> {
    result: Option<Result<T, Error>>,
    waker: Option<Waker>,
}

struct Arrival<T>(Arc<Mutex<Away<T>>>);

impl<T> Future for Arrival<T> {
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut away = self.0.lock();
        if let Some(result) = away.result.take() {
            return Poll::Ready(result);
        }
        away.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
