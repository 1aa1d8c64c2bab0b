//! Reading events.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{
    connect::{Conn, Param},
    error::Failure,
    page::{MAX_BYTES, MAX_EVENTS, PageBuilder, columns},
    store::Core,
    value::{signed, unsigned},
};
use crate::ports::{
    Direction, EventRef, Page, Position, ReadAll, ReadStream, StreamName, StreamPage,
};

/// Events of a page of the whole store unless the caller says otherwise.
const DEFAULT_PAGE: usize = 1_000;

/// Positions that a page with a filter looks at, so that no read takes long.
const WINDOW: u64 = 100_000;

/// What a stream is like and the events wanted of it, of one moment: a row without an event if there are none. The rows come as the inner
/// query orders them, since the outer one has a single row.
macro_rules! of_stream {
    ($range:literal, $order:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            ", f.floor, f.last FROM ( \
                 SELECT s.id, coalesce(s.deleted_through, -1) + 1 AS floor, h.revision AS last \
                 FROM {schema}.streams s LEFT JOIN LATERAL ( \
                     SELECT e.revision FROM {schema}.events e WHERE e.stream_id = s.id ORDER BY e.revision DESC LIMIT 1 \
                 ) h ON true WHERE s.name = $1 \
             ) f LEFT JOIN LATERAL ( \
                 SELECT * FROM {schema}.events e WHERE e.stream_id = f.id AND ",
            $range,
            " ORDER BY e.revision ",
            $order,
            " LIMIT $3) e ON true"
        )
    };
}

const FORWARDS: &str = of_stream!("e.revision >= greatest($2, f.floor)", "ASC");
const BACKWARDS: &str = of_stream!("e.revision >= f.floor AND e.revision <= $2", "DESC");
const ALL: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM {schema}.events e WHERE e.position > $1 ORDER BY e.position LIMIT $2"
);

/// The events wanted of a part of the log, and how far it reaches, of one moment: a row without an event if there are none. The rows come as
/// the inner query orders them, since the outer one has a single row.
macro_rules! of_log {
    ($condition:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            ", h.head FROM (SELECT max(position) AS head FROM {schema}.events) h LEFT JOIN LATERAL ( \
                 SELECT * FROM {schema}.events e WHERE e.position > $1 AND e.position <= $2 AND e.type_id <> ALL ($3)",
            $condition,
            " ORDER BY e.position LIMIT $4) e ON true"
        )
    };
}

const SOME: &str = of_log!("");
const SOME_STREAMS: &str = of_log!(
    " AND EXISTS (SELECT FROM {schema}.streams s WHERE s.id = e.stream_id AND starts_with(s.name, $5) OFFSET 0)"
);
const HEAD: &str = "SELECT max(position) FROM {schema}.events";
const FIND: &str = "SELECT s.name, e.revision, e.position FROM {schema}.events e \
     JOIN {schema}.streams s ON s.id = e.stream_id WHERE e.event_id = $1";

/// How large events are, as far as pages have shown: so that a page asks for no more than it can hold.
#[derive(Default)]
pub(super) struct Sizes(AtomicUsize);

impl Sizes {
    /// How many rows a page of `limit` events asks for.
    fn rows(&self, limit: usize) -> usize {
        match self.0.load(Ordering::Relaxed) {
            0 => limit,
            size => limit.min(2 * MAX_BYTES / size).max(1),
        }
    }

    fn learn(&self, page: &PageBuilder) {
        if let Some(size) = page.bytes().checked_div(page.len()) {
            self.0.store(size.max(1), Ordering::Relaxed);
        }
    }
}

pub(super) async fn read_stream(
    core: &Core,
    conn: Conn,
    stream: &StreamName,
    options: ReadStream,
) -> Result<StreamPage, Failure> {
    let (sql, from) = match options.direction {
        Direction::Forwards => (FORWARDS, options.from_revision.map_or(0, signed)),
        Direction::Backwards => (BACKWARDS, options.from_revision.map_or(i64::MAX, signed)),
    };
    let limit = options.limit.min(MAX_EVENTS);
    let rows = core.sizes.rows(limit);
    let asked = signed(rows as u64);
    let params: [Param<'_>; 3] = [
        (&&**stream, Type::TEXT),
        (&from, Type::INT8),
        (&asked, Type::INT8),
    ];
    let answer = conn.stream(sql, &params).await?;
    let mut page = PageBuilder::default();
    let mut found: Option<(i64, Option<i64>)> = None;
    let whole = page
        .fill_wanted(&conn, answer, limit, |row| {
            if found.is_none() {
                found = Some((row.try_get(10)?, row.try_get(11)?));
            }
            Ok(row.try_get::<_, Option<i64>>(0)?.is_some())
        })
        .await?;
    core.sizes.learn(&page);
    let Some((floor, Some(last))) = found else {
        return Ok(nothing());
    };
    let (from, to) = match options.direction {
        Direction::Forwards => (from.max(floor), last),
        Direction::Backwards => (floor, from.min(last)),
    };
    let wanted = usize::try_from(to - from + 1).unwrap_or(0);
    let end = whole && (page.len() >= wanted || page.len() < rows);
    Ok(StreamPage {
        events: page
            .finish(&conn, &core.names, Some(stream.shared()))
            .await?,
        last_revision: Some(unsigned(last)),
        end,
    })
}

fn nothing() -> StreamPage {
    StreamPage {
        end: true,
        ..StreamPage::default()
    }
}

pub(super) async fn read_all(core: &Core, conn: Conn, options: &ReadAll) -> Result<Page, Failure> {
    let limit = match options.limit {
        0 => DEFAULT_PAGE,
        limit => limit.min(MAX_EVENTS),
    };
    if options.types.patterns.is_some() || options.stream_prefix.is_some() {
        return read_some(core, conn, options, limit).await;
    }
    let rows = core.sizes.rows(limit);
    // One more tells whether this is the end.
    let asked = signed(rows as u64 + 1);
    let after = options.after.map_or(0, |position| signed(position.0));
    let mut page = PageBuilder::default();
    let params: [Param<'_>; 2] = [(&after, Type::INT8), (&asked, Type::INT8)];
    let stream = conn.stream(ALL, &params).await?;
    let end = page.fill(&conn, stream, rows).await?;
    core.sizes.learn(&page);
    Ok(Page {
        position: page.last_position(),
        events: page.finish(&conn, &core.names, None).await?,
        end,
    })
}

/// A page with a filter: the server passes over what is not wanted.
async fn read_some(
    core: &Core,
    conn: Conn,
    options: &ReadAll,
    limit: usize,
) -> Result<Page, Failure> {
    let (generation, types) = core.names.known_types(&conn).await?;
    // Types that are new since then come along and are passed over here.
    let unwanted: Vec<i32> = types
        .iter()
        .filter(|(_, name)| !options.types.wants(name))
        .filter_map(|(id, _)| i32::try_from(*id).ok())
        .collect();
    let after = options.after.map_or(0, |position| position.0);
    let through = after.saturating_add(WINDOW);
    let rows = core.sizes.rows(limit);
    let asked = signed(rows as u64 + 1);
    let (from, to) = (signed(after), signed(through));
    let prefix = options.stream_prefix.as_deref().unwrap_or_default();
    let mut params: Vec<Param<'_>> = vec![
        (&from, Type::INT8),
        (&to, Type::INT8),
        (&unwanted, Type::INT4_ARRAY),
        (&asked, Type::INT8),
    ];
    let sql = if options.stream_prefix.is_some() {
        params.push((&prefix, Type::TEXT));
        SOME_STREAMS
    } else {
        SOME
    };
    let stream = conn.stream(sql, &params).await?;
    let mut page = PageBuilder::default();
    let mut head: Option<Option<i64>> = None;
    let whole = page
        .fill_wanted(&conn, stream, rows, |row| {
            if head.is_none() {
                let found: i64 = row.try_get(9)?;
                if found != generation {
                    // What is unwanted was told by other numbers.
                    core.names.enter(found);
                    return Err(Failure::Replaced);
                }
                head = Some(row.try_get(10)?);
            }
            Ok(row.try_get::<_, Option<i64>>(0)?.is_some())
        })
        .await?;
    let head = head.flatten().map(|head| Position(unsigned(head)));
    core.sizes.learn(&page);
    let last = page.last_position();
    let mut events = page.finish(&conn, &core.names, None).await?;
    events.retain(|event| options.types.wants(&event.type_name));
    if !whole {
        return Ok(Page {
            events,
            position: last,
            end: false,
        });
    }
    let seen = head.map(|head| Position(head.0.min(through)));
    let position = seen.max(last).filter(|position| position.0 > after);
    Ok(Page {
        events,
        position,
        end: head.is_none_or(|head| head.0 <= through),
    })
}

pub(super) async fn head(conn: &Conn) -> Result<Option<Position>, Failure> {
    let row = conn.query_one(HEAD, &[]).await?;
    let last: Option<i64> = row.try_get(0)?;
    Ok(last.map(|position| Position(unsigned(position))))
}

pub(super) async fn find_event(conn: &Conn, id: Uuid) -> Result<Option<EventRef>, Failure> {
    let Some(row) = conn.query_opt(FIND, &[(&id, Type::UUID)]).await? else {
        return Ok(None);
    };
    Ok(Some(EventRef {
        stream: Arc::from(row.try_get::<_, &str>(0)?),
        revision: unsigned(row.try_get(1)?),
        position: Position(unsigned(row.try_get(2)?)),
    }))
}
