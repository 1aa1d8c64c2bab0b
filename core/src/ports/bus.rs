//! What can go wrong between a sender and a handler.

use crate::code::coded_errors;

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
    }
}
