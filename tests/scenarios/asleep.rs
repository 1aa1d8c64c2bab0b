//! A process that is stopped (SIGSTOP, a frozen virtual machine) in the middle of a write to a SQLite file: what the others see, and that it passes.

use std::{
    fs::{File, TryLockError},
    time::Duration,
};

use orkestra::{
    clock::{Clock, SystemClock},
    code::Coded,
};
use rustix::process::Signal;

use crate::{
    log::{Log, Place},
    process::Worker,
};

/// Stops it while it has the turn to write.
fn stop_in_a_write(writer: &Worker, place: &Place) {
    let file = place.url.strip_prefix("sqlite:").unwrap();
    let lock = File::open(format!("{file}-lock")).unwrap();
    loop {
        writer.stop();
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => return,
            Err(TryLockError::Error(error)) => panic!("{error}"),
            Ok(()) => lock.unlock().unwrap(),
        }
        writer.signal(Signal::CONT);
    }
}

fn writer(place: &Place, numbers: &str) -> Worker {
    let mut writer = Worker::service("memory:", &place.url, false);
    writer.tell(&format!("append {numbers}"));
    writer
}

#[test]
fn in_a_write_to_sqlite_it_locks_the_others_out_until_it_goes_on_or_ends() {
    let place = Place::sqlite();
    let log = Log::open(&place.url);
    let sleeper = writer(&place, "0 1000000");
    stop_in_a_write(&sleeper, &place);
    let clock = SystemClock::default();

    let refused = log.try_append(5_000_000).unwrap_err();
    assert_eq!(refused.code(), "ORK_STORE_LOCKED", "{refused}");
    assert!(refused.is_transient());
    // Waited for once, as the documentation of `busy_timeout` says; then refused soon, so that nothing piles up.
    let first = clock.monotonic();
    log.try_append(5_000_001).unwrap_err();
    let second = clock.monotonic().saturating_sub(first);
    assert!(second < first / 2, "{first:?} {second:?}");
    let before = log.all().len();
    assert_eq!(
        log.all().len(),
        before,
        "readers go on, and find nothing new"
    );
    sleeper.signal(Signal::CONT);
    log.append([5_000_000, 5_000_001]);
    drop(sleeper);

    // One that is killed lets go at once.
    let sleeper = writer(&place, "2000000 3000000");
    stop_in_a_write(&sleeper, &place);
    let from = clock.monotonic();
    sleeper.signal(Signal::KILL);
    log.try_append(5_000_002).unwrap();
    let took = clock.monotonic().saturating_sub(from);
    assert!(took < Duration::from_secs(5), "{took:?}");

    let mut numbers: Vec<_> = log.all().iter().map(|(_, number)| *number).collect();
    let count = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), count, "none twice");
    assert!(numbers.ends_with(&[5_000_000, 5_000_001, 5_000_002]));
    // What it appended before and after is whole: each of its appends or none, in their order.
    let own = |number: &&u64| **number < 1_000_000;
    let own: Vec<_> = numbers.iter().filter(own).copied().collect();
    assert!(own.iter().copied().eq(0..own.len() as u64));
}
