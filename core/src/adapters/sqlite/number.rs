//! SQLite's signed integers and our unsigned ones.

use crate::clock::Timestamp;

/// A count that SQLite stores. What no database reaches becomes the greatest.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A count that SQLite gave back; the tables never hold a negative one.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A schema version or a number of attempts that SQLite gave back.
pub(super) fn small(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A time that SQLite gave back.
pub(super) fn time(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}
