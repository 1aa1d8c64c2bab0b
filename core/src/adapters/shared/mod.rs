//! What adapters share: it knows no technology.

#[cfg(any(feature = "kurrentdb", feature = "postgres", feature = "rabbitmq"))]
pub(crate) mod pem;
pub(crate) mod reply;
pub(crate) mod signal;
#[cfg(any(feature = "kurrentdb", feature = "postgres", feature = "rabbitmq"))]
pub(crate) mod url;
