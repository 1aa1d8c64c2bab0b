//! Bodies: text where they are text, so that people can query them.

use rusqlite::{
    Row,
    types::{ToSqlOutput, ValueRef},
};

/// A body as text; one that is no text stays bytes.
pub(super) fn text_or_bytes(body: &[u8]) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(match str::from_utf8(body) {
        Ok(_) => ValueRef::Text(body),
        Err(_) => ValueRef::Blob(body),
    })
}

/// The body in `column`, whichever it is.
pub(super) fn bytes_of<'r>(row: &'r Row<'_>, column: usize) -> Result<&'r [u8], rusqlite::Error> {
    match row.get_ref(column)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Ok(bytes),
        other => Err(rusqlite::Error::InvalidColumnType(
            column,
            "no body".into(),
            other.data_type(),
        )),
    }
}
