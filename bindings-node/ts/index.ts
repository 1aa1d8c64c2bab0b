/**
 * Commands, events, aggregates and durable workflows on one core.
 *
 * @packageDocumentation
 */
export {
  type AggregateAnswer,
  type AggregateSpec,
  aggregate,
  type Decision,
  type Executed,
  type Executor,
} from "./aggregate.js";
export { Orkestra } from "./app.js";
export type { DispatchOptions, SendOptions } from "./bus.js";
export type { AwaitedConnection, BlockingConnection, Checkpoint } from "./checkpoint.js";
export type { Clock, IdSource } from "./clock.js";
export type { Context } from "./context.js";
export type {
  BrokerLettersOptions,
  DeadLetter,
  DeadLetterFilter,
  DeadLetterPage,
  DeadLetterReason,
  DrainOptions,
  FailedAttempts,
} from "./dead-letters.js";
export { DeadLetters } from "./dead-letters.js";
export {
  CommandEnvelope,
  type CommandStatus,
  EventEnvelope,
  type EventStatus,
  type HandlerState,
  type Middleware,
} from "./envelope.js";
export {
  AccessDeniedError,
  AccessRefusedError,
  AggregateError,
  AlreadyStartedError,
  AppError,
  BusClosedError,
  BusError,
  BusUnavailableError,
  CannotOpenStoreError,
  CheckpointBehindError,
  CheckpointMismatchError,
  ClosedError,
  CorruptError,
  DiskFullError,
  DispatchTimeoutError,
  DuplicateEventError,
  DuplicateHandlerError,
  DuplicateHandlerNameError,
  DuplicateSubscriptionError,
  DuplicateTypeError,
  EmptyTopicError,
  type ErrorDetails,
  ForkedError,
  HandlerError,
  HandlerTimeoutError,
  InvalidAggregateError,
  InvalidArgumentError,
  InvalidConnectionError,
  InvalidDecisionError,
  type InvalidField,
  InvalidFieldError,
  InvalidHandlerError,
  InvalidIdError,
  InvalidMetadataError,
  InvalidPatternError,
  InvalidPayloadError,
  InvalidRetryPolicyError,
  InvalidSettingError,
  InvalidStreamNameError,
  InvalidTypeNameError,
  InvalidUrlError,
  MalformedError,
  MessageError,
  MessageTooLargeError,
  MissingFieldError,
  NewerSchemaError,
  NoDatabaseError,
  NoDeadLetterError,
  NoHandlerError,
  NoSwitchError,
  NoTransactionError,
  NotADatabaseError,
  NotCaughtUpError,
  NotJsonError,
  NotStampedError,
  NotStartedError,
  NoUpcasterError,
  OrkestraError,
  PermissionDeniedError,
  ProjectionError,
  ReadOnlyStoreError,
  RebuildRunningError,
  RejectedError,
  RetryError,
  RevisionConflictError,
  StaleLeaseError,
  StoreClosedError,
  StoreError,
  StoreFileError,
  StoreLockedError,
  StoreUnavailableError,
  StreamDeletedError,
  SubscriptionError,
  SubscriptionStoppedError,
  TooDeepError,
  TooLargeError,
  TopicConflictError,
  TopologyMismatchError,
  TopologyMissingError,
  UnexpectedCommandError,
  UnknownEventError,
  UnknownProjectionError,
  UnsupportedError,
  UnsupportedPayloadError,
  UntrustedServerError,
  WaitInLoopError,
  WaitTimeoutError,
  WrongKindError,
} from "./errors.js";
export {
  type CommandHandler,
  type EventHandler,
  type EventHandlerOptions,
  type EventSelector,
  type HandlerOptions,
  Handlers,
  type Poison,
  type RawEvent,
  type Selected,
  type Start,
  type TopicSelector,
} from "./handlers.js";
export type { BusHealth, ConsumerHealth, Health, RelayHealth } from "./health.js";
export type { Inbox } from "./inbox.js";
export type { ReaderState } from "./log.js";
export {
  type AnyCommandType,
  type AnyEventType,
  type AnyMessageType,
  type Command,
  type CommandOf,
  type CommandOptions,
  type CommandType,
  command,
  type Event,
  type EventOf,
  type EventOptions,
  type EventType,
  event,
  idOf,
  type Message,
  metadataOf,
  type Payload,
  type ResultOf,
  typeOf,
  type Upcaster,
} from "./message.js";
export { type ActorType, Metadata, type MetadataFields } from "./metadata.js";
export { Outbox, type OutboxBacklog } from "./outbox.js";
export { type ErrorRecord, Reject, RetryAfter } from "./outcome.js";
export type {
  Progress,
  Projected,
  ProjectionHandler,
  ProjectionOptions,
  ProjectionState,
} from "./projections.js";
export type { Rebuild, RebuildOptions } from "./rebuild.js";
export type { RecordedEvent } from "./recorded.js";
export {
  type Age,
  type PurgeDeadLettersOptions,
  type PurgedStreams,
  type PurgeStreamsOptions,
  Retention,
} from "./retention.js";
export { type ErrorType, type RetryPolicy, retryDelay } from "./retry.js";
export { type InputOf, type OutputOf, type PayloadObject, type Schema, type } from "./schema.js";
export type { Logger, OrkestraOptions } from "./settings.js";
export type {
  Append,
  Appended,
  AppendOptions,
  DeleteOptions,
  ExpectedRevision,
  ReadAllOptions,
  ReadStreamOptions,
} from "./store.js";
export { Store } from "./store.js";
export { type Batch, type SubscribeOptions, Subscription } from "./subscription.js";
export { patternMatches, topicOf } from "./topic.js";
