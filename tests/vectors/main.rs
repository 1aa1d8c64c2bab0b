//! The vectors, run against the Rust crate. `README.md` beside this file says what is in them.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{fs, path::Path};

use serde::de::DeserializeOwned;

mod envelopes;
mod errors;
mod ids;
mod patterns;
mod retry;
mod store;
mod surface;
mod topics;

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/vectors"))
}

fn text_of(file: &str) -> String {
    fs::read_to_string(folder().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn read<T: DeserializeOwned>(file: &str) -> T {
    serde_json::from_str(&text_of(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}
