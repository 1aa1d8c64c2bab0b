//! The checkpoint of a view in the view's own database: SQL, and what its answers mean.

use napi_derive::napi;
use orkestra::{
    ports::{FencingToken, Position},
    projection::{Dialect, ViewCheckpoint, ViewRow, ViewSwitch, view_sql as sql_of},
};
use serde::Deserialize;
use serde_json::json;

use crate::error::{encode, parse};

/// What a view's database says of a checkpoint.
#[derive(Deserialize)]
pub(crate) struct RowIn {
    position: Option<u64>,
    token: u64,
}

impl RowIn {
    pub(crate) fn read(self) -> ViewRow {
        ViewRow {
            position: self.position.map(Position),
            token: FencingToken(self.token),
        }
    }
}

#[derive(Deserialize)]
struct SaveIn {
    name: String,
    expected: Option<u64>,
    position: Option<u64>,
    token: u64,
    found: Option<RowIn>,
}

#[derive(Deserialize)]
struct SwitchIn {
    #[serde(flatten)]
    switch: SwitchFacts,
    live: Option<RowIn>,
    rebuilt: Option<RowIn>,
}

#[derive(Deserialize)]
struct SwitchFacts {
    name: String,
    rebuild: String,
    expected: Option<u64>,
    token: u64,
}

pub(crate) fn switch_json(switch: &ViewSwitch) -> String {
    json!({
        "name": switch.name,
        "rebuild": switch.rebuild,
        "expected": switch.expected.map(|p| p.0),
        "token": switch.token.0,
    })
    .to_string()
}

/// The statements of a dialect, JSON.
#[napi]
pub fn view_sql(dialect: String) -> String {
    let sql = sql_of(if dialect == "sqlite" {
        Dialect::Sqlite
    } else {
        Dialect::Postgres
    });
    json!({
        "exists": sql.exists,
        "create": sql.create,
        "load": sql.load,
        "save": sql.save(false),
        "saveAnew": sql.save(true),
        "switchClear": sql.switch_clear,
        "switchMove": sql.switch_move,
    })
    .to_string()
}

/// Why a save gave no row when the view says `found`: an error as JSON.
#[napi]
pub fn save_refusal(json: String) -> napi::Result<String> {
    let given: SaveIn = parse(&json)?;
    let save = ViewCheckpoint::new(
        given.name,
        given.expected.map(Position),
        given.position.map(Position),
        FencingToken(given.token),
    );
    Ok(encode(&save.refusal(given.found.map(RowIn::read))))
}

/// Why a move gave no row when the view says this of the two names: an error as JSON, nothing if there was nothing to move.
#[napi]
pub fn switch_refusal(json: String) -> napi::Result<Option<String>> {
    let given: SwitchIn = parse(&json)?;
    let SwitchFacts {
        name,
        rebuild,
        expected,
        token,
    } = given.switch;
    let switch = ViewSwitch::new(name, rebuild, expected.map(Position), FencingToken(token));
    let (live, rebuilt) = (given.live.map(RowIn::read), given.rebuilt.map(RowIn::read));
    Ok(switch.refusal(live, rebuilt).map(|error| encode(&error)))
}
