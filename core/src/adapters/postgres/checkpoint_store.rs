//! Checkpoints in PostgreSQL.

use async_trait::async_trait;
use tokio_postgres::types::Type;

use super::{
    PostgresStore,
    connect::{Conn, Param},
    error::Failure,
    value::{Moment, signed, unsigned},
};
use crate::ports::{Checkpoint, CheckpointStore, Expected, Position, SaveCheckpoint, StoreError};

const LOAD: &str = "SELECT position, saved_at FROM {schema}.checkpoints WHERE name = $1";
const MOVE: &str =
    "SELECT problem, actual FROM {schema}.move_checkpoint($1, $2, $3, $4, $5, $6, $7)";

/// A save, as it is asked of the database.
#[derive(Clone)]
struct Save {
    name: String,
    position: Option<Position>,
    options: SaveCheckpoint,
    at: Option<Moment>,
    note: String,
}

#[async_trait]
impl CheckpointStore for PostgresStore {
    async fn load(&self, name: String) -> Result<Option<Checkpoint>, StoreError> {
        self.read(move |conn| {
            let name = name.clone();
            async move { load(&conn, name).await }
        })?
        .await
    }

    async fn save(
        &self,
        name: String,
        position: Option<Position>,
        options: SaveCheckpoint,
    ) -> Result<(), StoreError> {
        let save = Save {
            name,
            position,
            options,
            at: self.told_time(),
            note: self.note("checkpoints"),
        };
        self.execute(move |conn| {
            let save = save.clone();
            async move { save.run(&conn).await }
        })?
        .await?;
        self.ring_checkpoints();
        Ok(())
    }

    async fn wait_until(&self, name: String, position: Position) -> Result<(), StoreError> {
        loop {
            let moved = self.moved();
            let found = CheckpointStore::load(self, name.clone()).await?;
            if found.and_then(|c| c.position) >= Some(position) {
                return Ok(());
            }
            moved.await;
        }
    }
}

async fn load(conn: &Conn, name: String) -> Result<Option<Checkpoint>, Failure> {
    let Some(row) = conn.query_opt(LOAD, &[(&name, Type::TEXT)]).await? else {
        return Ok(None);
    };
    let position: Option<i64> = row.try_get(0)?;
    Ok(Some(Checkpoint {
        name,
        position: position.map(|p| Position(unsigned(p))),
        saved_at: row.try_get::<_, Moment>(1)?.0,
    }))
}

impl Save {
    async fn run(self, conn: &Conn) -> Result<(), Failure> {
        let (mode, expected) = match self.options.expected {
            Expected::Any => ("any", None),
            Expected::At(expected) => ("at", expected),
            Expected::Reset => ("reset", None),
        };
        let expected = expected.map(|p| signed(p.0));
        let position = self.position.map(|p| signed(p.0));
        let token = self.options.token.map(|token| signed(token.0));
        let params: [Param<'_>; 7] = [
            (&self.name, Type::TEXT),
            (&mode, Type::TEXT),
            (&expected, Type::INT8),
            (&position, Type::INT8),
            (&token, Type::INT8),
            (&self.at, Type::TIMESTAMPTZ),
            (&self.note, Type::TEXT),
        ];
        let row = conn.write(MOVE, &params).await?;
        let Some(problem) = row.try_get::<_, Option<String>>(0)? else {
            return Ok(());
        };
        let actual = row.try_get::<_, Option<i64>>(1)?.map(unsigned);
        let name = self.name;
        Err(Failure::Refused(match &*problem {
            "stale" => StoreError::StaleLease {
                name,
                token: self.options.token.map_or(0, |token| token.0),
                current: actual.unwrap_or(0),
            },
            "mismatch" => StoreError::CheckpointMismatch {
                name,
                expected: expected.map(unsigned),
                actual,
            },
            _ => StoreError::CheckpointBehind {
                name,
                position: self.position.map_or(0, |p| p.0),
                actual: actual.unwrap_or(0),
            },
        }))
    }
}
