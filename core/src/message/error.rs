//! What can be wrong with a message.

use crate::code::coded_errors;

coded_errors! {
    /// What can be wrong with a message, its names or its bytes.
    pub enum MessageError: "MESSAGE" {
        /// A required key of an envelope is missing.
        #[error("{type_name}: {field} is missing")]
        MissingField {
            /// The message's type name, or the kind of envelope when that is not known yet.
            type_name: String,
            /// JSON path of the key, `$.command_id`.
            field: String,
        } = "ORK_MESSAGE_MISSING_FIELD", "MissingFieldError", transient: false;

        /// A key of an envelope has a value of another type or out of its range.
        #[error("{type_name}: {field}: expected {expected}, found {found}")]
        InvalidField {
            /// The message's type name, or the kind of envelope when that is not known yet.
            type_name: String,
            /// JSON path of the key.
            field: String,
            /// What was expected.
            expected: String,
            /// What was found, shortened.
            found: String,
        } = "ORK_MESSAGE_INVALID_FIELD", "InvalidFieldError", transient: false;

        /// The bytes are not JSON.
        #[error("not JSON: {reason}")]
        Malformed {
            /// What the parser says, with line and column.
            reason: String,
        } = "ORK_MESSAGE_MALFORMED", "MalformedError", transient: false;

        /// The payload does not fit its type.
        #[error("{type_name}: {reason}")]
        InvalidPayload {
            /// The message's type name.
            type_name: String,
            /// One line for people, with every field that is wrong.
            reason: String,
            /// A list of `{path, message}`, one for each field that is wrong.
            errors: serde_json::Value,
        } = "ORK_MESSAGE_INVALID_PAYLOAD", "InvalidPayloadError", transient: false;

        /// The payload has a value that JSON cannot hold: NaN, bytes, a cycle, …
        #[error("{type_name}: {path}: {reason}")]
        NotJson {
            /// The message's type name.
            type_name: String,
            /// JSON path of the value, `$` when it is not known.
            path: String,
            /// What the value is.
            reason: String,
        } = "ORK_MESSAGE_NOT_JSON", "NotJsonError", transient: false;

        /// The encoded payload is larger than the app's `max_payload_bytes`.
        #[error("{type_name}: expected at most {limit} bytes, found {size}")]
        TooLarge {
            /// The message's type name.
            type_name: String,
            /// Bytes of the payload.
            size: u64,
            /// Bytes allowed.
            limit: u64,
        } = "ORK_MESSAGE_TOO_LARGE", "TooLargeError", transient: false;

        /// The payload is nested deeper than 128 levels.
        #[error("{type_name}: expected at most {limit} levels of nesting")]
        TooDeep {
            /// The message's type name.
            type_name: String,
            /// Levels allowed.
            limit: u64,
        } = "ORK_MESSAGE_TOO_DEEP", "TooDeepError", transient: false;

        /// An id of a message is not a UUID.
        #[error("expected a UUID, found {value}")]
        InvalidId {
            /// What was given, shortened.
            value: String,
        } = "ORK_MESSAGE_INVALID_ID", "InvalidIdError", transient: false;

        /// A field of the metadata is out of its range.
        #[error("metadata: {field}: {reason}")]
        InvalidMetadata {
            /// The field.
            field: String,
            /// What was expected and found.
            reason: String,
        } = "ORK_MESSAGE_INVALID_METADATA", "InvalidMetadataError", transient: false;

        /// A type name is not dotted CamelCase of ASCII letters and digits.
        #[error("type name {type_name}: {reason}")]
        InvalidTypeName {
            /// The name, shortened.
            type_name: String,
            /// What is wrong with it.
            reason: String,
        } = "ORK_MESSAGE_INVALID_TYPE_NAME", "InvalidTypeNameError", transient: false;

        /// Nothing is left of a type name without the app's prefix.
        #[error("type name {type_name} leaves no topic without the prefix {app_prefix}")]
        EmptyTopic {
            /// The type name.
            type_name: String,
            /// The app's prefix.
            app_prefix: String,
        } = "ORK_MESSAGE_EMPTY_TOPIC", "EmptyTopicError", transient: false;

        /// Two types of one app have the same topic.
        #[error("topic {topic} belongs to {first} and to {second}")]
        TopicConflict {
            /// The topic.
            topic: String,
            /// The type that had it first.
            first: String,
            /// The type that wants it too.
            second: String,
        } = "ORK_MESSAGE_TOPIC_CONFLICT", "TopicConflictError", transient: false;

        /// Two classes of one app have the same type name or alias.
        #[error("type name {type_name} is defined twice: {first} and {second}")]
        DuplicateType {
            /// The type name or alias.
            type_name: String,
            /// What defined it first.
            first: String,
            /// What defines it again.
            second: String,
        } = "ORK_MESSAGE_DUPLICATE_TYPE", "DuplicateTypeError", transient: false;

        /// A topic pattern is too long or has a space in it.
        #[error("pattern {pattern}: {reason}")]
        InvalidPattern {
            /// The pattern, shortened.
            pattern: String,
            /// What is wrong with it.
            reason: String,
        } = "ORK_MESSAGE_INVALID_PATTERN", "InvalidPatternError", transient: false;

        /// A recorded event is of an older schema and no upcaster leads on from it, or of a newer one than the class.
        #[error("{type_name}: no upcaster from version {from} to {to}")]
        NoUpcaster {
            /// The event's type name.
            type_name: String,
            /// The version that was recorded.
            from: u32,
            /// The version of the class.
            to: u32,
        } = "ORK_MESSAGE_NO_UPCASTER", "NoUpcasterError", transient: false;

        /// The message has not been sent or made from another one, so it has no id and no metadata yet.
        #[error("{type_name} has not been sent yet: it has no id and no metadata")]
        NotStamped {
            /// The message's type name.
            type_name: String,
        } = "ORK_MESSAGE_NOT_STAMPED", "NotStampedError", transient: false;
    }
}
