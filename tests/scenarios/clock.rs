//! Hosts whose clocks are wrong, and jump: the leases of a database go by the database's clock.

use std::{fs, path::PathBuf, process::Command};

use orkestra::clock::{Clock, SystemClock};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    log::{Log, Place},
    process::Worker,
    work::Report,
};

/// A clock that programs can be given.
struct Shifted {
    folder: TempDir,
}

impl Shifted {
    fn new() -> Self {
        let clock = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/shifted_clock.c");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(clock.library())
            .arg(source)
            .status();
        assert!(built.unwrap().success());
        clock.shift(0);
        clock
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("shifted_clock.so")
    }

    /// So many seconds off from now on.
    fn shift(&self, seconds: i64) {
        let (next, file) = (self.folder.path().join("next"), self.file());
        fs::write(&next, seconds.to_string()).unwrap();
        fs::rename(next, file).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("seconds")
    }

    fn program(&self, arguments: &[&str]) -> Worker {
        let (library, file) = (self.library(), self.file());
        let variables = [("LD_PRELOAD", &*library), ("SHIFTED_CLOCK", &*file)];
        Worker::under(arguments, &variables)
    }

    /// What a program takes for the time, in seconds from what it is.
    fn ahead(&self) -> i64 {
        let now = SystemClock::default().now().as_micros();
        match self.program(&["clock"]).next() {
            Some(Report::Clock { micros }) => (micros - now) / 1_000_000,
            other => panic!("{other:?}"),
        }
    }

    fn reader(&self, url: &str) -> Worker {
        let reader = self.program(&["reader", url]);
        reader.wait(|report| matches!(report, Report::Ready { .. }));
        reader
    }
}

#[test]
fn a_host_whose_clock_jumps_neither_takes_nor_loses_a_lease() {
    let Some(place) = Place::postgres("clock") else {
        return;
    };
    let (right, wrong) = (Shifted::new(), Shifted::new());
    let log = Log::open(&place.url);
    let owner = right.reader(&place.url);
    log.append(0..10);
    let mut first = owner.wait(|report| matches!(report, Report::Saved { .. }));

    // A stand-by that lives an hour ahead: for it every lease is over.
    wrong.shift(3600);
    assert!((3500..3700).contains(&wrong.ahead()));
    let stand_by = wrong.reader(&place.url);
    for (round, jump) in [7200, -7200, 0].into_iter().enumerate() {
        // And the owner's own clock jumps under it.
        right.shift(jump);
        let from = 10 + u64::try_from(round).unwrap() * 10;
        log.append(from..from + 10);
        let last = move |report: &Report| matches!(report, Report::Got { number, .. } if *number == from + 9);
        first.extend(owner.wait(last));
        let saved =
            |report: &Report| matches!(report, Report::Saved { .. } | Report::Refused { .. });
        first.extend(owner.wait(saved));
    }
    assert!(
        !first
            .iter()
            .any(|report| matches!(report, Report::Refused { .. }))
    );
    owner.signal(Signal::KILL);
    first.extend(owner.end().0);
    log.append(40..50);
    let mut second = stand_by.wait(|report| matches!(report, Report::Got { number: 49, .. }));
    stand_by.signal(Signal::TERM);
    second.extend(stand_by.end().0);

    log.check(&[&first, &second]);
}
