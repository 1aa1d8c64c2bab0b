//! The traits that adapters implement, and their value types. No implementation.

mod bus;
mod checkpoint_store;
mod dead_letter_store;
mod error;
mod event_store;
mod event_stream;
mod event_trace;
mod idle_streams;
mod inbox;
mod inbox_store;
mod lease_store;
mod outbox_store;
mod snapshot_store;

pub use bus::{
    BrokerLetter, Bus, BusError, BusHealth, ConsumerHealth, ConsumerSpec, HandlerAddress, OUTBOX,
    Outgoing, RELAY, TakeLetter, TraceContext,
};
pub use checkpoint_store::{Checkpoint, CheckpointStore, Expected, SaveCheckpoint};
pub use dead_letter_store::{
    DeadLetter, DeadLetterFilter, DeadLetterPage, DeadLetterReason, DeadLetterStatus,
    DeadLetterStore, ErrorRecord, FailedAttempts,
};
pub use error::StoreError;
pub use event_store::{
    Append, Appended, Capabilities, DeleteMode, Direction, EventRef, EventStore, ExpectedRevision,
    MAX_BATCH, MAX_STREAM_NAME_CHARS, NewEvent, Page, Position, ReadAll, ReadStream, RecordedEvent,
    StreamName, StreamPage, TypeFilter,
};
pub use event_stream::{all_events, stream_events};
pub use idle_streams::{IdlePage, IdleStream, IdleStreams, StreamPattern};
pub use inbox::{Arrived, Doom, Inbox, InboxSender, RawMessage, Receipt, Settle, Settlement};
pub use inbox_store::{InboxEntry, InboxStore};
pub use lease_store::{FencingToken, Lease, LeaseStore};
pub use outbox_store::{OutboxBacklog, OutboxRow, OutboxStore};
pub use snapshot_store::{Snapshot, SnapshotStore};
