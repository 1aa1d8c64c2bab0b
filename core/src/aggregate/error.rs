//! What can be wrong with an aggregate.

use crate::code::coded_errors;

coded_errors! {
    /// What can be wrong with an aggregate.
    pub enum AggregateError: "AGGREGATE" {
        /// The aggregate does not take this command.
        #[error("aggregate {aggregate} does not take {type_name}")]
        UnexpectedCommand {
            /// The aggregate.
            aggregate: String,
            /// The command's type name, or what was given instead.
            type_name: String,
        } = "ORK_AGGREGATE_UNEXPECTED_COMMAND", "UnexpectedCommandError", transient: false;

        /// `decide` returned something that is neither an event, nor events, nor a refusal.
        #[error("aggregate {aggregate}: decide returned {found}")]
        InvalidDecision {
            /// The aggregate.
            aggregate: String,
            /// What it returned.
            found: String,
        } = "ORK_AGGREGATE_INVALID_DECISION", "InvalidDecisionError", transient: false;

        /// The aggregate's definition is not complete, or it was added twice.
        #[error("aggregate {aggregate}: {reason}")]
        InvalidDefinition {
            /// The aggregate.
            aggregate: String,
            /// What is wrong.
            reason: String,
        } = "ORK_AGGREGATE_INVALID_DEFINITION", "InvalidAggregateError", transient: false;

        /// The stream holds an event that the aggregate's app does not know.
        #[error("aggregate {aggregate}: event {revision} of {stream} has the unknown type {type_name}")]
        UnknownEvent {
            /// The aggregate.
            aggregate: String,
            /// The stream.
            stream: String,
            /// The event's revision.
            revision: u64,
            /// The event's type name.
            type_name: String,
        } = "ORK_AGGREGATE_UNKNOWN_EVENT", "UnknownEventError", transient: false;
    }
}
