//! What can go wrong with a subscription.

use crate::code::coded_errors;

coded_errors! {
    /// What can go wrong with a subscription.
    pub enum SubscriptionError: "SUBSCRIPTION" {
        /// The subscription did not get there in time.
        #[error("subscription {name} did not reach position {position} within {seconds} s")]
        NotCaughtUp {
            /// The subscription.
            name: String,
            /// The position waited for.
            position: u64,
            /// The limit in seconds.
            seconds: f64,
        } = "ORK_SUBSCRIPTION_NOT_CAUGHT_UP", "NotCaughtUpError", transient: true;

        /// The app has a subscription of that name already.
        #[error("a subscription with the name {name} exists already")]
        DuplicateName {
            /// The name.
            name: String,
        } = "ORK_SUBSCRIPTION_DUPLICATE_NAME", "DuplicateSubscriptionError", transient: false;

        /// The subscription stopped at an event that its handler cannot handle.
        #[error("subscription {name} stopped at position {position}: {reason}")]
        Stopped {
            /// The subscription.
            name: String,
            /// The event's position.
            position: u64,
            /// The handler's error.
            reason: String,
        } = "ORK_SUBSCRIPTION_STOPPED", "SubscriptionStoppedError", transient: false;
    }
}
