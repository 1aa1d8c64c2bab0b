//! What is SQLite's own; what every store does is in the conformance suites.

mod basics;
mod file;
mod processes;
mod sharing;

use std::{future::Future, path::Path, sync::Arc};

use bytes::Bytes;
use uuid::Uuid;

use super::{SqliteConfig, SqliteStore};
use crate::{
    clock::{Clock, IdSource, SystemClock, SystemIds, Timestamp},
    ports::{NewEvent, StreamName},
};

pub(super) fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(config(path)).unwrap()
}

pub(super) fn config(path: &Path) -> SqliteConfig {
    SqliteConfig::new(path, Arc::new(SystemClock::default()))
}

/// Runs a future on this thread; the store's threads do the rest.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut cx = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        std::thread::park();
    }
}

pub(super) fn name(text: &str) -> StreamName {
    StreamName::new(text).unwrap()
}

pub(super) fn event_of(id: Uuid, data: &str) -> NewEvent {
    NewEvent {
        id,
        type_name: "Shop.Orders.OrderPlaced".into(),
        version: 1,
        data: Bytes::copy_from_slice(data.as_bytes()),
        metadata: Bytes::from_static(br#"{"correlation_id":"c-1"}"#),
        occurred_at: Timestamp::from_micros(1_700_000_000_123_456),
    }
}

/// `count` new events with ids of their own.
pub(super) fn events(count: usize) -> Vec<NewEvent> {
    let (ids, clock) = (SystemIds::default(), SystemClock::default());
    (0..count)
        .map(|n| event_of(ids.next_id(clock.now()), &format!(r#"{{"n":{n}}}"#)))
        .collect()
}

/// Runs `future` on a thread of its own and gives its output within 20 s, or fails the test.
pub(super) fn within_a_while<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> impl FnOnce() -> T {
    let (done, output) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(block_on(future)));
    move || {
        output
            .recv_timeout(std::time::Duration::from_secs(20))
            .expect("the future should end within 20 s")
    }
}
