//! The Rust app on each store, in process and over RabbitMQ: BEHAVIOURS K, L, A21, A22, D04, D05, E.
//!
//! The cases are written once; `suite!` runs them.
#![expect(clippy::unwrap_used, reason = "tests")]

mod aggregates;
mod bus;
mod claims;
mod dead_letters;
mod log;
mod outbox;
mod projections;
mod remote;
mod retention;
mod shop;
mod subscriptions;
mod telemetry;
mod views;

/// Runs the named cases, each an `async fn(Arc<Store>)`: those that hold everywhere on every store, in process and over RabbitMQ, with nothing but
/// the URL changed; those of one kind of bus on every store.
macro_rules! suite {
    (
        $(everywhere { $($everywhere:ident),* $(,)? })?
        $(in_process { $($in_process:ident),* $(,)? })?
        $(over_a_broker { $($over:ident),* $(,)? })?
    ) => {
        mod memory {
            $($( #[test] fn $everywhere() { crate::shop::run(Some(crate::shop::Store::memory()), super::$everywhere); } )*)?
            $($( #[test] fn $in_process() { crate::shop::run(Some(crate::shop::Store::memory()), super::$in_process); } )*)?
        }
        mod sqlite {
            $($( #[test] fn $everywhere() { crate::shop::run(Some(crate::shop::Store::sqlite()), super::$everywhere); } )*)?
            $($( #[test] fn $in_process() { crate::shop::run(Some(crate::shop::Store::sqlite()), super::$in_process); } )*)?
        }
        mod kurrentdb_and_sqlite {
            $($( #[test] fn $everywhere() { crate::shop::run(Some(crate::shop::Store::kurrentdb()), super::$everywhere); } )*)?
            $($( #[test] fn $in_process() { crate::shop::run(Some(crate::shop::Store::kurrentdb()), super::$in_process); } )*)?
        }
        mod postgres {
            $($( #[test] fn $everywhere() { crate::shop::run(crate::shop::Store::postgres(), super::$everywhere); } )*)?
            $($( #[test] fn $in_process() { crate::shop::run(crate::shop::Store::postgres(), super::$in_process); } )*)?
        }
        mod rabbitmq {
            $($( #[test] fn $everywhere() { crate::shop::run(crate::shop::Store::memory().over_rabbitmq(), super::$everywhere); } )*)?
            $($( #[test] fn $over() { crate::shop::run(crate::shop::Store::memory().over_rabbitmq(), super::$over); } )*)?
        }
        mod rabbitmq_and_sqlite {
            $($( #[test] fn $everywhere() { crate::shop::run(crate::shop::Store::sqlite().over_rabbitmq(), super::$everywhere); } )*)?
            $($( #[test] fn $over() { crate::shop::run(crate::shop::Store::sqlite().over_rabbitmq(), super::$over); } )*)?
        }
        mod rabbitmq_and_postgres {
            $($( #[test] fn $everywhere() { crate::shop::run(crate::shop::Store::postgres().and_then(crate::shop::Store::over_rabbitmq), super::$everywhere); } )*)?
            $($( #[test] fn $over() { crate::shop::run(crate::shop::Store::postgres().and_then(crate::shop::Store::over_rabbitmq), super::$over); } )*)?
        }
    };
}
pub(crate) use suite;
