//! Views built from the log: a named reader whose checkpoint lives in the view's own database, and its rebuild beside the live one.
//!
//! A host steps three things. [`Projection`] reads and knows where the view stands; [`Work`] says what becomes of a batch; [`view_sql`] is the
//! text by which a view and its checkpoint commit together:
//!
//! ```
//! # use orkestra::{Error, projection::{Projection, Step, Work}, retry::RetryPolicy, subscription::Poison};
//! # async fn run(mut projection: Projection, policy: RetryPolicy) -> Result<(), Error> {
//! projection.open().await?;
//! loop {
//!     let batch = projection.next().await?;
//!     if projection.is_unprepared() {
//!         // The user's `prepare`: the tables are made if they are missing, and those of a rebuild are empty.
//!         projection.prepared();
//!     }
//!     let mut work = Work::new(batch.positions(), batch.position, &policy, Poison::Park);
//!     while let Step::Handle { events, position } = work.step() {
//!         let checkpoint = projection.checkpoint(position);
//!         // The user's handler gets `&batch.events[events]` and the checkpoint, and saves it in its transaction: `saved`. It returned without
//!         // that: `handled`. The view stood elsewhere: `found`, and the rest of the batch is left. It failed: `work.failed`.
//!         projection.saved(position).await?;
//!         work.succeeded();
//!     }
//! }
//! # }
//! ```

mod error;
mod outage;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
mod reader;
mod rebuild;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;
mod state;
mod view;
mod work;

pub use error::{ProjectionError, ReadError};
pub use outage::is_outage;
pub(crate) use reader::Ports;
pub use reader::{Mode, Progress, Projection, ProjectionBatch, ProjectionOptions, SUFFIX};
pub use state::{ProjectionState, state_of};
pub use view::{Dialect, Refusal, ViewCheckpoint, ViewRow, ViewSql, ViewSwitch, view_sql};
pub use work::{Step, Work};

#[cfg(test)]
mod tests;
