//! The side that sends, in the test's own process.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    thread::{self, JoinHandle},
};

use futures_util::{StreamExt, stream};
use orkestra::Orkestra;
use orkestra_tests::broker::VirtualHost;
use rustix::process::Signal;
use tokio::runtime::Runtime;

use crate::{
    drained,
    ledger::Ledger,
    process::Worker,
    work::{Act, Do, Report},
};

/// How many messages are on their way to the broker at the same time.
const WINDOW: usize = 100;

/// An app that handles nothing.
pub(crate) struct Sender {
    runtime: Runtime,
    app: Orkestra,
    ledger: Arc<Mutex<Ledger>>,
}

impl Sender {
    pub(crate) fn new(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let app = Orkestra::builder("sender")
            .app_prefix("Scenario")
            .bus(url)
            .store("memory:");
        let app = runtime.block_on(app.start()).unwrap();
        Self {
            runtime,
            app,
            ledger: Arc::default(),
        }
    }

    /// Sends the work and returns when the broker has confirmed all of it.
    pub(crate) fn send(&self, work: impl IntoIterator<Item = (u64, Act)>) {
        self.runtime.block_on(send(&self.app, &self.ledger, work));
    }

    /// The same, while the test goes on.
    pub(crate) fn send_behind(
        &self,
        work: impl IntoIterator<Item = (u64, Act)> + Send + 'static,
    ) -> JoinHandle<()> {
        let (app, ledger) = (self.app.clone(), Arc::clone(&self.ledger));
        let handle = self.runtime.handle().clone();
        thread::spawn(move || handle.block_on(send(&app, &ledger, work)))
    }

    /// Sends one command whose handler never succeeds: that it is not handled is no loss.
    pub(crate) fn send_doomed(&self, number: u64, act: Act) {
        let sending = self.app.send(Do { number, act });
        self.runtime.block_on(sending.into_future()).unwrap();
    }

    /// What was sent and handled, as far as it was read.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    /// Reads what `worker` reports until it has handled so many.
    pub(crate) fn handled(&self, worker: &Worker, count: u64) {
        while self.ledger().handled() < count {
            let report = worker.next().expect("the worker ended");
            self.ledger().read(&[report]);
        }
    }

    /// Reads what `worker` reports until it has handled everything that is missing, ends it, and checks the promise.
    pub(crate) fn handled_by(&self, worker: Worker) {
        self.all_handled(&worker);
        self.ended(worker);
    }

    /// The same, and the queue is empty then. A message may come twice, so it need not be when everything has been handled once.
    pub(crate) fn drained_by(&self, worker: Worker, host: &VirtualHost) -> Vec<Report> {
        self.all_handled(&worker);
        drained(host);
        self.ended(worker)
    }

    fn all_handled(&self, worker: &Worker) {
        while !self.ledger().missing().is_empty() {
            let report = worker.next().expect("the worker ended");
            self.ledger().read(&[report]);
        }
    }

    /// What the worker reported meanwhile.
    fn ended(&self, worker: Worker) -> Vec<Report> {
        worker.signal(Signal::TERM);
        let (rest, code, errors) = worker.end();
        self.ledger().read(&rest);
        self.ledger().check();
        assert_eq!(code, Some(0), "the exit code; {errors}");
        rest
    }

    /// Why the broker takes no messages from here now.
    pub(crate) fn blocked(&self) -> Option<String> {
        let health = self.runtime.block_on(self.app.health());
        health.bus.unwrap().blocked
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let closed = self.runtime.block_on(self.app.close());
        if !thread::panicking() {
            closed.unwrap();
        }
    }
}

async fn send(app: &Orkestra, ledger: &Mutex<Ledger>, work: impl IntoIterator<Item = (u64, Act)>) {
    let send = |(number, act)| async move {
        ledger.lock().unwrap().sent(number);
        app.send(Do { number, act }).await.unwrap();
        ledger.lock().unwrap().confirmed(number);
    };
    stream::iter(work)
        .map(send)
        .buffer_unordered(WINDOW)
        .collect::<()>()
        .await;
}
