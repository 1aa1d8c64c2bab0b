//! Named readers of the log: where to start, what to read next, and where they stand.

mod ahead;
mod error;
mod ownership;
pub(crate) mod pause;
mod reader;

pub use ahead::Ahead;
pub use error::SubscriptionError;
pub use ownership::LEASE;
pub(crate) use ownership::{Ownership, Term};
pub use pause::Pauses;
pub use reader::{Batch, Poison, Start, Subscription, SubscriptionOptions, lane_of};
