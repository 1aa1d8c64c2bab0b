//! What leaves once it is committed: the events of the log and the messages of the outbox, to the broker; without a broker the outbox's
//! messages to the handlers of this process.

mod local;
mod parking;
mod reader;
mod relay;
mod rows;

pub use crate::ports::{OUTBOX, RELAY};
pub use local::LocalOutbox;
pub(crate) use parking::Parking;
pub use reader::OutboxReader;
pub use relay::{Relay, RelayHealth, RelayOptions, Topics};
pub(crate) use relay::{RunningRelay, WINDOW};
pub(crate) use rows::OutboxRelay;
