//! A view in SQLite, through `rusqlite`.

use rusqlite::{Connection, OptionalExtension, Row};

use super::{Dialect, Refusal, ViewCheckpoint, ViewRow, ViewSql, ViewSwitch, view_sql};
use crate::ports::{FencingToken, Position};

type Outcome = Result<Result<(), Refusal>, rusqlite::Error>;

/// Saves `checkpoint` in the connection's open transaction.
///
/// # Errors
/// What SQLite says; a refusal is a value.
pub(crate) fn save(connection: &Connection, checkpoint: &ViewCheckpoint) -> Outcome {
    let sql = view_sql(Dialect::Sqlite);
    if checkpoint.unsure {
        create(connection, &sql)?;
    }
    let saved = connection
        .prepare_cached(sql.save(checkpoint.anew))?
        .query_row(
            (
                &checkpoint.name,
                number(checkpoint.expected),
                number(checkpoint.position),
                signed(checkpoint.token.0),
            ),
            |_| Ok(()),
        )
        .optional()?;
    if saved.is_some() {
        return Ok(Ok(()));
    }
    let found = load(connection, &sql, &checkpoint.name)?;
    Ok(Err(Refusal {
        error: checkpoint.refusal(found),
        found,
    }))
}

/// Moves the checkpoint of a rebuilt view in the connection's open transaction.
///
/// # Errors
/// What SQLite says; a refusal is a value.
pub(crate) fn switch(connection: &Connection, switch: &ViewSwitch) -> Outcome {
    let sql = view_sql(Dialect::Sqlite);
    create(connection, &sql)?;
    let token = signed(switch.token.0);
    connection.execute(sql.switch_clear, (&switch.name, token))?;
    let parameters = (
        &switch.name,
        &switch.rebuild,
        number(switch.expected),
        token,
    );
    let moved = connection
        .query_row(sql.switch_move, parameters, |_| Ok(()))
        .optional()?;
    if moved.is_some() {
        return Ok(Ok(()));
    }
    let live = load(connection, &sql, &switch.name)?;
    let rebuilt = load(connection, &sql, &switch.rebuild)?;
    Ok(match switch.refusal(live, rebuilt) {
        None => Ok(()),
        Some(error) => Err(Refusal {
            error,
            found: rebuilt,
        }),
    })
}

fn create(connection: &Connection, sql: &ViewSql) -> Result<(), rusqlite::Error> {
    let exists: bool = connection.query_row(sql.exists, [], |row| row.get(0))?;
    if !exists {
        for statement in sql.create {
            connection.execute_batch(statement)?;
        }
    }
    Ok(())
}

fn load(
    connection: &Connection,
    sql: &ViewSql,
    name: &str,
) -> Result<Option<ViewRow>, rusqlite::Error> {
    let read = |row: &Row<'_>| {
        Ok(ViewRow {
            position: row.get::<_, Option<i64>>(0)?.map(|p| Position(unsigned(p))),
            token: FencingToken(unsigned(row.get(1)?)),
        })
    };
    connection.query_row(sql.load, [name], read).optional()
}

fn number(position: Option<Position>) -> Option<i64> {
    position.map(|position| signed(position.0))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
