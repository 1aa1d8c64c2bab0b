//! The command of the scenarios, and what the worker program prints about it. The program and the tests both include this file.

use orkestra::{Command, Message};
use serde::{Deserialize, Serialize};

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

/// A line of the worker program, as JSON.
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
    /// It drained and closed.
    Closed { pid: u32 },
}
