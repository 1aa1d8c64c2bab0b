//! The example domain, and a place for its stores.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use orkestra::{
    Aggregate, AggregateAnswer, Builder, Command, Event, Message, Orkestra, Reject,
    clock::{ManualClock, ManualIds, Timestamp},
    ports::DeadLetterFilter,
};
use orkestra_tests::{broker::VirtualHost, kurrentdb::Server};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlaceOrder {
    pub(crate) product_id: String,
}
impl Message for PlaceOrder {
    const TYPE_NAME: &'static str = "Shop.Orders.Commands.PlaceOrder";
}
impl Command for PlaceOrder {
    type Output = String;
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct OrderPlaced {
    pub(crate) order_id: String,
}
impl Message for OrderPlaced {
    const TYPE_NAME: &'static str = "Shop.Orders.Events.OrderPlaced";
}
impl Event for OrderPlaced {}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AddItem {
    pub(crate) cart: String,
    pub(crate) quantity: i64,
}
impl Message for AddItem {
    const TYPE_NAME: &'static str = "Shop.Carts.Commands.AddItem";
}
impl Command for AddItem {
    type Output = AggregateAnswer;
}

/// Version 3: `quantity` was called `amount` in 1, and had no `unit` before 3.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ItemAdded {
    pub(crate) quantity: i64,
    pub(crate) unit: String,
}
impl Message for ItemAdded {
    const TYPE_NAME: &'static str = "Shop.Carts.Events.ItemAdded";
    const ALIASES: &'static [&'static str] = &["Shop.Carts.Events.ItemPut"];
}
impl Event for ItemAdded {
    const VERSION: u32 = 3;
    fn upcast(version: u32, mut data: Value) -> Result<Value, orkestra::message::MessageError> {
        match version {
            1 => data["quantity"] = data["amount"].take(),
            _ => data["unit"] = "piece".into(),
        }
        Ok(data)
    }
}

/// At most 10 items, none negative; adding 0 decides nothing.
#[derive(Debug)]
pub(crate) struct Cart;
impl Aggregate for Cart {
    const NAME: &'static str = "Cart";
    type State = i64;
    type Command = AddItem;
    type Event = ItemAdded;
    fn initial() -> i64 {
        0
    }
    fn stream_id(command: &AddItem) -> String {
        format!("cart-{}", command.cart)
    }
    fn decide(state: &i64, command: &AddItem) -> Result<Vec<ItemAdded>, Reject> {
        if state + command.quantity > 10 {
            return Err(Reject::new("the cart is full"));
        }
        Ok((command.quantity != 0)
            .then(|| ItemAdded {
                quantity: command.quantity,
                unit: "piece".into(),
            })
            .into_iter()
            .collect())
    }
    fn evolve(state: i64, event: &ItemAdded) -> i64 {
        state + event.quantity
    }
}

/// Where an app of a test keeps its events.
pub(crate) struct Store {
    url: String,
    /// Where the state is, if not in the store.
    state: Option<String>,
    /// The stand-in that the store is.
    _server: Option<Server>,
    folder: Option<tempfile::TempDir>,
    /// In process. A broker waits in real time, and so does an app over one.
    pub(crate) clock: ManualClock,
    ids: Arc<ManualIds>,
    broker: Option<VirtualHost>,
}

impl Store {
    pub(crate) fn memory() -> Self {
        Self {
            url: "memory:".into(),
            state: None,
            _server: None,
            folder: None,
            clock: ManualClock::new(Timestamp::from_micros(1_774_612_800_000_000)),
            ids: Arc::default(),
            broker: None,
        }
    }

    /// The same with RabbitMQ as the bus: a virtual host of its own; `None` if there is no broker.
    pub(crate) fn over_rabbitmq(self) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "app-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let broker = Some(orkestra_tests::broker::shared()?.virtual_host(&name));
        Some(Self { broker, ..self })
    }

    /// The virtual host, for a case over a broker.
    pub(crate) fn broker(&self) -> &VirtualHost {
        self.broker.as_ref().unwrap()
    }

    pub(crate) fn is_remote(&self) -> bool {
        self.broker.is_some()
    }

    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            url: format!("sqlite:{}", folder.path().join("shop.db").display()),
            folder: Some(folder),
            ..Self::memory()
        }
    }

    /// Events in KurrentDB (the stand-in for it), the state in SQLite.
    pub(crate) fn kurrentdb() -> Self {
        let (server, state) = (Server::new(), Self::sqlite());
        Self {
            url: server.url(),
            state: Some(state.url.clone()),
            _server: Some(server),
            ..state
        }
    }

    /// A new schema; `None` if there is no PostgreSQL.
    pub(crate) fn postgres() -> Option<Self> {
        let url = orkestra_tests::postgres::shared()?.schema("app");
        Some(Self {
            url,
            ..Self::memory()
        })
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.url != "memory:"
    }

    /// The store's file; `None` in memory.
    pub(crate) fn file(&self) -> Option<std::path::PathBuf> {
        Some(self.folder.as_ref()?.path().join("shop.db"))
    }

    /// A connection to the file beside the app's own, to put something in its way; `None` in memory.
    pub(crate) fn by_hand(&self) -> Option<rusqlite::Connection> {
        let folder = self.folder.as_ref()?;
        Some(rusqlite::Connection::open(folder.path().join("shop.db")).unwrap())
    }

    /// An app on this store, with draws of one half, and in process with a clock that stands still.
    pub(crate) fn app(&self) -> Builder {
        self.app_named("shop")
    }

    /// Another service on the same store and bus.
    pub(crate) fn app_named(&self, name: &str) -> Builder {
        let app = Orkestra::builder(name)
            .app_prefix("Shop")
            .store(&self.url)
            .ids(self.ids.clone());
        let app = match &self.state {
            Some(state) => app.state(state),
            None => app,
        };
        match &self.broker {
            Some(broker) => app.bus(&broker.url),
            None => app.clock(Arc::new(self.clock.clone())),
        }
    }

    /// How many dead letters there are: in the state store, or over a broker where that is in memory at the broker.
    pub(crate) async fn letters(&self, app: &Orkestra) -> usize {
        let letters = app.dead_letters();
        if self.is_remote() && !self.is_durable() {
            return letters.broker(100).await.unwrap().len();
        }
        let page = letters.list(DeadLetterFilter::default()).await;
        page.unwrap().total
    }

    /// Waits until there are so many dead letters: over a broker they may come after the answer.
    pub(crate) async fn buried(&self, app: &Orkestra, count: usize) {
        for _ in 0..60_000 {
            if self.letters(app).await == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("{} dead letters", self.letters(app).await);
    }

    /// Moves the clock on if somebody sleeps, in process.
    pub(crate) fn step(&self) {
        if let Some(wait) = self.clock.next_wake().filter(|_| !self.is_remote()) {
            self.clock.advance(wait);
        }
    }

    /// Moves the clock on as soon as somebody sleeps, until `done`.
    pub(crate) async fn advance_until(&self, done: impl Fn() -> bool) {
        until(|| {
            self.step();
            done()
        })
        .await;
    }
}

/// Waits for `done`, a minute at most.
pub(crate) async fn until(mut done: impl FnMut() -> bool) {
    for _ in 0..60_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it did not come to that within a minute");
}

pub(crate) fn run<F: Future<Output = ()>>(
    store: Option<Store>,
    case: impl FnOnce(Arc<Store>) -> F,
) {
    // Without a broker the case is skipped, and that was said.
    let Some(store) = store else { return };
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(case(Arc::new(store)));
}
