//! An append of one event, when it comes alone: what most calls are, so it has a way of its own, without arrays.

use tokio_postgres::types::Type;

use super::{
    batch::number,
    connect::{Conn, Param},
    error::Failure,
    numbers::Numbers,
    value::{Json, Moment, unsigned},
};
use crate::ports::{Append, Appended, NewEvent, Position};

const WRITE: &str =
    "SELECT {schema}.write_one($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";

/// Has the server append `event`, the only one of `append`. Gives what was done and the stream's number; nothing if nothing was done,
/// since there is more to it: then it takes a batch. `note` is told to all who listen.
pub(super) async fn write(
    conn: &Conn,
    append: &Append,
    event: &NewEvent,
    numbers: &Numbers,
    note: Option<&str>,
) -> Result<Option<(Appended, i64)>, Failure> {
    let generation = numbers.generation();
    let known = numbers.stream(&append.stream).unwrap_or(0);
    let type_id = numbers.type_id(&event.type_name).unwrap_or(0);
    let expected = number(append.expected);
    let version = i32::try_from(event.version).unwrap_or(i32::MAX);
    let seen = numbers.seen();
    let params: [Param<'_>; 13] = [
        (&generation, Type::INT8),
        (&&*append.stream, Type::TEXT),
        (&known, Type::INT8),
        (&expected, Type::INT8),
        (&event.id, Type::UUID),
        (&type_id, Type::INT4),
        (&version, Type::INT4),
        (&Moment(event.occurred_at), Type::TIMESTAMPTZ),
        (&Json(&event.data), Type::JSONB),
        (&Json(&event.metadata), Type::JSON),
        (&note, Type::TEXT),
        (&seen.horizon, Type::XID8),
        (&seen.unfinished, Type::XID8_ARRAY),
    ];
    let row = conn.write(WRITE, &params).await?;
    let Some(done) = row.try_get::<_, Option<Vec<i64>>>(0)? else {
        return Ok(None);
    };
    let [position, revision, stream] = done[..] else {
        return Ok(None);
    };
    let appended = Appended {
        revision: u64::try_from(revision).ok(),
        position: Some(Position(unsigned(position))),
        repeated: false,
    };
    Ok(Some((appended, stream)))
}
