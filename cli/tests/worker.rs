//! `orkestra worker` with real processes and signals.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

const HOST: &str = env!("CARGO_BIN_EXE_orkestra-cli-host");
/// A line that does not come within this time does not come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A command that runs, with the lines that it and its processes print.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(HOST)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            BufReader::new(stdout)
                .lines()
                .map_while(Result::ok)
                .all(|line| sender.send(line).is_ok())
        });
        Self { child, lines }
    }

    /// The process in the next line, which says `what PID`.
    fn next(&self, what: &str) -> u32 {
        let line = self.lines.recv_timeout(PATIENCE).unwrap();
        let (word, pid) = line.split_once(' ').unwrap();
        assert_eq!(word, what);
        pid.parse().unwrap()
    }

    fn all(&self, what: &str, count: usize) -> BTreeSet<u32> {
        (0..count).map(|_| self.next(what)).collect()
    }

    fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The exit code, when every process that could print is gone.
    fn end(mut self) -> (Option<i32>, Vec<String>) {
        let mut rest = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => rest.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("a process is still there"),
            }
        }
        (self.child.wait().unwrap().code(), rest)
    }
}

fn output(arguments: &[&str]) -> Output {
    Command::new(HOST).args(arguments).output().unwrap()
}

fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
}

#[test]
fn the_version_is_printed() {
    let answer = output(&["--version"]);

    assert!(answer.status.success());
    let expected = concat!("orkestra ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(String::from_utf8(answer.stdout).unwrap(), expected);
}

#[test]
fn wrong_arguments_are_exit_code_2_and_named() {
    for (arguments, named) in [
        (&[] as &[&str], "Usage"),
        (&["walker"], "walker"),
        (&["worker"], "TARGET"),
        (&["worker", "drain", "--processes", "0"], "--processes"),
        (&["worker", "drain", "--processes", "two"], "two"),
    ] {
        let answer = output(arguments);

        assert_eq!(answer.status.code(), Some(2), "{arguments:?}");
        let text = String::from_utf8(answer.stderr).unwrap();
        assert!(text.contains(named), "{arguments:?}: {text}");
    }
}

#[test]
fn one_process_is_the_command_itself() {
    assert_eq!(output(&["worker", "5"]).status.code(), Some(5));

    let running = Running::start(&["worker", "drain"]);
    assert_eq!(running.next("ready"), running.child.id());
    running.send(Signal::TERM);
    assert_eq!(running.next("drained"), running.child.id());

    assert_eq!(running.end(), (Some(0), vec![]));
}

#[test]
fn several_processes_drain_on_the_first_signal() {
    for signal in [Signal::TERM, Signal::INT] {
        let running = Running::start(&["worker", "drain", "--processes", "3"]);
        let ready = running.all("ready", 3);
        assert_eq!(ready.len(), 3);
        assert!(!ready.contains(&running.child.id()));

        running.send(signal);

        assert_eq!(running.all("drained", 3), ready);
        assert_eq!(running.end(), (Some(0), vec![]));
    }
}

#[test]
fn a_process_that_does_not_listen_yet_has_nothing_to_finish() {
    let running = Running::start(&["worker", "starting", "--processes", "2"]);
    running.all("ready", 2);

    running.send(Signal::TERM);

    assert_eq!(running.end(), (Some(0), vec![]));
}

#[test]
fn what_a_terminal_sends_to_all_reaches_each_process_once() {
    let running = Running::start(&["worker", "stubborn", "--processes", "2"]);
    let ready = running.all("ready", 2);

    kill_process_group(Pid::from_child(&running.child), Signal::INT).unwrap();
    assert_eq!(running.all("refused", 2), ready);
    running.send(Signal::INT);

    assert_eq!(running.end(), (Some(130), vec![]));
}

#[test]
fn a_second_signal_kills() {
    let running = Running::start(&["worker", "stubborn", "--processes", "2"]);
    running.all("ready", 2);

    running.send(Signal::TERM);
    running.all("refused", 2);
    running.send(Signal::TERM);

    assert_eq!(running.end(), (Some(143), vec![]));
}

#[test]
fn a_process_that_dies_is_replaced() {
    let running = Running::start(&["worker", "drain", "--processes", "2"]);
    let ready = running.all("ready", 2);
    let (killed, kept) = (*ready.first().unwrap(), *ready.last().unwrap());

    kill(killed, Signal::KILL);
    let replacement = running.next("ready");
    running.send(Signal::TERM);

    assert_eq!(
        running.all("drained", 2),
        BTreeSet::from([kept, replacement])
    );
    assert_eq!(running.end(), (Some(0), vec![]));
}

#[test]
#[cfg(target_os = "linux")]
fn no_process_outlives_a_killed_supervisor() {
    let mut running = Running::start(&["worker", "stubborn", "--processes", "2"]);
    running.all("ready", 2);

    running.send(Signal::KILL);

    let status = running.child.wait().unwrap();
    assert_eq!(status.signal(), Some(Signal::KILL.as_raw()));
    running.end();
}

#[test]
#[cfg(target_os = "linux")]
fn a_process_whose_supervisor_died_before_it_began_does_not_begin() {
    // The first process is no supervisor of ours.
    let answer = output(&["worker", "drain", "--supervisor", "1"]);

    assert_eq!(answer.status.code(), Some(1));
    assert!(answer.stdout.is_empty());
}
