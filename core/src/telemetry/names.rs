//! Names of spans and attributes: a public contract (DESIGN.md section 10).

/// A command is sent and its answer awaited.
pub const COMMAND_DISPATCH: &str = "orkestra.command.dispatch";
/// A command handler runs once.
pub const COMMAND_HANDLE: &str = "orkestra.command.handle";
/// An event is published.
pub const EVENT_PUBLISH: &str = "orkestra.event.publish";
/// An event handler runs once.
pub const EVENT_HANDLE: &str = "orkestra.event.handle";
/// A batch of the log is handled by a projection once.
pub const PROJECTION_BATCH: &str = "orkestra.projection.batch";
/// A wait before another attempt.
pub const RETRY: &str = "orkestra.retry";
/// A message is handed to the broker and confirmed.
pub const RABBITMQ_PUBLISH: &str = "orkestra.rabbitmq.publish";
/// A message of the broker is handled and settled.
pub const RABBITMQ_CONSUME: &str = "orkestra.rabbitmq.consume";
/// A command is executed on an aggregate.
pub const AGGREGATE_EXECUTE: &str = "orkestra.aggregate.execute";
/// The aggregate's events are read.
pub const AGGREGATE_LOAD: &str = "orkestra.aggregate.load";
/// Events are folded into its state.
pub const AGGREGATE_FOLD: &str = "orkestra.aggregate.fold";
/// It decides.
pub const AGGREGATE_DECIDE: &str = "orkestra.aggregate.decide";
/// Its events are appended.
pub const AGGREGATE_APPEND: &str = "orkestra.aggregate.append";
/// Its snapshot is saved.
pub const AGGREGATE_SNAPSHOT: &str = "orkestra.aggregate.snapshot";

/// Type name of the command.
pub const COMMAND_TYPE: &str = "orkestra.command.type";
/// Type name of the event.
pub const EVENT_TYPE: &str = "orkestra.event.type";
/// Id of the command.
pub const COMMAND_ID: &str = "orkestra.command.id";
/// Id of the event.
pub const EVENT_ID: &str = "orkestra.event.id";
/// Correlation id of the message.
pub const CORRELATION_ID: &str = "orkestra.correlation_id";
/// Causation id of the message.
pub const CAUSATION_ID: &str = "orkestra.causation_id";
/// Actor of the message.
pub const ACTOR_ID: &str = "orkestra.actor_id";
/// Full name of the handler.
pub const HANDLER: &str = "orkestra.handler";

/// How far the batch reaches in the log.
pub const PROJECTION_POSITION: &str = "orkestra.projection.position";
/// Events in the batch.
pub const PROJECTION_EVENTS: &str = "orkestra.projection.events";

/// The kind of broker, of OpenTelemetry's messaging conventions.
pub const MESSAGING_SYSTEM: &str = "messaging.system";
/// What is done: `publish`, `process`.
pub const MESSAGING_OPERATION: &str = "messaging.operation.name";
/// The exchange, or the queue.
pub const MESSAGING_DESTINATION: &str = "messaging.destination.name";
/// The message's id.
pub const MESSAGING_MESSAGE_ID: &str = "messaging.message.id";
/// The message's correlation id.
pub const MESSAGING_CONVERSATION_ID: &str = "messaging.message.conversation_id";
/// What routes the message.
pub const MESSAGING_ROUTING_KEY: &str = "messaging.rabbitmq.destination.routing_key";
