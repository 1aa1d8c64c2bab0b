//! The command and the event of the scenarios, and what the programs print about them. The program and the tests both include this file.

use orkestra::{
    Command, Event, Message,
    clock::Timestamp,
    message::{Event as Data, Metadata},
    ports::{NewEvent, StreamName},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The queue of [`Do`].
pub(crate) const QUEUE: &str = "orkestra.cmd.work.do";

/// A piece of work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Do {
    /// Its number: what the tests tell messages apart by.
    pub(crate) number: u64,
    /// What its handler does.
    pub(crate) act: Act,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Act {
    /// Returns.
    Succeed,
    /// Takes that many milliseconds.
    Take(u64),
    /// Never returns.
    Hang,
    /// Ends the process, as a bug in native code does.
    Abort,
}

impl Message for Do {
    const TYPE_NAME: &'static str = "Scenario.Work.Do";
}
impl Command for Do {
    type Output = ();
}

/// The name that the processes read under.
pub(crate) const READER: &str = "board";

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Happened {
    /// Its number: what the tests tell events apart by.
    pub(crate) number: u64,
    /// Whether who reads it, or handles it, waits for a line on its standard input before it is done with it.
    pub(crate) hold: bool,
}

impl Message for Happened {
    const TYPE_NAME: &'static str = "Scenario.Log.Happened";
}
impl Event for Happened {}

impl Happened {
    /// As it is appended: its id is that of its number.
    pub(crate) fn event(&self, now: Timestamp) -> NewEvent {
        let id = Uuid::from_u128(u128::from(self.number) + 1);
        Data {
            id,
            type_name: Self::TYPE_NAME.into(),
            version: 1,
            data: serde_json::to_vec(self).unwrap().into(),
            metadata: Metadata::root(id, now),
            occurred_at: now,
        }
        .into()
    }

    /// Of eight streams.
    pub(crate) fn stream(&self) -> StreamName {
        StreamName::new(&format!("things-{}", self.number % 8)).unwrap()
    }
}

/// A line of a program, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// Its consumers consume.
    Ready { pid: u32 },
    /// A handler begins with the work of that number.
    Began { number: u64, pid: u32 },
    /// A handler is about to return.
    Handled { number: u64, pid: u32 },
    /// A message was given up; its number, if its body could be read.
    Dead { number: Option<u64>, reason: String },
    /// The health of the bus has changed.
    Health { consuming: bool, blocked: bool },
    /// It has appended what it was told to, up to this number, not included.
    Appended { to: u64 },
    /// A reader has an event in hand.
    Got { number: u64, position: u64 },
    /// It waits for a line at the place that it was told to halt at.
    Halted,
    /// Its checkpoint is saved there.
    Saved { position: u64 },
    /// Its checkpoint was not saved there.
    Refused { position: u64, code: String },
    /// It could not read.
    Trouble { code: String },
    /// What it takes for the time.
    Clock { micros: i64 },
    /// It drained and closed.
    Closed { pid: u32 },
}
