//! Finding idle streams.

use tokio_postgres::types::Type;

use super::{
    connect::{Conn, Param},
    error::Failure,
    value::{Moment, unsigned},
};
use crate::ports::{IdlePage, IdleStream, IdleStreams, StreamName};

/// Streams that a page looks at at most.
const LOOKS: usize = 1_000;

const STREAMS: &str = "SELECT s.name, h.revision, h.occurred_at FROM ( \
         SELECT s.id, s.name FROM {schema}.streams s \
         WHERE left(s.name, 250) COLLATE \"C\" >= left($1, 250) AND s.name COLLATE \"C\" > $1 \
         AND left(s.name, 250) COLLATE \"C\" >= left($2, 250) AND s.name COLLATE \"C\" >= $2 \
         ORDER BY left(s.name, 250) COLLATE \"C\", s.name COLLATE \"C\" LIMIT $3 \
     ) s LEFT JOIN LATERAL ( \
         SELECT e.revision, e.occurred_at FROM {schema}.events e WHERE e.stream_id = s.id \
         ORDER BY e.revision DESC LIMIT 1 \
     ) h ON true ORDER BY s.name COLLATE \"C\"";

pub(super) async fn idle_streams(conn: &Conn, options: &IdleStreams) -> Result<IdlePage, Failure> {
    let prefix = options.pattern.prefix();
    let after = options.after.as_deref().unwrap_or_default();
    let looks = i64::try_from(LOOKS).unwrap_or(i64::MAX);
    let params: [Param<'_>; 3] = [
        (&after, Type::TEXT),
        (&prefix, Type::TEXT),
        (&looks, Type::INT8),
    ];
    let rows = conn.query(STREAMS, &params).await?;
    let all = rows.len() < LOOKS;
    let mut page = IdlePage::default();
    for row in rows {
        let name: &str = row.try_get(0)?;
        if !name.starts_with(prefix) {
            page.after = None;
            return Ok(page);
        }
        let Ok(stream) = StreamName::new(name) else {
            continue;
        };
        page.after = Some(stream.clone());
        let revision: Option<i64> = row.try_get(1)?;
        let occurred_at: Option<Moment> = row.try_get(2)?;
        if let (Some(revision), Some(occurred_at)) = (revision, occurred_at)
            && occurred_at.0 < options.before
            && options.pattern.matches(name)
        {
            page.streams.push(IdleStream {
                stream,
                last_revision: unsigned(revision),
                last_occurred_at: occurred_at.0,
            });
            if page.streams.len() >= options.page_size() {
                return Ok(page);
            }
        }
    }
    if all {
        page.after = None;
    }
    Ok(page)
}
