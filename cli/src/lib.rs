//! The command `orkestra`: arguments, printing and exit codes. What it does is the core's and the host's.
//!
//! Each language's package ships the command and is its [`Host`]: it knows how to start itself and how to run a worker.
//!
//! ```no_run
//! use std::ffi::OsString;
//!
//! #[derive(Debug)]
//! struct Python;
//!
//! impl orkestra_cli::Host for Python {
//!     fn command(&self) -> Vec<OsString> {
//!         vec!["/usr/bin/python3".into(), "-m".into(), "orkestra".into()] // sys.executable, "-m", "orkestra"
//!     }
//!
//!     fn run_worker(&self, target: &str) -> i32 {
//!         // import `module:app`, start it, wait for SIGTERM or SIGINT, drain, close
//!         # let _ = target;
//!         orkestra_cli::exit::DONE
//!     }
//! }
//!
//! let code = orkestra_cli::run(std::env::args_os().skip(1), &Python); // sys.argv[1:]
//! std::process::exit(code);
//! ```
#![forbid(unsafe_code)]

mod arguments;
pub mod exit;
mod supervision;
mod supervisor;
mod worker;

use std::{ffi::OsString, fmt};

use clap::Parser;

use arguments::{Arguments, Command};

/// The program that ships the command.
pub trait Host: fmt::Debug {
    /// Program and arguments that start this command again, without what [`run`] got: the other processes of
    /// `--processes` are started with it. At least the program.
    fn command(&self) -> Vec<OsString>;

    /// Runs the handlers of the app that `target` names until SIGTERM or SIGINT, and returns an exit code of [`exit`].
    ///
    /// On the first signal it drains: it takes no new messages, and finishes what is in hand. On the second it stops at
    /// once. Says on stderr why it fails. [`run`] handles no signals when it calls this.
    ///
    /// A host whose loop must not be blocked (Node) notes `target`, returns [`exit::DONE`] and runs the worker after
    /// [`run`] has returned.
    fn run_worker(&self, target: &str) -> i32;
}

/// Does what the arguments say and returns the process's exit code.
///
/// `args` are those after the program's name. Blocks until the command is done; prints results, help and version to stdout,
/// errors to stderr. Never ends the process.
///
/// With `--processes` above 1 the calling process supervises: it handles SIGTERM, SIGINT and SIGCHLD until it returns (after
/// the handlers that were there, which are called too: a host with handlers of its own takes them out first), and must call
/// this on a thread that lives as long as the process, as its children die with that thread.
pub fn run<I, A>(args: I, host: &dyn Host) -> i32
where
    I: IntoIterator<Item = A>,
    A: Into<OsString> + Clone,
{
    match Arguments::try_parse_from(args) {
        Ok(arguments) => match arguments.command {
            Command::Worker(worker) => worker::run(&worker, host),
        },
        Err(answer) => {
            // Help and version come this way too. A closed stdout is no reason to fail.
            let _ = answer.print();
            answer.exit_code()
        }
    }
}
