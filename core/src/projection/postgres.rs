//! A view in PostgreSQL, through `tokio_postgres`.

use tokio_postgres::{Error, GenericClient};

use super::{Dialect, Refusal, ViewCheckpoint, ViewRow, ViewSql, ViewSwitch, view_sql};
use crate::ports::{FencingToken, Position};

type Outcome = Result<Result<(), Refusal>, Error>;

/// Saves `checkpoint` in the client's open transaction.
///
/// # Errors
/// What PostgreSQL says; a refusal is a value.
pub(crate) async fn save<C: GenericClient + Sync>(
    client: &C,
    checkpoint: &ViewCheckpoint,
) -> Outcome {
    let sql = view_sql(Dialect::Postgres);
    if checkpoint.unsure {
        create(client, &sql).await?;
    }
    let (expected, position) = (number(checkpoint.expected), number(checkpoint.position));
    let token = signed(checkpoint.token.0);
    let statement = sql.save(checkpoint.anew);
    let saved = client
        .query_opt(statement, &[&checkpoint.name, &expected, &position, &token])
        .await?;
    if saved.is_some() {
        return Ok(Ok(()));
    }
    let found = load(client, &sql, &checkpoint.name).await?;
    Ok(Err(Refusal {
        error: checkpoint.refusal(found),
        found,
    }))
}

/// Moves the checkpoint of a rebuilt view in the client's open transaction.
///
/// # Errors
/// What PostgreSQL says; a refusal is a value.
pub(crate) async fn switch<C: GenericClient + Sync>(client: &C, switch: &ViewSwitch) -> Outcome {
    let sql = view_sql(Dialect::Postgres);
    create(client, &sql).await?;
    let (token, expected) = (signed(switch.token.0), number(switch.expected));
    client
        .execute(sql.switch_clear, &[&switch.name, &token])
        .await?;
    let moved = client
        .query_opt(
            sql.switch_move,
            &[&switch.name, &switch.rebuild, &expected, &token],
        )
        .await?;
    if moved.is_some() {
        return Ok(Ok(()));
    }
    let live = load(client, &sql, &switch.name).await?;
    let found = load(client, &sql, &switch.rebuild).await?;
    Ok(match switch.refusal(live, found) {
        None => Ok(()),
        Some(error) => Err(Refusal { error, found }),
    })
}

async fn create<C: GenericClient + Sync>(client: &C, sql: &ViewSql) -> Result<(), Error> {
    let exists: bool = client.query_one(sql.exists, &[]).await?.get(0);
    if !exists {
        for statement in sql.create {
            client.batch_execute(statement).await?;
        }
    }
    Ok(())
}

async fn load<C: GenericClient + Sync>(
    client: &C,
    sql: &ViewSql,
    name: &str,
) -> Result<Option<ViewRow>, Error> {
    let row = client.query_opt(sql.load, &[&name]).await?;
    Ok(row.map(|row| ViewRow {
        position: row.get::<_, Option<i64>>(0).map(|p| Position(unsigned(p))),
        token: FencingToken(unsigned(row.get(1))),
    }))
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
