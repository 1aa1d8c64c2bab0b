//! Reading as a stream of bounded memory: plain functions over the trait, page by page.

use std::sync::Arc;

use futures_core::Stream;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::{
    Direction, EventStore, Page, ReadAll, ReadStream, RecordedEvent, StoreError, StreamName,
    StreamPage,
};

/// Events that a page holds unless the reader's limit is lower.
const PAGE: usize = 1000;

/// The events of `stream` one after the other, `limit` of them or all. No more than a page is in memory.
///
/// `options.limit` is the limit of the whole reading here, `None` for all.
///
/// # Errors
/// An item is an error if a page could not be read; the stream ends after it.
pub fn stream_events(
    store: Arc<dyn EventStore>,
    stream: StreamName,
    from_revision: Option<u64>,
    direction: Direction,
    limit: Option<u64>,
) -> impl Stream<Item = Result<RecordedEvent, StoreError>> + Send {
    let start = (from_revision, limit.unwrap_or(u64::MAX), false);
    let pages = stream::try_unfold(start, move |(from, left, end)| {
        let (store, stream) = (Arc::clone(&store), stream.clone());
        async move {
            if end || left == 0 {
                return Ok(None);
            }
            let mut options = ReadStream::default().limit(page_of(left));
            options.from_revision = from;
            options.direction = direction;
            let StreamPage { events, end, .. } = store.read_stream(stream, options).await?;
            let last = events.last().map(|e| e.revision);
            let (next, over) = match (last, direction) {
                (None | Some(0), Direction::Backwards) | (None, Direction::Forwards) => {
                    (None, true)
                }
                (Some(revision), Direction::Forwards) => (Some(revision + 1), end),
                (Some(revision), Direction::Backwards) => (Some(revision - 1), end),
            };
            let left = left - events.len() as u64;
            Ok(Some((events, (next, left, over))))
        }
    });
    flatten(pages)
}

/// The events of the whole store after `options.after`, in increasing position, up to what is there when the end is reached.
///
/// `limit` counts wanted events; `None` for all. No more than a page is in memory.
///
/// # Errors
/// An item is an error if a page could not be read; the stream ends after it.
pub fn all_events(
    store: Arc<dyn EventStore>,
    options: ReadAll,
    limit: Option<u64>,
) -> impl Stream<Item = Result<RecordedEvent, StoreError>> + Send {
    let start = (options, limit.unwrap_or(u64::MAX), false);
    let pages = stream::try_unfold(start, move |(options, left, end)| {
        let store = Arc::clone(&store);
        async move {
            if end || left == 0 {
                return Ok(None);
            }
            let read = options.clone().limit(page_of(left));
            let Page {
                events,
                position,
                end,
            } = store.read_all(read).await?;
            let left = left - events.len() as u64;
            let next = ReadAll {
                after: position.or(options.after),
                ..options
            };
            Ok(Some((events, (next, left, end))))
        }
    });
    flatten(pages)
}

fn page_of(left: u64) -> usize {
    usize::try_from(left).unwrap_or(PAGE).min(PAGE)
}

fn flatten(
    pages: impl Stream<Item = Result<Vec<RecordedEvent>, StoreError>> + Send,
) -> impl Stream<Item = Result<RecordedEvent, StoreError>> + Send {
    pages
        .map_ok(|events| stream::iter(events).map(Ok))
        .try_flatten()
}
