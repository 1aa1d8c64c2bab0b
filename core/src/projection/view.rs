//! The checkpoint of a view, in the view's own database: SQL text for the user's connection, and what its answers mean. Pure.
//!
//! A host runs [`ViewSql::save`] in the user's open transaction, so that the view and its checkpoint commit together. It is a
//! compare-and-set on position and fencing token: whoever reads under the name by now, no event gets into the view twice.
//!
//! ```
//! use orkestra::{ports::{FencingToken, Position}, projection::{Dialect, ViewCheckpoint, ViewRow, view_sql}};
//!
//! let sql = view_sql(Dialect::Sqlite);
//! let checkpoint = ViewCheckpoint::new("shop.board", None, Some(Position(7)), FencingToken(1));
//! // The save gave no row: what does the view say?
//! let row = ViewRow { position: Some(Position(9)), token: FencingToken(1) };
//! assert_eq!(checkpoint.refusal(Some(row)).to_string(), "checkpoint shop.board: expected none, found 9");
//! # assert!(sql.save(checkpoint.anew).contains("RETURNING"));
//! ```

use crate::ports::{FencingToken, Position, StoreError};

/// The kind of database that a view is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Placeholders `$1`, `$2`, …
    Postgres,
    /// Placeholders `?1`, `?2`, …; SQLite 3.35 or later.
    Sqlite,
}

/// The statements of one dialect.
#[derive(Debug, Clone, Copy)]
pub struct ViewSql {
    /// No parameters; gives one row with a true value if the table is there. Asked before the first save of a term.
    pub exists: &'static str,
    /// No parameters; make the table. Each is run in the user's transaction.
    pub create: &'static [&'static str],
    /// Parameters: name. Gives (position or null, token), or no row.
    pub load: &'static str,
    /// Parameters: live name, token of the live name. Gives nothing. The first statement of a switch.
    pub switch_clear: &'static str,
    /// Parameters: live name, name of the rebuild, expected position of the rebuild or null, token of the live name. Gives a row if the
    /// checkpoint was moved. The second statement of a switch.
    pub switch_move: &'static str,
    save: &'static str,
    save_anew: &'static str,
}

impl ViewSql {
    /// Parameters: name, expected position or null, position, token. Gives a row if it was saved. `anew` for a rebuild that has saved nothing
    /// so far: what an earlier one left there does not count.
    pub fn save(&self, anew: bool) -> &'static str {
        if anew { self.save_anew } else { self.save }
    }
}

/// The statements for views in that kind of database.
pub fn view_sql(dialect: Dialect) -> ViewSql {
    match dialect {
        Dialect::Postgres => POSTGRES,
        Dialect::Sqlite => SQLITE,
    }
}

const POSTGRES: ViewSql = ViewSql {
    exists: "SELECT to_regclass('orkestra.view_checkpoints') IS NOT NULL",
    // One after the other: the schema and the table of two projections that start at once. Neither is asked for where it is there
    // already: that needs a permission which the user may not have.
    create: &["DO $orkestra$ BEGIN \
           PERFORM pg_advisory_xact_lock(hashtextextended('orkestra.view_checkpoints', 0)); \
           IF to_regnamespace('orkestra') IS NULL THEN CREATE SCHEMA orkestra; END IF; \
           IF to_regclass('orkestra.view_checkpoints') IS NULL THEN \
             CREATE TABLE orkestra.view_checkpoints (\
               name text PRIMARY KEY, \
               position bigint, \
               token bigint NOT NULL, \
               saved_at timestamptz NOT NULL); \
           END IF; \
         END $orkestra$"],
    load: "SELECT position, token FROM orkestra.view_checkpoints WHERE name = CAST($1 AS text)",
    save: "INSERT INTO orkestra.view_checkpoints AS c (name, position, token, saved_at) \
           SELECT CAST($1 AS text), CAST($3 AS bigint), CAST($4 AS bigint), now() \
           WHERE CAST($2 AS bigint) IS NULL \
             OR EXISTS (SELECT 1 FROM orkestra.view_checkpoints WHERE name = CAST($1 AS text)) \
           ON CONFLICT (name) DO UPDATE \
             SET position = excluded.position, token = excluded.token, saved_at = excluded.saved_at \
             WHERE c.position IS NOT DISTINCT FROM CAST($2 AS bigint) AND c.token <= excluded.token \
           RETURNING position",
    save_anew: "INSERT INTO orkestra.view_checkpoints AS c (name, position, token, saved_at) \
           SELECT CAST($1 AS text), CAST($3 AS bigint), CAST($4 AS bigint), now() \
           WHERE CAST($2 AS bigint) IS NULL \
           ON CONFLICT (name) DO UPDATE \
             SET position = excluded.position, token = excluded.token, saved_at = excluded.saved_at \
             WHERE c.token <= excluded.token \
           RETURNING position",
    switch_clear: "DELETE FROM orkestra.view_checkpoints \
           WHERE name = CAST($1 AS text) AND token <= CAST($2 AS bigint)",
    switch_move: "UPDATE orkestra.view_checkpoints \
           SET name = CAST($1 AS text), token = CAST($4 AS bigint), saved_at = now() \
           WHERE name = CAST($2 AS text) AND position IS NOT DISTINCT FROM CAST($3 AS bigint) \
             AND NOT EXISTS (SELECT 1 FROM orkestra.view_checkpoints WHERE name = CAST($1 AS text)) \
           RETURNING position",
};

const SQLITE: ViewSql = ViewSql {
    exists: "SELECT count(*) > 0 FROM sqlite_master WHERE type = 'table' AND name = 'orkestra_view_checkpoints'",
    create: &["CREATE TABLE IF NOT EXISTS orkestra_view_checkpoints (\
           name TEXT PRIMARY KEY, \
           position INTEGER, \
           token INTEGER NOT NULL, \
           saved_at TEXT NOT NULL) STRICT"],
    load: "SELECT position, token FROM orkestra_view_checkpoints WHERE name = ?1",
    save: "INSERT INTO orkestra_view_checkpoints (name, position, token, saved_at) \
           SELECT ?1, ?3, ?4, strftime('%Y-%m-%dT%H:%M:%fZ', 'now') \
           WHERE ?2 IS NULL OR EXISTS (SELECT 1 FROM orkestra_view_checkpoints WHERE name = ?1) \
           ON CONFLICT (name) DO UPDATE \
             SET position = excluded.position, token = excluded.token, saved_at = excluded.saved_at \
             WHERE position IS ?2 AND token <= excluded.token \
           RETURNING position",
    save_anew: "INSERT INTO orkestra_view_checkpoints (name, position, token, saved_at) \
           SELECT ?1, ?3, ?4, strftime('%Y-%m-%dT%H:%M:%fZ', 'now') WHERE ?2 IS NULL \
           ON CONFLICT (name) DO UPDATE \
             SET position = excluded.position, token = excluded.token, saved_at = excluded.saved_at \
             WHERE token <= excluded.token \
           RETURNING position",
    switch_clear: "DELETE FROM orkestra_view_checkpoints WHERE name = ?1 AND token <= ?2",
    switch_move: "UPDATE orkestra_view_checkpoints \
           SET name = ?1, token = ?4, saved_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') \
           WHERE name = ?2 AND position IS ?3 \
             AND NOT EXISTS (SELECT 1 FROM orkestra_view_checkpoints WHERE name = ?1) \
           RETURNING position",
};

/// What the view's database says of a checkpoint: the answer of [`ViewSql::load`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewRow {
    /// Where the view stands.
    pub position: Option<Position>,
    /// Of the owner that saved it.
    pub token: FencingToken,
}

/// One save: the parameters of [`ViewSql::save`], in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ViewCheckpoint {
    /// The row's name.
    pub name: String,
    /// Where the view has to stand.
    pub expected: Option<Position>,
    /// Where it stands afterwards.
    pub position: Option<Position>,
    /// The owner's right.
    pub token: FencingToken,
    /// Which of the two statements.
    pub anew: bool,
    /// Whether [`ViewSql::exists`] has to be asked first: nothing was saved under this name since it was taken over, or an attempt failed.
    pub unsure: bool,
}

impl ViewCheckpoint {
    /// A save of a view that stands at `expected`.
    pub fn new(
        name: impl Into<String>,
        expected: Option<Position>,
        position: Option<Position>,
        token: FencingToken,
    ) -> Self {
        Self {
            name: name.into(),
            expected,
            position,
            token,
            anew: false,
            unsure: true,
        }
    }

    /// Why the save gave no row, when the view says `found`: [`StoreError::StaleLease`] if another owner has saved since, else
    /// [`StoreError::CheckpointMismatch`]. The host raises it inside the user's transaction, which rolls back, and tells
    /// [`Projection::found`](super::Projection::found).
    pub fn refusal(&self, found: Option<ViewRow>) -> StoreError {
        if let Some(row) = found
            && row.token > self.token
        {
            return StoreError::StaleLease {
                name: self.name.clone(),
                token: self.token.0,
                current: row.token.0,
            };
        }
        StoreError::CheckpointMismatch {
            name: self.name.clone(),
            expected: self.expected.map(|p| p.0),
            actual: found.and_then(|row| row.position).map(|p| p.0),
        }
    }
}

/// A switch: the parameters of [`ViewSql::switch_clear`] and [`ViewSql::switch_move`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ViewSwitch {
    /// The row's name.
    pub name: String,
    /// The name of the row that takes its place.
    pub rebuild: String,
    /// Where the rebuilt view stands.
    pub expected: Option<Position>,
    /// The right to `name`.
    pub token: FencingToken,
}

impl ViewSwitch {
    /// A switch from the view `name` to `rebuild`, which stands at `expected`.
    pub fn new(
        name: impl Into<String>,
        rebuild: impl Into<String>,
        expected: Option<Position>,
        token: FencingToken,
    ) -> Self {
        Self {
            name: name.into(),
            rebuild: rebuild.into(),
            expected,
            token,
        }
    }

    /// What it means when [`ViewSql::switch_move`] gave no row and the view says `live` and `rebuilt` of the two names: an error that the
    /// host raises in the user's transaction, or `None` if there was nothing to move.
    pub fn refusal(&self, live: Option<ViewRow>, rebuilt: Option<ViewRow>) -> Option<StoreError> {
        if let Some(row) = live {
            return Some(StoreError::StaleLease {
                name: self.name.clone(),
                token: self.token.0,
                current: row.token.0,
            });
        }
        let actual = rebuilt.and_then(|row| row.position);
        if rebuilt.is_none() && self.expected.is_none() {
            return None;
        }
        Some(StoreError::CheckpointMismatch {
            name: self.rebuild.clone(),
            expected: self.expected.map(|p| p.0),
            actual: actual.map(|p| p.0),
        })
    }
}

/// A save or a switch that the view refused.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// What to raise in the user's transaction.
    pub error: StoreError,
    /// What the view said, for [`Projection::found`](super::Projection::found).
    pub found: Option<ViewRow>,
}
