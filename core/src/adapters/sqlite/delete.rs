//! Deleting a stream within a transaction.

use super::{error::Failure, number::signed, writer::Tx};
use crate::ports::{DeleteMode, ExpectedRevision, StoreError, StreamName};

impl Tx<'_> {
    /// Deletes `stream` and records it. Its snapshot goes too: it folds what is no longer to be read.
    pub(super) fn delete(
        &mut self,
        stream: &StreamName,
        expected: ExpectedRevision,
        mode: DeleteMode,
    ) -> Result<bool, Failure> {
        let head = self.head(stream)?;
        let actual = head.and_then(|h| h.last);
        if !expected.holds(actual) {
            return Err(StoreError::RevisionConflict {
                stream: stream.to_string(),
                expected,
                actual,
            }
            .into());
        }
        let (Some(head), Some(last)) = (head, actual) else {
            return Ok(false);
        };
        let word = match mode {
            DeleteMode::Soft => {
                let changed = self
                    .conn
                    .prepare_cached(
                        "UPDATE orkestra_streams SET deleted_through = ?2 \
                         WHERE id = ?1 AND coalesce(deleted_through, -1) < ?2",
                    )?
                    .execute((head.id, signed(last)))?;
                if changed == 0 {
                    return Ok(false);
                }
                "soft"
            }
            DeleteMode::Hard => "hard",
        };
        let given_out = self.next_position()? - 1;
        self.conn
            .prepare_cached(
                "INSERT INTO orkestra_deletions (stream, mode, last_revision, head, deleted_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute((
                &**stream,
                word,
                signed(last),
                signed(given_out),
                self.clock.now().as_micros(),
            ))?;
        self.conn
            .prepare_cached("DELETE FROM orkestra_snapshots WHERE stream = ?1")?
            .execute([&**stream])?;
        if mode == DeleteMode::Hard {
            self.remove_events(head.id)?;
            // The number of the stream stays: readers know its name by it.
            self.heads.clear();
        }
        Ok(true)
    }

    fn remove_events(&self, stream: i64) -> Result<(), rusqlite::Error> {
        for sql in [
            // Opens the trigger that refuses to delete events by hand.
            "INSERT INTO orkestra_deleting (stream_id) VALUES (?1)",
            "DELETE FROM orkestra_events WHERE stream_id = ?1",
            "DELETE FROM orkestra_deleting WHERE stream_id = ?1",
            "UPDATE orkestra_streams SET deleted_through = NULL WHERE id = ?1",
        ] {
            self.conn.prepare_cached(sql)?.execute([stream])?;
        }
        Ok(())
    }
}
