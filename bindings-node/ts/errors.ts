/**
 * Every error, with its code and its facts. The classes follow `tests/vectors/errors.json`; advice is in `docs/errors.md`.
 *
 * @packageDocumentation
 */

/** The facts of an error: JSON, keys as on the wire. */
export type ErrorDetails = Readonly<Record<string, unknown>>;

/** A field of a payload that is wrong. */
export interface InvalidField {
  /** Where: names and indexes joined by dots, empty for the payload as a whole. */
  readonly path: string;
  /** What is wrong with it. */
  readonly message: string;
}

/**
 * The base of every error that Orkestra makes. What a handler throws comes back as itself, in process.
 *
 * @example
 * ```ts
 * try {
 *   await app.dispatch(PlaceOrder({ product_id: "sku_42", quantity: 3 }));
 * } catch (error) {
 *   if (error instanceof OrkestraError && error.transient) retryLater(error.code);
 *   else throw error;
 * }
 * ```
 */
export class OrkestraError extends Error {
  /** The class's code; a layer's own class has none. */
  static readonly code: string = "ORK_UNKNOWN";
  /** Whether the same call may succeed later without any change. */
  static readonly transient: boolean = false;

  /** The stable code, for example `ORK_BUS_NO_HANDLER`. */
  readonly code: string;
  /** The facts. */
  readonly details: ErrorDetails;
  /** Whether the same call may succeed later without any change. */
  readonly transient: boolean;

  constructor(message: string, details: ErrorDetails = {}, options?: ErrorOptions) {
    super(message, options);
    this.code = new.target.code;
    this.details = details;
    this.transient = new.target.transient;
  }

  override get name(): string {
    return this.constructor.name;
  }
}

/** What can go wrong with a message. */
export class MessageError extends OrkestraError {}

/** A required key of an envelope is missing. */
export class MissingFieldError extends MessageError {
  static override readonly code: string = "ORK_MESSAGE_MISSING_FIELD";
  declare readonly details: {
    readonly type_name: string;
    readonly field: string;
  };
}

/** A key of an envelope has a value of another type or out of its range. */
export class InvalidFieldError extends MessageError {
  static override readonly code: string = "ORK_MESSAGE_INVALID_FIELD";
  declare readonly details: {
    readonly type_name: string;
    readonly field: string;
    readonly expected: string;
    readonly found: string;
  };
}

/** The bytes are not JSON. */
export class MalformedError extends MessageError {
  static override readonly code: string = "ORK_MESSAGE_MALFORMED";
  declare readonly details: {
    readonly reason: string;
  };
}

/** The payload does not fit its type. */
export class InvalidPayloadError extends MessageError {
  static override readonly code: string = "ORK_MESSAGE_INVALID_PAYLOAD";
  declare readonly details: {
    readonly type_name: string;
    readonly reason: string;
    readonly errors: readonly InvalidField[];
  };
}

/** The payload has a value that JSON cannot hold: NaN, bytes, a cycle, … */
export class NotJsonError extends MessageError {
  static override readonly code: string = "ORK_MESSAGE_NOT_JSON";
  declare readonly details: {
    readonly type_name: string;
    readonly path: string;
    readonly reason: string;
  };
}

/** The encoded payload is larger than the app's `max_payload_bytes`. */
export class TooLargeError extends MessageError {
  static override readonly code: string = "ORK_MESSAGE_TOO_LARGE";
  declare readonly details: {
    readonly type_name: string;
    readonly size: number;
    readonly limit: number;
  };
}

/** The payload is nested deeper than 128 levels. */
export class TooDeepError extends MessageError {
  static override readonly code: string = "ORK_MESSAGE_TOO_DEEP";
  declare readonly details: {
    readonly type_name: string;
    readonly limit: number;
  };
}

/** An id of a message is not a UUID. */
export class InvalidIdError extends MessageError {
  static override readonly code: string = "ORK_MESSAGE_INVALID_ID";
  declare readonly details: {
    readonly value: string;
  };
}

/** A field of the metadata is out of its range. */
export class InvalidMetadataError extends MessageError {
  static override readonly code: string = "ORK_MESSAGE_INVALID_METADATA";
  declare readonly details: {
    readonly field: string;
    readonly reason: string;
  };
}

/** A type name is not dotted CamelCase of ASCII letters and digits. */
export class InvalidTypeNameError extends MessageError {
  static override readonly code: string = "ORK_MESSAGE_INVALID_TYPE_NAME";
  declare readonly details: {
    readonly type_name: string;
    readonly reason: string;
  };
}

/** Nothing is left of a type name without the app's prefix. */
export class EmptyTopicError extends MessageError {
  static override readonly code: string = "ORK_MESSAGE_EMPTY_TOPIC";
  declare readonly details: {
    readonly type_name: string;
    readonly app_prefix: string;
  };
}

/** Two types of one app have the same topic. */
export class TopicConflictError extends MessageError {
  static override readonly code: string = "ORK_MESSAGE_TOPIC_CONFLICT";
  declare readonly details: {
    readonly topic: string;
    readonly first: string;
    readonly second: string;
  };
}

/** Two classes of one app have the same type name or alias. */
export class DuplicateTypeError extends MessageError {
  static override readonly code: string = "ORK_MESSAGE_DUPLICATE_TYPE";
  declare readonly details: {
    readonly type_name: string;
    readonly first: string;
    readonly second: string;
  };
}

/** A topic pattern is too long or has a space in it. */
export class InvalidPatternError extends MessageError {
  static override readonly code: string = "ORK_MESSAGE_INVALID_PATTERN";
  declare readonly details: {
    readonly pattern: string;
    readonly reason: string;
  };
}

/** A recorded event is of an older schema and no upcaster leads on from it, or of a newer one than the class. */
export class NoUpcasterError extends MessageError {
  static override readonly code: string = "ORK_MESSAGE_NO_UPCASTER";
  declare readonly details: {
    readonly type_name: string;
    readonly from: number;
    readonly to: number;
  };
}

/** The message has not been sent or made from another one, so it has no id and no metadata yet. */
export class NotStampedError extends MessageError {
  static override readonly code: string = "ORK_MESSAGE_NOT_STAMPED";
  declare readonly details: {
    readonly type_name: string;
  };
}

/** What can go wrong with a retry policy. */
export class RetryError extends OrkestraError {}

/** A number of the policy is out of its range. */
export class InvalidRetryPolicyError extends RetryError {
  static override readonly code: string = "ORK_RETRY_INVALID_POLICY";
  declare readonly details: {
    readonly field: string;
    readonly reason: string;
  };
}

/** What can go wrong between a sender and a handler. */
export class BusError extends OrkestraError {}

/** No handler takes the command. */
export class NoHandlerError extends BusError {
  static override readonly code: string = "ORK_BUS_NO_HANDLER";
  declare readonly details: {
    readonly topic: string;
  };
}

/** The command has a handler already. */
export class DuplicateHandlerError extends BusError {
  static override readonly code: string = "ORK_BUS_DUPLICATE_HANDLER";
  declare readonly details: {
    readonly topic: string;
    readonly handler: string;
  };
}

/** Two handlers of one app have the same name. */
export class DuplicateHandlerNameError extends BusError {
  static override readonly code: string = "ORK_BUS_DUPLICATE_HANDLER_NAME";
  declare readonly details: {
    readonly handler: string;
  };
}

/** A handler's registration is not valid. */
export class InvalidHandlerError extends BusError {
  static override readonly code: string = "ORK_BUS_INVALID_HANDLER";
  declare readonly details: {
    readonly handler: string;
    readonly reason: string;
  };
}

/** Something that is no command was dispatched, or something that is no event published. */
export class WrongKindError extends BusError {
  static override readonly code: string = "ORK_BUS_WRONG_KIND";
  declare readonly details: {
    readonly expected: string;
    readonly found: string;
  };
}

/** The handler refused the command. Not a failure. */
export class RejectedError extends BusError {
  static override readonly code: string = "ORK_BUS_REJECTED";
  declare readonly details: {
    readonly reason: string;
    readonly data: unknown;
  };
}

/** A handler in another process failed; in process the caller gets the handler's own error. */
export class HandlerError extends BusError {
  static override readonly code: string = "ORK_BUS_HANDLER_FAILED";
  declare readonly details: {
    readonly handler: string;
    readonly error_type: string;
    readonly message: string;
    readonly trace: string;
  };
}

/** A handler ran longer than its `timeout`. The attempt counts as failed. */
export class HandlerTimeoutError extends BusError {
  static override readonly code: string = "ORK_BUS_HANDLER_TIMEOUT";
  static override readonly transient: boolean = true;
  declare readonly details: {
    readonly handler: string;
    readonly seconds: number;
  };
}

/** The caller's `timeout` is over. The command may still be handled. */
export class DispatchTimeoutError extends BusError {
  static override readonly code: string = "ORK_BUS_DISPATCH_TIMEOUT";
  static override readonly transient: boolean = true;
  declare readonly details: {
    readonly topic: string;
    readonly seconds: number;
  };
}

/** The broker is away, or did not confirm in time. What was published may have been accepted all the same. */
export class BusUnavailableError extends BusError {
  static override readonly code: string = "ORK_BUS_UNAVAILABLE";
  static override readonly transient: boolean = true;
  declare readonly details: {
    readonly reason: string;
  };
}

/** The broker refuses us: wrong user or password, no such virtual host, no permission. */
export class AccessRefusedError extends BusError {
  static override readonly code: string = "ORK_BUS_ACCESS_REFUSED";
  declare readonly details: {
    readonly what: string;
    readonly reason: string;
  };
}

/** A queue or an exchange exists with other arguments than ours. */
export class TopologyMismatchError extends BusError {
  static override readonly code: string = "ORK_BUS_TOPOLOGY_MISMATCH";
  declare readonly details: {
    readonly resource: string;
    readonly difference: string;
  };
}

/** A queue or an exchange is not there and may not be declared. */
export class TopologyMissingError extends BusError {
  static override readonly code: string = "ORK_BUS_TOPOLOGY_MISSING";
  declare readonly details: {
    readonly resource: string;
  };
}

/** The broker takes no message of this size. */
export class MessageTooLargeError extends BusError {
  static override readonly code: string = "ORK_BUS_MESSAGE_TOO_LARGE";
  declare readonly details: {
    readonly topic: string;
    readonly bytes: number;
    readonly reason: string;
  };
}

/** The bus has been closed. */
export class BusClosedError extends BusError {
  static override readonly code: string = "ORK_BUS_CLOSED";
}

/** What can go wrong with a store. */
export class StoreError extends OrkestraError {}

/** The stream is not at the revision that the append expected. */
export class RevisionConflictError extends StoreError {
  static override readonly code: string = "ORK_STORE_REVISION_CONFLICT";
  declare readonly details: {
    readonly stream: string;
    readonly expected: "any" | "no_stream" | "stream_exists" | number;
    readonly actual: number | null;
  };
}

/** An event id of the batch is stored already, and the batch is no repetition of a stored one. */
export class DuplicateEventError extends StoreError {
  static override readonly code: string = "ORK_STORE_DUPLICATE_EVENT";
  declare readonly details: {
    readonly event_id: string;
    readonly stream: string;
  };
}

/** The stream's name is empty, too long, reserved or has a control character. */
export class InvalidStreamNameError extends StoreError {
  static override readonly code: string = "ORK_STORE_INVALID_STREAM_NAME";
  declare readonly details: {
    readonly stream: string;
    readonly reason: string;
  };
}

/** An argument is out of its range. */
export class InvalidArgumentError extends StoreError {
  static override readonly code: string = "ORK_STORE_INVALID_ARGUMENT";
  declare readonly details: {
    readonly argument: string;
    readonly reason: string;
  };
}

/** The store is away; the call may succeed later. Whether a write took place is not known. */
export class StoreUnavailableError extends StoreError {
  static override readonly code: string = "ORK_STORE_UNAVAILABLE";
  static override readonly transient: boolean = true;
  declare readonly details: {
    readonly reason: string;
  };
}

/** Another program holds the store's file for longer than the wait allowed. */
export class StoreLockedError extends StoreError {
  static override readonly code: string = "ORK_STORE_LOCKED";
  static override readonly transient: boolean = true;
  declare readonly details: {
    readonly path: string;
  };
}

/** The store's file or folder cannot be opened or made. */
export class CannotOpenStoreError extends StoreError {
  static override readonly code: string = "ORK_STORE_CANNOT_OPEN";
  declare readonly details: {
    readonly path: string;
    readonly reason: string;
  };
}

/** The file is something else, or damaged. */
export class NotADatabaseError extends StoreError {
  static override readonly code: string = "ORK_STORE_NOT_A_DATABASE";
  declare readonly details: {
    readonly path: string;
    readonly reason: string;
  };
}

/** The store is on a read-only disk or without permission to write. */
export class ReadOnlyStoreError extends StoreError {
  static override readonly code: string = "ORK_STORE_READ_ONLY";
  declare readonly details: {
    readonly path: string;
  };
}

/** The disk is full. Nothing of the call was stored. */
export class DiskFullError extends StoreError {
  static override readonly code: string = "ORK_STORE_DISK_FULL";
  static override readonly transient: boolean = true;
  declare readonly details: {
    readonly path: string;
  };
}

/** The database was written by a newer release. */
export class NewerSchemaError extends StoreError {
  static override readonly code: string = "ORK_STORE_NEWER_SCHEMA";
  declare readonly details: {
    readonly store: string;
    readonly found: number;
    readonly supported: number;
  };
}

/** The server refuses the user: a wrong password, no such user, or no entry for it. */
export class AccessDeniedError extends StoreError {
  static override readonly code: string = "ORK_STORE_ACCESS_DENIED";
  declare readonly details: {
    readonly store: string;
    readonly reason: string;
  };
}

/** The server has no such database. */
export class NoDatabaseError extends StoreError {
  static override readonly code: string = "ORK_STORE_NO_DATABASE";
  declare readonly details: {
    readonly store: string;
    readonly database: string;
  };
}

/** The user may not do that. */
export class PermissionDeniedError extends StoreError {
  static override readonly code: string = "ORK_STORE_PERMISSION_DENIED";
  declare readonly details: {
    readonly store: string;
    readonly reason: string;
  };
}

/** The store cannot hold a payload that is JSON all the same. */
export class UnsupportedPayloadError extends StoreError {
  static override readonly code: string = "ORK_STORE_UNSUPPORTED_PAYLOAD";
  declare readonly details: {
    readonly event_id: string;
    readonly path: string;
    readonly reason: string;
  };
}

/** What is stored cannot be read as what it should be. */
export class CorruptError extends StoreError {
  static override readonly code: string = "ORK_STORE_CORRUPT";
  declare readonly details: {
    readonly what: string;
    readonly reason: string;
  };
}

/** The certificate of the server is not one to trust. */
export class UntrustedServerError extends StoreError {
  static override readonly code: string = "ORK_STORE_UNTRUSTED_SERVER";
  declare readonly details: {
    readonly server: string;
    readonly reason: string;
  };
}

/** This store cannot do that. */
export class UnsupportedError extends StoreError {
  static override readonly code: string = "ORK_STORE_UNSUPPORTED";
  declare readonly details: {
    readonly store: string;
    readonly what: string;
    readonly reason: string;
  };
}

/** The stream was hard deleted, and this store never lets it begin again. */
export class StreamDeletedError extends StoreError {
  static override readonly code: string = "ORK_STORE_STREAM_DELETED";
  declare readonly details: { readonly stream: string };
}

/** The store is closed. */
export class StoreClosedError extends StoreError {
  static override readonly code: string = "ORK_STORE_CLOSED";
}

/** A checkpoint is not where the save expected it. */
export class CheckpointMismatchError extends StoreError {
  static override readonly code: string = "ORK_STORE_CHECKPOINT_MISMATCH";
  declare readonly details: {
    readonly name: string;
    readonly expected: number | null;
    readonly actual: number | null;
  };
}

/** A checkpoint would move backwards, and the save is no reset. */
export class CheckpointBehindError extends StoreError {
  static override readonly code: string = "ORK_STORE_CHECKPOINT_BEHIND";
  declare readonly details: {
    readonly name: string;
    readonly position: number;
    readonly actual: number;
  };
}

/** The lease was granted to another owner since. */
export class StaleLeaseError extends StoreError {
  static override readonly code: string = "ORK_STORE_STALE_LEASE";
  declare readonly details: {
    readonly name: string;
    readonly token: number;
    readonly current: number;
  };
}

/** There is no dead letter of that id. */
export class NoDeadLetterError extends StoreError {
  static override readonly code: string = "ORK_STORE_NO_DEAD_LETTER";
  declare readonly details: {
    readonly id: string;
  };
}

/** What can go wrong with an aggregate. */
// biome-ignore lint/suspicious/noShadowRestrictedNames: the catalogue names it, and nobody needs the global one here
export class AggregateError extends OrkestraError {}

/** The aggregate does not take this command. */
export class UnexpectedCommandError extends AggregateError {
  static override readonly code: string = "ORK_AGGREGATE_UNEXPECTED_COMMAND";
  declare readonly details: {
    readonly aggregate: string;
    readonly type_name: string;
  };
}

/** `decide` returned something that is neither an event, nor events, nor a refusal. */
export class InvalidDecisionError extends AggregateError {
  static override readonly code: string = "ORK_AGGREGATE_INVALID_DECISION";
  declare readonly details: {
    readonly aggregate: string;
    readonly found: string;
  };
}

/** The aggregate's definition is not complete, or it was added twice. */
export class InvalidAggregateError extends AggregateError {
  static override readonly code: string = "ORK_AGGREGATE_INVALID_DEFINITION";
  declare readonly details: {
    readonly aggregate: string;
    readonly reason: string;
  };
}

/** The stream holds an event that the aggregate's app does not know. */
export class UnknownEventError extends AggregateError {
  static override readonly code: string = "ORK_AGGREGATE_UNKNOWN_EVENT";
  declare readonly details: {
    readonly aggregate: string;
    readonly stream: string;
    readonly revision: number;
    readonly type_name: string;
  };
}

/** What can go wrong with a subscription. */
export class SubscriptionError extends OrkestraError {}

/** The subscription did not get there in time. */
export class NotCaughtUpError extends SubscriptionError {
  static override readonly code: string = "ORK_SUBSCRIPTION_NOT_CAUGHT_UP";
  static override readonly transient: boolean = true;
  declare readonly details: {
    readonly name: string;
    readonly position: number;
    readonly seconds: number;
  };
}

/** The app has a subscription of that name already. */
export class DuplicateSubscriptionError extends SubscriptionError {
  static override readonly code: string = "ORK_SUBSCRIPTION_DUPLICATE_NAME";
  declare readonly details: {
    readonly name: string;
  };
}

/** The subscription stopped at an event that its handler cannot handle. */
export class SubscriptionStoppedError extends SubscriptionError {
  static override readonly code: string = "ORK_SUBSCRIPTION_STOPPED";
  declare readonly details: {
    readonly name: string;
    readonly position: number;
    readonly reason: string;
  };
}

/** What can go wrong with a projection. */
export class ProjectionError extends OrkestraError {}

/** The app has no projection of that name. */
export class UnknownProjectionError extends ProjectionError {
  static override readonly code: string = "ORK_PROJECTION_UNKNOWN";
  declare readonly details: {
    readonly name: string;
  };
}

/** The projection is being rebuilt, here or in another process. */
export class RebuildRunningError extends ProjectionError {
  static override readonly code: string = "ORK_PROJECTION_REBUILD_RUNNING";
  static override readonly transient: boolean = true;
  declare readonly details: {
    readonly name: string;
  };
}

/** The projection has no function that puts a rebuilt view in place. */
export class NoSwitchError extends ProjectionError {
  static override readonly code: string = "ORK_PROJECTION_NO_SWITCH";
  declare readonly details: {
    readonly name: string;
  };
}

/** What can go wrong with the app as a whole. */
export class AppError extends OrkestraError {}

/** A setting's URL cannot be used. */
export class InvalidUrlError extends AppError {
  static override readonly code: string = "ORK_APP_INVALID_URL";
  declare readonly details: {
    readonly setting: string;
    readonly url: string;
    readonly reason: string;
  };
}

/** A setting is out of its range. */
export class InvalidSettingError extends AppError {
  static override readonly code: string = "ORK_APP_INVALID_SETTING";
  declare readonly details: {
    readonly setting: string;
    readonly reason: string;
  };
}

/** The app is closed. */
export class ClosedError extends AppError {
  static override readonly code: string = "ORK_APP_CLOSED";
  declare readonly details: {
    readonly app: string;
  };
}

/** The app has not been started. */
export class NotStartedError extends AppError {
  static override readonly code: string = "ORK_APP_NOT_STARTED";
  declare readonly details: {
    readonly app: string;
  };
}

/** Registration after the start. */
export class AlreadyStartedError extends AppError {
  static override readonly code: string = "ORK_APP_ALREADY_STARTED";
  declare readonly details: {
    readonly app: string;
    readonly what: string;
  };
}

/** The app was started before this process was forked off. */
export class ForkedError extends AppError {
  static override readonly code: string = "ORK_APP_FORKED";
  declare readonly details: {
    readonly app: string;
    readonly parent: number;
  };
}

/** A blocking wait inside a running event loop would stop that loop. */
export class WaitInLoopError extends AppError {
  static override readonly code: string = "ORK_APP_WAIT_IN_LOOP";
}

/** A blocking wait took longer than its limit. */
export class WaitTimeoutError extends AppError {
  static override readonly code: string = "ORK_APP_WAIT_TIMEOUT";
  static override readonly transient: boolean = true;
  declare readonly details: {
    readonly seconds: number;
  };
}

/** What was given as the user's own connection is none that is known. */
export class InvalidConnectionError extends AppError {
  static override readonly code: string = "ORK_APP_INVALID_CONNECTION";
  declare readonly details: {
    readonly expected: string;
    readonly found: string;
  };
}

/** The user's own connection commits each statement by itself. */
export class NoTransactionError extends AppError {
  static override readonly code: string = "ORK_APP_NO_TRANSACTION";
  declare readonly details: {
    readonly connection: string;
  };
}

/** The user's own connection is open on the file of the app's store. */
export class StoreFileError extends AppError {
  static override readonly code: string = "ORK_APP_STORE_FILE";
  declare readonly details: {
    readonly path: string;
  };
}

type ErrorClass = typeof OrkestraError;

const CLASSES: readonly ErrorClass[] = [
  MissingFieldError,
  InvalidFieldError,
  MalformedError,
  InvalidPayloadError,
  NotJsonError,
  TooLargeError,
  TooDeepError,
  InvalidIdError,
  InvalidMetadataError,
  InvalidTypeNameError,
  EmptyTopicError,
  TopicConflictError,
  DuplicateTypeError,
  InvalidPatternError,
  NoUpcasterError,
  NotStampedError,
  InvalidRetryPolicyError,
  NoHandlerError,
  DuplicateHandlerError,
  DuplicateHandlerNameError,
  InvalidHandlerError,
  WrongKindError,
  RejectedError,
  HandlerError,
  HandlerTimeoutError,
  DispatchTimeoutError,
  BusUnavailableError,
  AccessRefusedError,
  TopologyMismatchError,
  TopologyMissingError,
  MessageTooLargeError,
  BusClosedError,
  RevisionConflictError,
  DuplicateEventError,
  InvalidStreamNameError,
  InvalidArgumentError,
  StoreUnavailableError,
  StoreLockedError,
  CannotOpenStoreError,
  NotADatabaseError,
  ReadOnlyStoreError,
  DiskFullError,
  NewerSchemaError,
  AccessDeniedError,
  NoDatabaseError,
  PermissionDeniedError,
  UnsupportedPayloadError,
  CorruptError,
  UntrustedServerError,
  UnsupportedError,
  StreamDeletedError,
  StoreClosedError,
  CheckpointMismatchError,
  CheckpointBehindError,
  StaleLeaseError,
  NoDeadLetterError,
  UnexpectedCommandError,
  InvalidDecisionError,
  InvalidAggregateError,
  UnknownEventError,
  NotCaughtUpError,
  DuplicateSubscriptionError,
  SubscriptionStoppedError,
  UnknownProjectionError,
  RebuildRunningError,
  NoSwitchError,
  InvalidUrlError,
  InvalidSettingError,
  ClosedError,
  NotStartedError,
  AlreadyStartedError,
  ForkedError,
  WaitInLoopError,
  WaitTimeoutError,
  InvalidConnectionError,
  NoTransactionError,
  StoreFileError,
];

const BY_CODE: ReadonlyMap<string, ErrorClass> = new Map(CLASSES.map((type) => [type.code, type]));

interface NativeReason {
  readonly code: string;
  readonly message: string;
  readonly details: ErrorDetails;
}

/** The error of a native call's JSON reason. No other place parses it. A code of a newer native part stays an {@link OrkestraError}. */
export function errorOf(reason: string): Error {
  if (!reason.startsWith("{")) return new Error(reason);
  const { code, message, details } = JSON.parse(reason) as NativeReason;
  const type = BY_CODE.get(code);
  if (type !== undefined) return new type(message, details);
  return Object.assign(new OrkestraError(message, details), { code });
}

/** What a native call threw, as one of ours. */
export function fromNative(error: unknown): unknown {
  return error instanceof Error && error.message.startsWith("{") ? errorOf(error.message) : error;
}
