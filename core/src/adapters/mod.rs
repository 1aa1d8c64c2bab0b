//! The technologies behind the ports: a folder for each. No rule of the domain in here.

#[cfg(feature = "kurrentdb")]
pub mod kurrentdb;
pub mod memory;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;
#[cfg(any(
    feature = "kurrentdb",
    feature = "postgres",
    feature = "rabbitmq",
    feature = "sqlite"
))]
mod shared;
#[cfg(feature = "sqlite")]
pub mod sqlite;
