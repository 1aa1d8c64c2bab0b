"""Every error that Orkestra raises: one class for each code of the catalogue.

``OrkestraError`` is everyone's base; between it and a class stands the class of its
layer. ``code`` never changes between releases, ``details`` holds the facts as data, and
each fact is an attribute too.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "AccessDeniedError",
    "AccessRefusedError",
    "AggregateError",
    "AlreadyStartedError",
    "AppError",
    "BusClosedError",
    "BusError",
    "BusUnavailableError",
    "CannotOpenStoreError",
    "CheckpointBehindError",
    "CheckpointMismatchError",
    "ClosedError",
    "CorruptError",
    "DiskFullError",
    "DispatchTimeoutError",
    "DuplicateEventError",
    "DuplicateHandlerError",
    "DuplicateHandlerNameError",
    "DuplicateSubscriptionError",
    "DuplicateTypeError",
    "EmptyTopicError",
    "ForkedError",
    "HandlerError",
    "HandlerTimeoutError",
    "InvalidAggregateError",
    "InvalidArgumentError",
    "InvalidConnectionError",
    "InvalidDecisionError",
    "InvalidFieldError",
    "InvalidHandlerError",
    "InvalidIdError",
    "InvalidMetadataError",
    "InvalidPatternError",
    "InvalidPayloadError",
    "InvalidRetryPolicyError",
    "InvalidSettingError",
    "InvalidStreamNameError",
    "InvalidTypeNameError",
    "InvalidUrlError",
    "MalformedError",
    "MessageError",
    "MessageTooLargeError",
    "MissingFieldError",
    "NewerSchemaError",
    "NoDatabaseError",
    "NoDeadLetterError",
    "NoHandlerError",
    "NoSwitchError",
    "NoTransactionError",
    "NoUpcasterError",
    "NotADatabaseError",
    "NotCaughtUpError",
    "NotJsonError",
    "NotStampedError",
    "NotStartedError",
    "OrkestraError",
    "PermissionDeniedError",
    "ProjectionError",
    "ReadOnlyStoreError",
    "RebuildRunningError",
    "RejectedError",
    "RetryError",
    "RevisionConflictError",
    "StaleLeaseError",
    "StoreClosedError",
    "StoreError",
    "StoreFileError",
    "StoreLockedError",
    "StoreUnavailableError",
    "StreamDeletedError",
    "SubscriptionError",
    "SubscriptionStoppedError",
    "TooDeepError",
    "TooLargeError",
    "TopicConflictError",
    "TopologyMismatchError",
    "TopologyMissingError",
    "UnexpectedCommandError",
    "UnknownEventError",
    "UnknownProjectionError",
    "UnsupportedError",
    "UnsupportedPayloadError",
    "UntrustedServerError",
    "WaitInLoopError",
    "WaitTimeoutError",
    "WrongKindError",
]


class OrkestraError(Exception):
    """The base of all errors of Orkestra.

    Args:
        message: One line for people.
        details: The facts as data; each one is an attribute too.
    """

    code: ClassVar[str] = "ORK"
    transient: ClassVar[bool] = False
    """Whether the same call may succeed later without any change."""

    def __init__(
        self, message: str = "", details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message, details)
        self.message = message
        self.details: dict[str, Any] = {} if details is None else details
        for name, fact in self.details.items():
            self.__dict__.setdefault(name, fact)

    def __str__(self) -> str:
        return self.message


class MessageError(OrkestraError):
    """What can be wrong with a message, its names or its bytes."""


class MissingFieldError(MessageError):
    """A required key of an envelope is missing."""

    code = "ORK_MESSAGE_MISSING_FIELD"
    type_name: str
    field: str


class InvalidFieldError(MessageError):
    """A key of an envelope has a value of another type or out of its range."""

    code = "ORK_MESSAGE_INVALID_FIELD"
    type_name: str
    field: str
    expected: str
    found: str


class MalformedError(MessageError):
    """The bytes are not JSON."""

    code = "ORK_MESSAGE_MALFORMED"
    reason: str


class InvalidPayloadError(MessageError):
    """The payload does not fit its type."""

    code = "ORK_MESSAGE_INVALID_PAYLOAD"
    type_name: str
    reason: str
    errors: Any


class NotJsonError(MessageError):
    """The payload has a value that JSON cannot hold: NaN, bytes, a cycle."""

    code = "ORK_MESSAGE_NOT_JSON"
    type_name: str
    path: str
    reason: str


class TooLargeError(MessageError):
    """The encoded payload is larger than the app's ``max_payload_bytes``."""

    code = "ORK_MESSAGE_TOO_LARGE"
    type_name: str
    size: int
    limit: int


class TooDeepError(MessageError):
    """The payload is nested deeper than 128 levels."""

    code = "ORK_MESSAGE_TOO_DEEP"
    type_name: str
    limit: int


class InvalidIdError(MessageError):
    """An id of a message is not a UUID."""

    code = "ORK_MESSAGE_INVALID_ID"
    value: str


class InvalidMetadataError(MessageError):
    """A field of the metadata is out of its range."""

    code = "ORK_MESSAGE_INVALID_METADATA"
    field: str
    reason: str


class InvalidTypeNameError(MessageError):
    """A type name is not dotted CamelCase of ASCII letters and digits."""

    code = "ORK_MESSAGE_INVALID_TYPE_NAME"
    type_name: str
    reason: str


class EmptyTopicError(MessageError):
    """Nothing is left of a type name without the app's prefix."""

    code = "ORK_MESSAGE_EMPTY_TOPIC"
    type_name: str
    app_prefix: str


class TopicConflictError(MessageError):
    """Two types of one app have the same topic."""

    code = "ORK_MESSAGE_TOPIC_CONFLICT"
    topic: str
    first: str
    second: str


class DuplicateTypeError(MessageError):
    """Two classes of one app have the same type name or alias."""

    code = "ORK_MESSAGE_DUPLICATE_TYPE"
    type_name: str
    first: str
    second: str


class InvalidPatternError(MessageError):
    """A topic pattern is too long or has a space in it."""

    code = "ORK_MESSAGE_INVALID_PATTERN"
    pattern: str
    reason: str


class NoUpcasterError(MessageError):
    """A recorded event's schema cannot be brought to that of its class."""

    code = "ORK_MESSAGE_NO_UPCASTER"
    type_name: str
    # `from` is a keyword: read it from `details`.
    to: int


class NotStampedError(MessageError):
    """The message was only constructed: it has no id and no metadata yet."""

    code = "ORK_MESSAGE_NOT_STAMPED"
    type_name: str


class RetryError(OrkestraError):
    """What can be wrong with a retry policy."""


class InvalidRetryPolicyError(RetryError):
    """A number of the policy is out of its range."""

    code = "ORK_RETRY_INVALID_POLICY"
    field: str
    reason: str


class BusError(OrkestraError):
    """What can go wrong between a sender and a handler."""


class NoHandlerError(BusError):
    """No handler takes the command."""

    code = "ORK_BUS_NO_HANDLER"
    topic: str


class DuplicateHandlerError(BusError):
    """The command has a handler already."""

    code = "ORK_BUS_DUPLICATE_HANDLER"
    topic: str
    handler: str


class DuplicateHandlerNameError(BusError):
    """Two handlers of one app have the same name."""

    code = "ORK_BUS_DUPLICATE_HANDLER_NAME"
    handler: str


class InvalidHandlerError(BusError):
    """A handler's registration is not valid."""

    code = "ORK_BUS_INVALID_HANDLER"
    handler: str
    reason: str


class WrongKindError(BusError):
    """What was dispatched is no command, or what was published is no event."""

    code = "ORK_BUS_WRONG_KIND"
    expected: str
    found: str


class RejectedError(BusError):
    """The handler refused the command. Not a failure."""

    code = "ORK_BUS_REJECTED"
    reason: str
    data: Any


class HandlerError(BusError):
    """A handler in another process failed.

    In process the caller gets the handler's own error.
    """

    code = "ORK_BUS_HANDLER_FAILED"
    handler: str
    error_type: str
    message: str
    trace: str


class HandlerTimeoutError(BusError):
    """A handler ran longer than its `timeout`. The attempt counts as failed."""

    code = "ORK_BUS_HANDLER_TIMEOUT"
    transient = True
    handler: str
    seconds: float


class DispatchTimeoutError(BusError):
    """The caller's `timeout` is over. The command may still be handled."""

    code = "ORK_BUS_DISPATCH_TIMEOUT"
    transient = True
    topic: str
    seconds: float


class BusUnavailableError(BusError):
    """The broker is away, or did not confirm in time.

    What was being published may have been accepted all the same.
    """

    code = "ORK_BUS_UNAVAILABLE"
    transient = True
    reason: str


class AccessRefusedError(BusError):
    """The broker refuses us.

    Wrong user or password, no such virtual host, or no permission.
    """

    code = "ORK_BUS_ACCESS_REFUSED"
    what: str
    reason: str


class TopologyMismatchError(BusError):
    """A queue or an exchange exists with other arguments than ours."""

    code = "ORK_BUS_TOPOLOGY_MISMATCH"
    resource: str
    difference: str


class TopologyMissingError(BusError):
    """A queue or an exchange is not there and may not be declared."""

    code = "ORK_BUS_TOPOLOGY_MISSING"
    resource: str


class MessageTooLargeError(BusError):
    """The broker takes no message of this size."""

    code = "ORK_BUS_MESSAGE_TOO_LARGE"
    topic: str
    bytes: int
    reason: str


class BusClosedError(BusError):
    """The bus has been closed."""

    code = "ORK_BUS_CLOSED"


class StoreError(OrkestraError):
    """What can go wrong in a store."""


class RevisionConflictError(StoreError):
    """The stream is not at the revision that the append expected."""

    code = "ORK_STORE_REVISION_CONFLICT"
    stream: str
    expected: str | int
    actual: int | None


class DuplicateEventError(StoreError):
    """An event id is stored already, and the batch is no repetition of a stored one."""

    code = "ORK_STORE_DUPLICATE_EVENT"
    event_id: str
    stream: str


class InvalidStreamNameError(StoreError):
    """The stream's name is empty, too long, reserved or has a control character."""

    code = "ORK_STORE_INVALID_STREAM_NAME"
    stream: str
    reason: str


class InvalidArgumentError(StoreError):
    """An argument is out of its range."""

    code = "ORK_STORE_INVALID_ARGUMENT"
    argument: str
    reason: str


class StoreUnavailableError(StoreError):
    """The store is away; the call may succeed later.

    Whether a write took place is not known.
    """

    code = "ORK_STORE_UNAVAILABLE"
    transient = True
    reason: str


class StoreLockedError(StoreError):
    """Another program holds the store's file for longer than the wait allowed."""

    code = "ORK_STORE_LOCKED"
    transient = True
    path: str


class CannotOpenStoreError(StoreError):
    """The store's file or folder cannot be opened or made."""

    code = "ORK_STORE_CANNOT_OPEN"
    path: str
    reason: str


class NotADatabaseError(StoreError):
    """The file is something else, or damaged."""

    code = "ORK_STORE_NOT_A_DATABASE"
    path: str
    reason: str


class ReadOnlyStoreError(StoreError):
    """The store is on a read-only disk or without permission to write."""

    code = "ORK_STORE_READ_ONLY"
    path: str


class DiskFullError(StoreError):
    """The disk is full. Nothing of the call was stored."""

    code = "ORK_STORE_DISK_FULL"
    transient = True
    path: str


class NewerSchemaError(StoreError):
    """The database was written by a newer release."""

    code = "ORK_STORE_NEWER_SCHEMA"
    store: str
    found: int
    supported: int


class AccessDeniedError(StoreError):
    """The server refuses the user: a wrong password, or there is no such user."""

    code = "ORK_STORE_ACCESS_DENIED"
    store: str
    reason: str


class NoDatabaseError(StoreError):
    """The server has no such database."""

    code = "ORK_STORE_NO_DATABASE"
    store: str
    database: str


class PermissionDeniedError(StoreError):
    """The user may not do that."""

    code = "ORK_STORE_PERMISSION_DENIED"
    store: str
    reason: str


class UnsupportedPayloadError(StoreError):
    """The store cannot hold a payload that is JSON all the same."""

    code = "ORK_STORE_UNSUPPORTED_PAYLOAD"
    event_id: str
    path: str
    reason: str


class CorruptError(StoreError):
    """What is stored cannot be read as what it should be."""

    code = "ORK_STORE_CORRUPT"
    what: str
    reason: str


class UntrustedServerError(StoreError):
    """The certificate of the server is not one to trust."""

    code = "ORK_STORE_UNTRUSTED_SERVER"
    server: str
    reason: str


class UnsupportedError(StoreError):
    """This store cannot do that."""

    code = "ORK_STORE_UNSUPPORTED"
    store: str
    what: str
    reason: str


class StreamDeletedError(StoreError):
    """The stream was hard deleted, and this store never lets it begin again."""

    code = "ORK_STORE_STREAM_DELETED"
    stream: str


class StoreClosedError(StoreError):
    """The store is closed."""

    code = "ORK_STORE_CLOSED"


class CheckpointMismatchError(StoreError):
    """A checkpoint is not where the save expected it."""

    code = "ORK_STORE_CHECKPOINT_MISMATCH"
    name: str
    expected: int | None
    actual: int | None


class CheckpointBehindError(StoreError):
    """A checkpoint would move backwards, and the save is no reset."""

    code = "ORK_STORE_CHECKPOINT_BEHIND"
    name: str
    position: int
    actual: int


class StaleLeaseError(StoreError):
    """The lease was granted to another owner since."""

    code = "ORK_STORE_STALE_LEASE"
    name: str
    token: int
    current: int


class NoDeadLetterError(StoreError):
    """There is no dead letter of that id."""

    code = "ORK_STORE_NO_DEAD_LETTER"
    id: str


class AggregateError(OrkestraError):
    """What can be wrong with an aggregate."""


class UnexpectedCommandError(AggregateError):
    """The aggregate does not take this command."""

    code = "ORK_AGGREGATE_UNEXPECTED_COMMAND"
    aggregate: str
    type_name: str


class InvalidDecisionError(AggregateError):
    """``decide`` returned what is neither events nor a refusal."""

    code = "ORK_AGGREGATE_INVALID_DECISION"
    aggregate: str
    found: str


class InvalidAggregateError(AggregateError):
    """The aggregate's definition is not complete, or it was added twice."""

    code = "ORK_AGGREGATE_INVALID_DEFINITION"
    aggregate: str
    reason: str


class UnknownEventError(AggregateError):
    """The stream holds an event that the aggregate's app does not know."""

    code = "ORK_AGGREGATE_UNKNOWN_EVENT"
    aggregate: str
    stream: str
    revision: int
    type_name: str


class SubscriptionError(OrkestraError):
    """What can go wrong with a subscription."""


class NotCaughtUpError(SubscriptionError):
    """The subscription did not get there in time."""

    code = "ORK_SUBSCRIPTION_NOT_CAUGHT_UP"
    transient = True
    name: str
    position: int
    seconds: float


class DuplicateSubscriptionError(SubscriptionError):
    """The app has a subscription of that name already."""

    code = "ORK_SUBSCRIPTION_DUPLICATE_NAME"
    name: str


class SubscriptionStoppedError(SubscriptionError):
    """The subscription stopped at an event that its handler cannot handle."""

    code = "ORK_SUBSCRIPTION_STOPPED"
    name: str
    position: int
    reason: str


class ProjectionError(OrkestraError):
    """What can go wrong with a projection."""


class UnknownProjectionError(ProjectionError):
    """The app has no projection of that name."""

    code = "ORK_PROJECTION_UNKNOWN"
    name: str


class RebuildRunningError(ProjectionError):
    """The projection is being rebuilt, here or in another process."""

    code = "ORK_PROJECTION_REBUILD_RUNNING"
    transient = True
    name: str


class NoSwitchError(ProjectionError):
    """The projection has no function that puts a rebuilt view in place."""

    code = "ORK_PROJECTION_NO_SWITCH"
    name: str


class AppError(OrkestraError):
    """What can go wrong with an app as a whole."""


class InvalidUrlError(AppError):
    """A setting's URL cannot be used."""

    code = "ORK_APP_INVALID_URL"
    setting: str
    url: str
    reason: str


class InvalidSettingError(AppError):
    """A setting is out of its range."""

    code = "ORK_APP_INVALID_SETTING"
    setting: str
    reason: str


class ClosedError(AppError):
    """The app is closed."""

    code = "ORK_APP_CLOSED"
    app: str


class NotStartedError(AppError):
    """The app has not been started."""

    code = "ORK_APP_NOT_STARTED"
    app: str


class AlreadyStartedError(AppError):
    """Registration after the start."""

    code = "ORK_APP_ALREADY_STARTED"
    app: str
    what: str


class ForkedError(AppError):
    """The app was started before this process was forked off."""

    code = "ORK_APP_FORKED"
    app: str
    parent: int


class WaitInLoopError(AppError):
    """A blocking wait inside a running event loop would stop that loop."""

    code = "ORK_APP_WAIT_IN_LOOP"


class WaitTimeoutError(AppError):
    """A blocking wait took longer than its limit."""

    code = "ORK_APP_WAIT_TIMEOUT"
    transient = True
    seconds: float


class InvalidConnectionError(AppError):
    """What was given as the user's own connection is none that is known."""

    code = "ORK_APP_INVALID_CONNECTION"
    expected: str
    found: str


class NoTransactionError(AppError):
    """The user's own connection commits each statement by itself."""

    code = "ORK_APP_NO_TRANSACTION"
    connection: str


class StoreFileError(AppError):
    """The user's own connection is open on the file of the app's store."""

    code = "ORK_APP_STORE_FILE"
    path: str


def _by_code() -> dict[str, type[OrkestraError]]:
    classes: dict[str, type[OrkestraError]] = {}
    for layer in OrkestraError.__subclasses__():
        for error in layer.__subclasses__():
            classes[error.code] = error
    return classes


_CLASSES = _by_code()


def from_native(code: str, message: str, details: dict[str, Any]) -> OrkestraError:
    """The error for a code, its message and its facts: what the native module calls."""
    return _CLASSES.get(code, OrkestraError)(message, details)
