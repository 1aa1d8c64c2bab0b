//! The app: adapters picked by URL and wired together.

mod services;

pub use services::{Backend, DEFAULT_STORE, Plan, Services, Settings};
