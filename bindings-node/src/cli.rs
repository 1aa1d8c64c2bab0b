//! The command `orkestra` as the npm package ships it.

use std::{cell::RefCell, ffi::OsString};

use napi_derive::napi;
use orkestra_cli::Host;

/// Starts the command again by `command`; a worker is noted, as the loop has to be free while it runs.
#[derive(Debug)]
struct Node {
    command: Vec<OsString>,
    target: RefCell<Option<String>>,
}

impl Host for Node {
    fn command(&self) -> Vec<OsString> {
        self.command.clone()
    }

    fn run_worker(&self, target: &str) -> i32 {
        *self.target.borrow_mut() = Some(target.to_owned());
        orkestra_cli::exit::DONE
    }
}

/// How the command ended.
#[napi(object)]
pub struct CommandEnd {
    /// The exit code.
    pub code: i32,
    /// The app whose worker is to run now.
    pub target: Option<String>,
}

/// Does what `args` say; `command` starts this program again. Blocks until it is done: call it on the main thread, which has nothing else to do.
#[napi]
pub fn run_command(args: Vec<String>, command: Vec<String>) -> CommandEnd {
    let node = Node {
        command: command.into_iter().map(OsString::from).collect(),
        target: RefCell::new(None),
    };
    let code = orkestra_cli::run(args, &node);
    CommandEnd {
        code,
        target: node.target.into_inner(),
    }
}
