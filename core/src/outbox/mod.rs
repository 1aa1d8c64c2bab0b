//! From the log to the broker: what is appended to the store is published once it is committed.

mod relay;

pub use relay::{RELAY, Relay, RelayHealth, RelayOptions, Topics};
pub(crate) use relay::{RunningRelay, WINDOW};
