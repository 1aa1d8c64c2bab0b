//! The Rust app in process, on each store: BEHAVIOURS K, L, A21, A22, D04, D05, E.
//!
//! The cases are written once; `suite!` runs them on the memory store and on SQLite.
#![expect(clippy::unwrap_used, reason = "tests")]

mod aggregates;
mod bus;
mod dead_letters;
mod log;
mod shop;
mod subscriptions;
mod telemetry;

/// Runs the named cases, each an `async fn(Store)`, on every store.
macro_rules! suite {
    ($($case:ident),+ $(,)?) => {
        mod memory {
            $( #[test] fn $case() { crate::shop::run(crate::shop::Store::memory(), super::$case); } )+
        }
        mod sqlite {
            $( #[test] fn $case() { crate::shop::run(crate::shop::Store::sqlite(), super::$case); } )+
        }
    };
}
pub(crate) use suite;
