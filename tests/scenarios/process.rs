//! A program of the scenarios as a process.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        mpsc::{self, Receiver},
    },
    thread,
    time::Duration,
};

use orkestra::clock::{Clock, SystemClock};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tempfile::NamedTempFile;

use crate::work::Report;

/// What does not happen within this time does not happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A program, `orkestra worker` most often, with what it and its processes print. Killed when dropped.
pub(crate) struct Worker {
    child: Child,
    /// With the time, on `clock`, at which each came.
    reports: Receiver<(Duration, Report)>,
    pub(crate) clock: Arc<SystemClock>,
    errors: NamedTempFile,
}

impl Worker {
    /// A worker of one process on the broker at `url`.
    pub(crate) fn start(url: &str) -> Self {
        Self::with(&[url])
    }

    /// One that runs already.
    pub(crate) fn ready(url: &str) -> Self {
        let worker = Self::start(url);
        worker.wait(|report| matches!(report, Report::Ready { .. }));
        worker
    }

    pub(crate) fn with(arguments: &[&str]) -> Self {
        Self::program(&[&["worker"], arguments].concat())
    }

    /// A reader of the log at `url`, which has begun.
    pub(crate) fn reader(url: &str) -> Self {
        let reader = Self::program(&["reader", url]);
        reader.wait(|report| matches!(report, Report::Ready { .. }));
        reader
    }

    pub(crate) fn program(arguments: &[&str]) -> Self {
        Self::under(arguments, &[])
    }

    /// A program with environment variables.
    pub(crate) fn under(arguments: &[&str], variables: &[(&str, &Path)]) -> Self {
        let errors = NamedTempFile::new().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_orkestra-scenario"))
            .args(arguments)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(errors.path()).unwrap())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, reports) = mpsc::channel();
        let clock = Arc::new(SystemClock::default());
        let times = Arc::clone(&clock);
        thread::spawn(move || {
            BufReader::new(stdout)
                .lines()
                .map_while(Result::ok)
                .all(|line| {
                    let report = serde_json::from_str(&line).unwrap();
                    sender.send((times.monotonic(), report)).is_ok()
                })
        });
        Self {
            child,
            reports,
            clock,
            errors,
        }
    }

    /// The next report; `None` when every process is gone.
    ///
    /// # Panics
    /// If there is none in time.
    pub(crate) fn next(&self) -> Option<Report> {
        self.next_at().map(|(_, report)| report)
    }

    /// The same with the time, on [`Worker::clock`], at which it came.
    pub(crate) fn next_at(&self) -> Option<(Duration, Report)> {
        match self.reports.recv_timeout(PATIENCE) {
            Ok(report) => Some(report),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("the worker says nothing"),
        }
    }

    /// The reports up to the first that is `wanted`.
    pub(crate) fn wait(&self, wanted: impl Fn(&Report) -> bool) -> Vec<Report> {
        let mut reports = Vec::new();
        loop {
            let report = self.next().expect("the worker ended");
            let found = wanted(&report);
            reports.push(report);
            if found {
                return reports;
            }
        }
    }

    /// When it reports that it consumes, or that it does not.
    pub(crate) fn consuming(&self, wanted: bool) -> Duration {
        loop {
            let (at, report) = self.next_at().expect("the worker ended");
            if matches!(report, Report::Health { consuming, .. } if consuming == wanted) {
                return at;
            }
        }
    }

    /// A process of a service, which has begun. Each relays its store's log; only one that `handles` consumes.
    pub(crate) fn service(bus: &str, store: &str, handles: bool) -> Self {
        let part = if handles { "consumer" } else { "relay" };
        let service = Self::program(&[part, bus, store]);
        service.wait(|report| matches!(report, Report::Ready { .. }));
        service
    }

    /// Writes a line to its standard input.
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The reports until every process is gone, the exit code, and what was said on stderr.
    pub(crate) fn end(mut self) -> (Vec<Report>, Option<i32>, String) {
        let reports = std::iter::from_fn(|| self.next()).collect();
        let code = self.child.wait().unwrap().code();
        (reports, code, fs::read_to_string(&self.errors).unwrap())
    }

    /// SIGSTOP; returns when it is stopped.
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
        let pid = Pid::from_child(&self.child);
        let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap();
        assert!(status.stopped());
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("{}", fs::read_to_string(&self.errors).unwrap_or_default());
        }
    }
}
