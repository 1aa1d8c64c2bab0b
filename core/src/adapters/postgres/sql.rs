//! SQL text with the names of one schema.

use sha2::{Digest, Sha256};

/// Puts a schema's names into SQL text.
#[derive(Debug, Clone)]
pub(super) struct Sql {
    schema: String,
    /// Who holds this lock may write to the log.
    lock: i64,
}

impl Sql {
    pub(super) fn new(schema: &str) -> Self {
        let digest = Sha256::digest(format!("orkestra log {schema}"));
        let mut number = [0; 8];
        number.copy_from_slice(&digest[..8]);
        Self {
            schema: schema.to_owned(),
            lock: i64::from_be_bytes(number),
        }
    }

    /// `text` with `{schema}` and `{lock}` filled in.
    pub(super) fn render(&self, text: &str) -> String {
        text.replace("{schema}", &self.schema)
            .replace("{lock}", &self.lock.to_string())
    }
}
