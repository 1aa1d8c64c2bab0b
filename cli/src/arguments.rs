//! What may be written after `orkestra`.

use clap::{Args, Parser, Subcommand};

/// Commands, events and durable workflows: runs and looks after apps
#[derive(Debug, Parser)]
#[command(name = "orkestra", version, no_binary_name = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the handlers of an app until told to stop
    ///
    /// SIGTERM and SIGINT let what is in hand finish; a second one stops at once.
    Worker(Worker),
}

#[derive(Debug, Args)]
pub(crate) struct Worker {
    /// The app: module:app in Python, ./app.js in Node
    pub(crate) target: String,

    /// How many processes share the work; one that dies is started again
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) processes: u16,

    /// The process that started this one and that it must not outlive: how `--processes` starts its own
    #[arg(long, value_name = "PID", hide = true, conflicts_with = "processes")]
    pub(crate) supervisor: Option<i32>,
}
