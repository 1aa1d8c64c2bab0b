//! A broker between processes, and what can go wrong between a sender and a handler.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    code::coded_errors,
    message::MessageKind,
    ports::{Inbox, RawMessage},
    topic::Pattern,
};

/// The name under which the log is published: the relay's checkpoint, its lease, and the handler of what it parks. No handler has it.
pub const RELAY: &str = "orkestra.relay";

/// The lease of whoever takes messages out of the outbox. No handler has this name.
pub const OUTBOX: &str = "orkestra.outbox";

/// The trace that a message belongs to, as W3C Trace Context and Baggage write it. Not checked here: nonsense is passed on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// `traceparent`.
    pub traceparent: Option<Arc<str>>,
    /// `tracestate`.
    pub tracestate: Option<Arc<str>>,
    /// `baggage`.
    pub baggage: Option<Arc<str>>,
}

/// A message on its way to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Command or event.
    pub kind: MessageKind,
    /// The message's id: stays the same over retries and repeated publishing.
    pub id: Uuid,
    /// The topic: what routes it.
    pub topic: Arc<str>,
    /// The correlation id.
    pub correlation_id: Arc<str>,
    /// The body as on the wire.
    pub body: Bytes,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// Retries that the sender wants.
    pub max_retries: Option<u32>,
    /// Its trace.
    pub trace: TraceContext,
}

/// The queue of one handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerAddress {
    /// Command or event.
    pub kind: MessageKind,
    /// The command's topic; not used for events.
    pub topic: String,
    /// `<app>.<handler>`.
    pub handler: String,
}

/// What to consume.
#[derive(Debug, Clone)]
pub struct ConsumerSpec {
    /// Whose queue.
    pub address: HandlerAddress,
    /// The topics and patterns that the handler takes.
    pub patterns: Vec<Pattern>,
    /// Calls at the same time.
    pub concurrency: u32,
    /// Messages in hand at most; `None` for the bus's own default. Never under `concurrency`.
    pub prefetch: Option<u32>,
    /// Whether it is recorded what the handler has handled, and what it has is not given to it again.
    pub inbox: bool,
}

/// How one handler's consumer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerHealth {
    /// `<app>.<handler>`.
    pub handler: String,
    /// The queue.
    pub queue: String,
    /// Whether the broker delivers to it now.
    pub consuming: bool,
    /// The last error, while it is not consuming.
    pub error: Option<String>,
}

/// How the bus is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BusHealth {
    /// Whether there is a connection now; a bus that nobody has used yet has none.
    pub connected: bool,
    /// Why the broker takes no messages now, for example a memory alarm.
    pub blocked: Option<String>,
    /// The last connection error, while there is no connection.
    pub error: Option<String>,
    /// Each consumer.
    pub consumers: Vec<ConsumerHealth>,
}

/// A dead letter as it lies at the broker.
#[derive(Debug, Clone)]
pub struct BrokerLetter {
    /// `<app>.<handler>` of the handler, as far as it is known.
    pub handler: String,
    /// The queue that it came from.
    pub queue: String,
    /// The topic.
    pub topic: String,
    /// Why it is here: our reason, or the broker's (`rejected`, `expired`, `maxlen`, `delivery_limit`).
    pub reason: String,
    /// The message as it came, with what our headers say of it.
    pub message: RawMessage,
}

/// What becomes of a dead letter that is taken from the broker: true when it may leave. The future needs no runtime.
pub type TakeLetter =
    Box<dyn FnMut(BrokerLetter) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send>;

/// A broker between processes. Its futures need no runtime: they wait for wakers only.
///
/// A connection that is lost comes back by itself; what was being published meanwhile is published again with the same id.
#[async_trait]
pub trait Bus: Send + Sync + fmt::Debug {
    /// Publishes `message` and waits until the broker has it safely. Messages sent one after another by one caller arrive in this order.
    ///
    /// Dropping the future may still publish.
    ///
    /// # Errors
    /// [`BusError::NoHandler`] for a command that no queue takes; [`BusError::Unavailable`] (transient); [`BusError::MessageTooLarge`];
    /// [`BusError::AccessRefused`]; [`BusError::Closed`].
    async fn send(&self, message: Outgoing) -> Result<(), BusError>;

    /// Sends a command and waits for the body of its answer, for as long as it takes. Dropping the future forgets it; the command is handled all
    /// the same, and a late answer is dropped.
    ///
    /// # Errors
    /// As [`Bus::send`].
    async fn ask(&self, command: Outgoing) -> Result<Bytes, BusError>;

    /// Declares a handler's queue and consumes it: when this returns, the broker delivers.
    ///
    /// # Errors
    /// [`BusError::TopologyMismatch`], [`BusError::TopologyMissing`], [`BusError::AccessRefused`], [`BusError::Unavailable`], [`BusError::Closed`].
    async fn consume(&self, spec: ConsumerSpec) -> Result<Inbox, BusError>;

    /// Puts `message` into the queue of one handler alone, as a first attempt; the dead letter `entry` is what it was. It need not be a handler of
    /// this process.
    ///
    /// # Errors
    /// [`BusError::TopologyMissing`] if there is no such queue; as [`Bus::send`].
    async fn requeue(
        &self,
        to: HandlerAddress,
        message: Outgoing,
        entry: Option<Uuid>,
    ) -> Result<(), BusError>;

    /// Dead letters that lie at the broker and belong to the app, at most `limit`, oldest first. They stay there.
    ///
    /// # Errors
    /// As [`Bus::consume`].
    async fn letters(&self, limit: usize) -> Result<Vec<BrokerLetter>, BusError>;

    /// The same, one by one to `take`: each leaves the broker when that answers true. Ends with the last of those that were there at the
    /// start, after `limit`, or at the first that `take` does not want, which stays. Returns how many have left.
    ///
    /// # Errors
    /// As [`Bus::consume`].
    async fn drain_letters(&self, limit: usize, take: TakeLetter) -> Result<usize, BusError>;

    /// How the bus is, now.
    fn health(&self) -> BusHealth;

    /// Stops delivering: what lies in the inboxes unopened goes back to the broker, what hosts have in hand can still be settled.
    ///
    /// Returns when the broker has confirmed that nothing more comes.
    async fn pause(&self);

    /// Waits until what is in hand is settled, `deadline` at most, then closes the connections. Safe to call again.
    async fn close(&self, deadline: Duration);
}

coded_errors! {
    /// What can go wrong between a sender and a handler.
    pub enum BusError: "BUS" {
        /// No handler takes the command.
        #[error("no handler for {topic}")]
        NoHandler {
            /// The command's topic.
            topic: String,
        } = "ORK_BUS_NO_HANDLER", "NoHandlerError", transient: false;

        /// The command has a handler already.
        #[error("{topic} has a handler already: {handler}")]
        DuplicateHandler {
            /// The command's topic.
            topic: String,
            /// The handler that has it.
            handler: String,
        } = "ORK_BUS_DUPLICATE_HANDLER", "DuplicateHandlerError", transient: false;

        /// Two handlers of one app have the same name.
        #[error("two handlers have the name {handler}")]
        DuplicateHandlerName {
            /// The name.
            handler: String,
        } = "ORK_BUS_DUPLICATE_HANDLER_NAME", "DuplicateHandlerNameError", transient: false;

        /// A handler's registration is not valid.
        #[error("handler {handler}: {reason}")]
        InvalidHandler {
            /// The name, or what stands for it.
            handler: String,
            /// What is wrong.
            reason: String,
        } = "ORK_BUS_INVALID_HANDLER", "InvalidHandlerError", transient: false;

        /// Something that is no command was dispatched, or something that is no event published.
        #[error("expected {expected}, found {found}")]
        WrongKind {
            /// `a command` or `an event`.
            expected: String,
            /// What was given.
            found: String,
        } = "ORK_BUS_WRONG_KIND", "WrongKindError", transient: false;

        /// The handler refused the command. Not a failure.
        #[error("rejected: {reason}")]
        Rejected {
            /// Why.
            reason: String,
            /// More facts, if the handler gave any.
            data: serde_json::Value,
        } = "ORK_BUS_REJECTED", "RejectedError", transient: false;

        /// A handler in another process failed; in process the caller gets the handler's own error.
        #[error("handler {handler} failed: {error_type}: {message}")]
        HandlerFailed {
            /// The handler.
            handler: String,
            /// The error's type.
            error_type: String,
            /// The error's message.
            message: String,
            /// The error's trace as text, empty when there is none.
            trace: String,
        } = "ORK_BUS_HANDLER_FAILED", "HandlerError", transient: false;

        /// A handler ran longer than its `timeout`. The attempt counts as failed.
        #[error("handler {handler} ran longer than {seconds} s")]
        HandlerTimeout {
            /// The handler.
            handler: String,
            /// The limit in seconds.
            seconds: f64,
        } = "ORK_BUS_HANDLER_TIMEOUT", "HandlerTimeoutError", transient: true;

        /// The caller's `timeout` is over. The command may still be handled.
        #[error("no answer for {topic} within {seconds} s")]
        DispatchTimeout {
            /// The command's topic.
            topic: String,
            /// The limit in seconds.
            seconds: f64,
        } = "ORK_BUS_DISPATCH_TIMEOUT", "DispatchTimeoutError", transient: true;

        /// The broker is away, or did not confirm in time. What was being published may have been accepted all the same.
        #[error("the broker is unavailable: {reason}")]
        Unavailable {
            /// What happened.
            reason: String,
        } = "ORK_BUS_UNAVAILABLE", "BusUnavailableError", transient: true;

        /// The broker refuses us: wrong user or password, no such virtual host, no permission.
        #[error("the broker refuses {what}: {reason}")]
        AccessRefused {
            /// `the login`, `the virtual host`, or the name of a queue or exchange.
            what: String,
            /// What the broker says.
            reason: String,
        } = "ORK_BUS_ACCESS_REFUSED", "AccessRefusedError", transient: false;

        /// A queue or an exchange exists with other arguments than ours.
        #[error("{resource} exists with other arguments: {difference}")]
        TopologyMismatch {
            /// `queue <name>` or `exchange <name>`.
            resource: String,
            /// Which argument, what we ask for and what there is.
            difference: String,
        } = "ORK_BUS_TOPOLOGY_MISMATCH", "TopologyMismatchError", transient: false;

        /// A queue or an exchange is not there and may not be declared (`declare=passive`).
        #[error("{resource} does not exist")]
        TopologyMissing {
            /// `queue <name>` or `exchange <name>`.
            resource: String,
        } = "ORK_BUS_TOPOLOGY_MISSING", "TopologyMissingError", transient: false;

        /// The broker takes no message of this size.
        #[error("{topic}: a message of {bytes} bytes is over the broker's limit: {reason}")]
        MessageTooLarge {
            /// The message's topic.
            topic: String,
            /// The size of its body.
            bytes: usize,
            /// What the broker says.
            reason: String,
        } = "ORK_BUS_MESSAGE_TOO_LARGE", "MessageTooLargeError", transient: false;

        /// The bus has been closed.
        #[error("the bus is closed")]
        Closed {} = "ORK_BUS_CLOSED", "BusClosedError", transient: false;
    }
}
