//! Orkestra: commands, events and aggregates on one core, for Rust, Python and Node.
//!
//! The smallest use is one handler and one dispatch:
//!
//! ```
//! use orkestra::{Command, Context, Message, Orkestra};
//! # use serde::{Deserialize, Serialize};
//! # #[derive(Clone, Serialize, Deserialize)]
//! # struct PlaceOrder { product_id: String }
//! # impl Message for PlaceOrder { const TYPE_NAME: &'static str = "Shop.Orders.PlaceOrder"; }
//! # impl Command for PlaceOrder { type Output = String; }
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let app = Orkestra::builder("shop")
//!     .store("memory:")
//!     .command_handler(|order: PlaceOrder, _: Context| async move { Ok(order.product_id) })
//!     .start()
//!     .await?;
//! assert_eq!(app.dispatch(PlaceOrder { product_id: "sku_42".into() }).await?, "sku_42");
//! # app.close().await }).unwrap();
//! ```
//!
//! The same with every default written out:
//!
//! ```no_run
//! # use orkestra::{Command, Context, Message, Orkestra, RetryAfter, retry::RetryPolicy};
//! # use std::time::Duration;
//! # use serde::{Deserialize, Serialize};
//! # #[derive(Clone, Serialize, Deserialize)]
//! # struct PlaceOrder { product_id: String }
//! # impl Message for PlaceOrder { const TYPE_NAME: &'static str = "Shop.Orders.PlaceOrder"; }
//! # impl Command for PlaceOrder { type Output = String; }
//! # async fn run() -> Result<(), orkestra::Error> {
//! let app = Orkestra::builder("shop")
//!     .bus("memory:")
//!     .store("sqlite:orkestra.db")
//!     .state("sqlite:orkestra.db")
//!     .app_prefix("Shop")
//!     .max_payload_bytes(1024 * 1024)
//!     .command_handler(|order: PlaceOrder, _: Context| async move { Ok(order.product_id) })
//!     .named("orders.place_order")
//!     .retry(RetryPolicy { max_retries: Some(0), initial: 0.1, multiplier: 2.0, max_delay: 30.0, jitter: 1.0, ..RetryPolicy::default() })
//!     .concurrency(16)
//!     .start()
//!     .await?;
//! # Ok(()) }
//! ```
//!
//! The same program over RabbitMQ is the same but for one URL, here again with every default written out. Handlers may be in other processes and other
//! languages then, events of the store are published by a relay, and retries wait in the broker:
//!
//! ```no_run
//! # use orkestra::{Command, Context, Message, Orkestra};
//! # use std::time::Duration;
//! # use serde::{Deserialize, Serialize};
//! # #[derive(Clone, Serialize, Deserialize)]
//! # struct PlaceOrder { product_id: String }
//! # impl Message for PlaceOrder { const TYPE_NAME: &'static str = "Shop.Orders.PlaceOrder"; }
//! # impl Command for PlaceOrder { type Output = String; }
//! # async fn run() -> Result<(), orkestra::Error> {
//! let app = Orkestra::builder("shop")
//!     .bus(
//!         "amqp://guest:guest@localhost:5672/%2F?queue_type=quorum&declare=active&prefetch=64&crash_limit=5&heartbeat=30\
//!          &connect_timeout=10&startup_wait=0&publish_timeout=30",
//!     )
//!     .command_handler(|order: PlaceOrder, _: Context| async move { Ok(order.product_id) })
//!     .prefetch(64)
//!     .start()
//!     .await?;
//! let order = PlaceOrder { product_id: "sku_42".into() };
//! assert_eq!(app.dispatch(order).timeout(Duration::from_secs(60)).await?, "sku_42");
//! # Ok(()) }
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`message`], [`topic`], [`retry`], [`clock`] | data and rules, no I/O |
//! | [`ports`] | the traits of stores, and their errors |
//! | [`broker`], [`outbox`], [`delivery`], [`registry`], [`aggregate`], [`subscription`], [`projection`] | machines that decide; hosts act |
//! | [`adapters`] | memory, SQLite and RabbitMQ behind the ports |
//! | [`telemetry`] | names of spans, and where they go |
//! | `testing` (feature `testing`) | conformance suites, given / when / then |
#![forbid(unsafe_code)]

pub mod adapters;
pub mod aggregate;
mod app;
pub mod background;
pub mod broker;
pub mod clock;
pub mod code;
pub mod delivery;
mod error;
pub mod message;
pub mod outbox;
pub mod ports;
pub mod projection;
pub mod registry;
pub mod retention;
pub mod retry;
pub mod subscription;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod topic;

pub use app::{
    Aggregate, AggregateAnswer, Answer, Backend, Builder, BusBackend, Checkpoint, ClaimSql,
    Command, CommandSet, Context, DEFAULT_STORE, DeadLetters, Dispatch, Enqueue, Envelope, Event,
    EventSet, Execute, HandlerError, Health, Message, Middleware, MiddlewareFuture, Next, Orkestra,
    Outbox, Outcome, Plan, Publish, Published, ReadModel, Rebuild, Recorded, Reject, RetryAfter,
    Sending, Sent, Services, Settings, claim_sql, decode, decode_event, encode, spec_of,
};
/// Payloads are bytes of this type.
pub use bytes::Bytes;
pub use error::{AppError, Error, catalogue};
