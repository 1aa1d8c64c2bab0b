//! Real processes, real brokers and real databases that are killed, stopped, closed, blocked and full: BEHAVIOURS K09 to K12, K16, K21;
//! A15, C01 to C06, E06, E07, E10, E11.
//!
//! Each scenario ends with [`ledger::Ledger::check`]: everything that was published and confirmed has been handled, and what was
//! handled twice is the same message. Those about the log end with [`log::Log::check`]. Without a
//! server they are skipped (see `orkestra_tests::broker`, `orkestra_tests::postgres`).
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

mod asleep;
mod clock;
mod crash;
mod disk;
mod ledger;
mod log;
mod outage;
mod outage_postgres;
mod process;
mod recovery;
mod refused;
mod relay;
mod sender;
mod session;
mod settings;
mod takeover;
mod together;
mod transactions;
mod trouble;
mod views;
mod work;

use std::{thread, time::Duration};

use orkestra::clock::{Clock, SystemClock};
use orkestra_tests::broker::VirtualHost;

/// Looks until `condition` holds; fails when it does not in time.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let clock = SystemClock::default();
    while !condition() {
        assert!(clock.monotonic() < process::PATIENCE, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until everything that was delivered has been acknowledged. That takes as long as it takes, message by message where the disk is slow and
/// suspects are handled alone; fails when nothing is acknowledged any more.
fn drained(host: &VirtualHost) {
    let mut left = host.depth(work::QUEUE);
    while left != Some(0) {
        until("a message less in the queue", || {
            let before = std::mem::replace(&mut left, host.depth(work::QUEUE));
            left != before
        });
    }
}
