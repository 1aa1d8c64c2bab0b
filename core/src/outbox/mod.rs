//! From the log to the broker: what is appended to the store is published once it is committed.

mod relay;

pub use crate::ports::RELAY;
pub use relay::{Relay, RelayHealth, RelayOptions, Topics};
pub(crate) use relay::{RunningRelay, WINDOW};
