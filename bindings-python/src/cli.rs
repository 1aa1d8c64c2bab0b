//! The command `orkestra`, with Python as its host.

use std::ffi::OsString;

use orkestra_cli::{Host, exit};
use pyo3::prelude::*;

/// Starts itself with `command`, runs a worker with `worker`.
#[derive(Debug)]
struct Python3 {
    command: Vec<OsString>,
    worker: Py<PyAny>,
}

impl Host for Python3 {
    fn command(&self) -> Vec<OsString> {
        self.command.clone()
    }

    fn run_worker(&self, target: &str) -> i32 {
        Python::attach(|py| {
            let code = self.worker.bind(py).call1((target,));
            match code.and_then(|code| code.extract()) {
                Ok(code) => code,
                Err(error) => {
                    // `SystemExit` and what no worker catches.
                    error.print(py);
                    exit::FAILED
                }
            }
        })
    }
}

/// Does what the arguments `args` say and returns the process's exit code. `command` starts the same command again; `worker` runs the app
/// of a target.
#[pyfunction]
pub(crate) fn run_cli(
    py: Python<'_>,
    args: Vec<OsString>,
    command: Vec<OsString>,
    worker: Py<PyAny>,
) -> i32 {
    py.detach(|| orkestra_cli::run(args, &Python3 { command, worker }))
}
