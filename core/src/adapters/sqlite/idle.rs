//! Finding idle streams.

use rusqlite::OptionalExtension;

use super::{
    error::Failure,
    number::{time, unsigned},
    reader::Reader,
};
use crate::ports::{IdlePage, IdleStream, IdleStreams, StreamName};

/// Streams that a page looks at at most, so that no read holds its thread for long.
const LOOKS: usize = 10_000;

impl Reader<'_> {
    pub(super) fn idle_streams(&self, options: &IdleStreams) -> Result<IdlePage, Failure> {
        let prefix = options.pattern.prefix();
        let after = options.after.as_deref().unwrap_or_default();
        let mut page = IdlePage::default();
        let mut names = self.conn.prepare_cached(
            "SELECT id, name FROM orkestra_streams WHERE name > ?1 AND name >= ?2 ORDER BY name",
        )?;
        let mut last_event = self.conn.prepare_cached(
            "SELECT revision, occurred_at FROM orkestra_events WHERE stream_id = ?1 \
             ORDER BY revision DESC LIMIT 1",
        )?;
        let mut rows = names.query((after, prefix))?;
        let mut looks = 0;
        while let Some(row) = rows.next()? {
            let name: String = row.get(1)?;
            if !name.starts_with(prefix) {
                return Ok(page);
            }
            let Ok(stream) = StreamName::new(&name) else {
                continue;
            };
            if options.pattern.matches(&name) {
                let last = last_event
                    .query_row([row.get::<_, i64>(0)?], |row| {
                        Ok((unsigned(row.get(0)?), time(row.get(1)?)))
                    })
                    .optional()?;
                if let Some((last_revision, last_occurred_at)) = last
                    && last_occurred_at < options.before
                {
                    page.streams.push(IdleStream {
                        stream: stream.clone(),
                        last_revision,
                        last_occurred_at,
                    });
                }
            }
            looks += 1;
            if looks >= LOOKS || page.streams.len() >= options.page_size() {
                page.after = Some(stream);
                return Ok(page);
            }
        }
        Ok(page)
    }
}
