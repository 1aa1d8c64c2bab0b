//! Starts processes, hears signals and does what [`Supervision`] decides.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::AsFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use orkestra::clock::Clock;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::{
    consts::{SIGCHLD, SIGINT, SIGTERM},
    iterator::{Handle, Signals},
};

use crate::{
    exit,
    supervision::{Ended, Next, Policy, Stop, Supervision},
};

/// A program and its arguments.
#[derive(Debug)]
pub(crate) struct Program(pub(crate) Vec<OsString>);

impl Program {
    /// Starts it in a process group of its own: what a terminal sends to the group goes to the supervisor alone, which
    /// passes it on once.
    fn start(&self) -> io::Result<Child> {
        let Some((program, arguments)) = self.0.split_first() else {
            return Err(io::Error::other("the host's command is empty"));
        };
        // Named, as a host may have marked its own to be closed in the programs that it starts (Node does).
        let (stdout, stderr) = (
            io::stdout().as_fd().try_clone_to_owned()?,
            io::stderr().as_fd().try_clone_to_owned()?,
        );
        Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0)
            .spawn()
    }
}

/// Keeps `processes` processes of `program` running until a signal, and returns an exit code of [`exit`].
pub(crate) fn run(program: &Program, processes: usize, policy: Policy, clock: &dyn Clock) -> i32 {
    let (signals, handle) = match listen() {
        Ok(listening) => listening,
        Err(error) => {
            say(&format!("cannot listen to signals: {error}"));
            return exit::FAILED;
        }
    };
    let mut supervisor = Supervisor {
        program,
        clock,
        supervision: Supervision::new(processes, policy),
        children: (0..processes).map(|_| None).collect(),
    };
    let code = supervisor.run(&signals);
    handle.close();
    code
}

/// Signals as they come; a thread reads them until the handle is closed.
fn listen() -> io::Result<(Receiver<i32>, Handle)> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGCHLD])?;
    let handle = signals.handle();
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new()
        .name("orkestra-signals".into())
        .spawn(move || signals.forever().all(|signal| sender.send(signal).is_ok()))?;
    Ok((receiver, handle))
}

struct Supervisor<'a> {
    program: &'a Program,
    clock: &'a dyn Clock,
    supervision: Supervision,
    children: Vec<Option<Child>>,
}

impl Supervisor<'_> {
    fn run(&mut self, signals: &Receiver<i32>) -> i32 {
        loop {
            self.reap();
            match self.supervision.next(self.clock.monotonic()) {
                Next::Start(slot) => self.start(slot),
                Next::Wait(at_most) => {
                    // Nothing, or SIGCHLD: a start is due, or a process has ended.
                    if let Some(signal @ (SIGTERM | SIGINT)) = receive(signals, at_most) {
                        self.stop(signal);
                    }
                }
                Next::Exit(code) => return code,
            }
        }
    }

    fn start(&mut self, slot: usize) {
        match self.program.start() {
            Ok(child) => {
                self.children[slot] = Some(child);
                self.supervision.started(slot, self.clock.monotonic());
            }
            Err(error) => {
                say(&format!("cannot start a worker process: {error}"));
                self.supervision.cannot_start();
                self.signal(Signal::TERM);
            }
        }
    }

    /// Takes notice of the processes that ended.
    fn reap(&mut self) {
        for slot in 0..self.children.len() {
            let Some(child) = &mut self.children[slot] else {
                continue;
            };
            let pid = child.id();
            // An error means that there is no such process.
            let status = match child.try_wait() {
                Ok(None) => continue,
                Ok(Some(status)) => Some(status),
                Err(_) => None,
            };
            self.children[slot] = None;
            let clean = status.is_some_and(|status| status.success() || is_early(status));
            let end = status.map_or_else(|| "ended".into(), describe);
            match self.supervision.ended(slot, clean, self.clock.monotonic()) {
                Ended::Expected => {}
                Ended::Again(delay) if delay.is_zero() => {
                    say(&format!("worker process {pid} {end}: starting another"));
                }
                Ended::Again(delay) => say(&format!(
                    "worker process {pid} {end} soon after its start: starting another in {} s",
                    delay.as_secs_f64(),
                )),
                Ended::GaveUp => {
                    say(&format!(
                        "worker process {pid} {end} soon after its start, as those before it: giving up",
                    ));
                    self.signal(Signal::TERM);
                }
            }
        }
    }

    fn stop(&mut self, signal: i32) {
        match self.supervision.signalled(signal) {
            Stop::Terminate => self.signal(Signal::TERM),
            Stop::Wait => {}
            Stop::Kill => self.signal(Signal::KILL),
        }
    }

    fn signal(&self, signal: Signal) {
        for child in self.children.iter().flatten() {
            // One that ended is still ours until it is reaped, so its number is no other process's.
            let _ = kill_process(Pid::from_child(child), signal);
        }
    }
}

fn receive(signals: &Receiver<i32>, at_most: Option<Duration>) -> Option<i32> {
    match at_most {
        None => signals.recv().ok(),
        Some(time) => signals.recv_timeout(time).ok(),
    }
}

/// Whether our signal ended it. A worker that listens already ends by itself; one that does not has begun nothing.
fn is_early(status: ExitStatus) -> bool {
    status.signal() == Some(SIGTERM)
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".into(),
    }
}

fn say(text: &str) {
    eprintln!("orkestra: {text}");
}

#[cfg(test)]
mod tests {
    use orkestra::clock::SystemClock;

    use super::*;

    fn shell(script: &str) -> Program {
        Program(["sh", "-c", script].map(OsString::from).to_vec())
    }

    fn impatient() -> Policy {
        Policy {
            limit: 3,
            first_delay: Duration::from_millis(1),
            ..Policy::default()
        }
    }

    #[test]
    fn a_process_that_fails_at_once_is_given_up_and_the_others_are_terminated() {
        let folder = std::env::temp_dir().join(format!("orkestra-cli-{}", std::process::id()));
        // The first process to make the folder stays, the others fail.
        let script = format!(
            "mkdir {0} 2>/dev/null || exit 7; exec sleep 600",
            folder.display()
        );

        let code = run(&shell(&script), 2, impatient(), &SystemClock::default());

        std::fs::remove_dir(folder).unwrap();
        assert_eq!(code, exit::GAVE_UP);
    }

    #[test]
    fn a_program_that_is_not_there_fails_at_once() {
        let program = Program(vec!["/nowhere/orkestra".into()]);

        let code = run(&program, 2, Policy::default(), &SystemClock::default());

        assert_eq!(code, exit::FAILED);
    }
}
