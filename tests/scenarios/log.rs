//! The side that appends, in the test's own process, and what the readers are held against.

use std::{
    thread::{self, JoinHandle},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use orkestra::{
    Orkestra,
    clock::{Clock, SystemClock},
    code::Coded,
    ports::{ExpectedRevision, Position, ReadAll, SaveCheckpoint, StoreError},
};
use orkestra_tests::postgres;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{
    process::PATIENCE,
    work::{Happened, READER, Report},
};

/// How many appends are on their way at the same time.
const WINDOW: usize = 20;

/// A store that processes share.
pub(crate) struct Place {
    kind: &'static str,
    pub(crate) url: String,
    _folder: Option<TempDir>,
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            kind: "sqlite",
            url: format!("sqlite:{}", folder.path().join("log.db").display()),
            _folder: Some(folder),
        }
    }

    /// A database of its own; `None` where there is no server.
    pub(crate) fn postgres(name: &str) -> Option<Self> {
        postgres::shared().map(|server| Self {
            kind: "postgres",
            url: server.database(name),
            _folder: None,
        })
    }

    /// A database of a server of the scenario's own.
    pub(crate) fn on(node: &postgres::Node, name: &str) -> Self {
        Self {
            kind: "postgres",
            url: node.server().database(name),
            _folder: None,
        }
    }

    /// A name for what is not in the store.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{name}-{}", self.kind)
    }
}

/// An app that appends.
pub(crate) struct Log {
    runtime: Runtime,
    pub(crate) app: Orkestra,
}

impl Log {
    pub(crate) fn open(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let app = Orkestra::builder("scenario").store(url);
        let app = runtime.block_on(app.start()).unwrap();
        Self { runtime, app }
    }

    pub(crate) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Appends an event for each number, and returns when all are acknowledged. What fails for a passing reason is tried again with the same
    /// id, until it is.
    pub(crate) fn append(&self, numbers: impl IntoIterator<Item = u64>) {
        let events = numbers.into_iter().map(|number| (number, false));
        self.runtime.block_on(append(&self.app, events));
    }

    /// One that its reader holds until it is told to go on.
    pub(crate) fn append_held(&self, number: u64) {
        self.runtime.block_on(append(&self.app, [(number, true)]));
    }

    /// One event, tried once.
    pub(crate) fn try_append(&self, number: u64) -> Result<(), StoreError> {
        let happened = Happened {
            number,
            hold: false,
        };
        self.try_append_data(&happened, serde_json::to_vec(&happened).unwrap())
    }

    /// One event of half a megabyte, tried once.
    pub(crate) fn try_append_large(&self, number: u64) -> Result<(), StoreError> {
        let happened = Happened {
            number,
            hold: false,
        };
        // Nothing that a database could compress.
        let mut state = number + 1;
        let noise: String = (0..500_000)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                char::from(b'0' + u8::try_from(state >> 58).unwrap())
            })
            .filter(|noise| *noise != '\\')
            .collect();
        let data = format!(r#"{{"number":{number},"hold":false,"noise":"{noise}"}}"#);
        self.try_append_data(&happened, data.into_bytes())
    }

    fn try_append_data(&self, happened: &Happened, data: Vec<u8>) -> Result<(), StoreError> {
        let mut event = happened.event(SystemClock::default().now());
        event.data = data.into();
        let store = self.app.store().unwrap();
        let append = store.append(happened.stream(), vec![event], ExpectedRevision::Any);
        self.run(append).map(drop)
    }

    /// The same as `append`, while the test goes on.
    pub(crate) fn append_behind(
        &self,
        numbers: impl IntoIterator<Item = u64> + Send + 'static,
    ) -> JoinHandle<()> {
        let app = self.app.clone();
        let handle = self.runtime.handle().clone();
        let events = numbers.into_iter().map(|number| (number, false));
        let events: Vec<_> = events.collect();
        thread::spawn(move || handle.block_on(append(&app, events)))
    }

    /// Where the readers' checkpoint stands.
    pub(crate) fn checkpoint(&self) -> Option<Position> {
        let name = format!("scenario.{READER}");
        let load = self.app.services().checkpoints.load(name);
        self.runtime
            .block_on(load)
            .unwrap()
            .and_then(|checkpoint| checkpoint.position)
    }

    /// Says that the readers have read up to there.
    pub(crate) fn save_checkpoint(&self, position: Position) {
        let name = format!("scenario.{READER}");
        let checkpoints = &self.app.services().checkpoints;
        let save = checkpoints.save(name, Some(position), SaveCheckpoint::default());
        self.run(save).unwrap();
    }

    /// How many messages are in the outbox.
    pub(crate) fn outbox(&self) -> u64 {
        let backlog = self.runtime.block_on(self.app.outbox().pending());
        backlog.unwrap().messages
    }

    /// The whole log: position and number of each event.
    pub(crate) fn all(&self) -> Vec<(u64, u64)> {
        self.runtime.block_on(async {
            let (mut all, mut after) = (Vec::new(), None);
            loop {
                let store = self.app.store().unwrap();
                let page = store.read_all(ReadAll::after(after)).await.unwrap();
                after = page.position.or(after);
                all.extend(page.events.iter().map(|event| {
                    let happened: Happened = serde_json::from_slice(&event.data).unwrap();
                    (event.position.0, happened.number)
                }));
                if page.end {
                    return all;
                }
            }
        })
    }

    /// Each number, from 0 on, is in the log once.
    pub(crate) fn check_numbers(&self) -> Vec<(u64, u64)> {
        let all = self.all();
        let mut numbers: Vec<_> = all.iter().map(|(_, number)| *number).collect();
        numbers.sort_unstable();
        let count = u64::try_from(numbers.len()).unwrap();
        assert_eq!(numbers, (0..count).collect::<Vec<_>>());
        all
    }

    /// What the scenarios with readers end with: each number is in the log once; a reader was given what follows in the log, or what it, or the one
    /// before it, had been given already; and all was given to somebody. `readers` are the reports of each in the order of their terms.
    pub(crate) fn check(&self, readers: &[&[Report]]) {
        let all = self.check_numbers();
        let mut given = 0;
        for report in readers.iter().copied().flatten() {
            let Report::Got { number, position } = report else {
                continue;
            };
            let place = all.binary_search_by_key(position, |(position, _)| *position);
            let place = place.expect("an event of the log");
            assert_eq!(all[place].1, *number);
            assert!(
                place <= given,
                "skipped: {:?}",
                &all[given..=place.min(given + 5)]
            );
            given = given.max(place + 1);
        }
        assert_eq!(given, all.len(), "the rest was given to nobody");
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let closed = self.runtime.block_on(self.app.close());
        if !thread::panicking() {
            closed.unwrap();
        }
    }
}

async fn append(app: &Orkestra, events: impl IntoIterator<Item = (u64, bool)>) {
    let append = |(number, hold)| async move {
        let clock = SystemClock::default();
        let happened = Happened { number, hold };
        let (event, stream) = (happened.event(clock.now()), happened.stream());
        loop {
            let batch = vec![event.clone()];
            let store = app.store().unwrap();
            match store
                .append(stream.clone(), batch, ExpectedRevision::Any)
                .await
            {
                Ok(_) => return,
                Err(error) => {
                    assert!(error.is_transient(), "{error}");
                    assert!(clock.monotonic() < PATIENCE, "not in time: {error}");
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    stream::iter(events)
        .map(append)
        .buffer_unordered(WINDOW)
        .collect::<()>()
        .await;
}
