//! A database that goes away, comes back, or cuts connections: BEHAVIOURS A15, E10, E11.

use std::thread;

use orkestra::{clock::Timestamp, code::Coded, ports::ExpectedRevision};
use orkestra_tests::postgres::{Node, shared};
use rustix::process::Signal;

use crate::{
    log::Log,
    process::Worker,
    session::Session,
    until,
    work::{Happened, Report},
};

/// Reads until the checkpoint stands at the end of the log, and ends.
pub(crate) fn read_all(reader: Worker, log: &Log, mut reports: Vec<Report>) {
    let last = log.all().last().map(|(position, _)| *position);
    while log.checkpoint().map(|position| position.0) != last {
        reports.extend(reader.next());
    }
    reader.signal(Signal::TERM);
    let (rest, code, errors) = reader.end();
    reports.extend(rest);
    assert_eq!(code, Some(0), "{errors}");
    log.check(&[&reports]);
}

fn beyond(wanted: u64) -> impl Fn(&Report) -> bool {
    move |report| matches!(report, Report::Got { number, .. } if *number >= wanted)
}

/// E11.
#[test]
fn a_database_that_restarts_twice_loses_and_skips_nothing() {
    if shared().is_none() {
        return;
    }
    let node = Node::started();
    let url = node.server().database("restarts");
    let log = Log::open(&url);
    let reader = Worker::reader(&url);

    let appending = log.append_behind(0..6000);
    let mut reports = reader.wait(beyond(1000));
    node.stop();
    node.start();
    reports.extend(reader.wait(beyond(3000)));
    node.kill();
    node.start();
    appending.join().unwrap();

    read_all(reader, &log, reports);
    assert_eq!(log.all().len(), 6000);
}

/// E11 again, for who begins while it is away.
#[test]
fn a_reader_that_was_asked_to_wait_starts_when_the_database_does() {
    if shared().is_none() {
        return;
    }
    let node = Node::started();
    let url = node.server().database("startup");
    let log = Log::open(&url);
    log.append(0..10);
    node.stop();

    let reader = Worker::program(&["reader", &format!("{url}?startup_wait=60")]);
    node.start();
    let reports = reader.wait(beyond(9));

    read_all(reader, &log, reports);
}

#[test]
fn a_database_that_is_away_at_the_start_is_an_error_that_says_so() {
    if shared().is_none() {
        return;
    }
    let away = Node::stopped();

    let url = format!("postgres://orkestra:secret@127.0.0.1:{}/x", away.port);
    let (reports, code, errors) = Worker::program(&["reader", &url]).end();

    assert_eq!((reports, code), (vec![], Some(1)));
    assert!(errors.contains("unavailable"), "{errors}");
    assert!(!errors.contains("secret"), "{errors}");
}

/// E10, and every other connection.
#[test]
fn connections_that_the_server_ends_come_back_and_nothing_is_lost() {
    let Some(server) = shared() else { return };
    let url = server.database("terminated");
    let log = Log::open(&url);
    let reader = Worker::reader(&url);

    let appending = log.append_behind(0..4000);
    let mut reports = Vec::new();
    for part in 1..=3 {
        reports.extend(reader.wait(beyond(part * 1000)));
        until("sessions are ended", || server.terminate(&url, "%") > 0);
    }
    appending.join().unwrap();

    read_all(reader, &log, reports);
    assert_eq!(log.all().len(), 4000);
}

/// E10 when nothing else happens: what is appended while nobody listens is found by looking.
#[test]
fn an_idle_reader_whose_notifications_are_cut_off_misses_nothing() {
    let Some(server) = shared() else { return };
    let url = server.database("deaf");
    let log = Log::open(&url);
    let reader = Worker::reader(&url);
    log.append(0..10);
    let mut reports = reader.wait(beyond(9));

    for round in 1..=3 {
        until("sessions are ended", || server.terminate(&url, "%") > 0);
        log.append(round * 10..(round + 1) * 10);
        reports.extend(reader.wait(beyond(round * 10 + 9)));
    }

    read_all(reader, &log, reports);
}

/// A15.
#[test]
fn a_batch_whose_session_is_ended_is_stored_whole_or_not_at_all() {
    let Some(server) = shared() else { return };
    let url = server.database("batch");
    let log = Log::open(&url);
    log.append(0..1);
    let held = |number| Happened {
        number,
        hold: false,
    };
    let batch: Vec<_> = (1..=10)
        .map(|number| held(number).event(Timestamp::from_micros(0)))
        .collect();
    let append = || {
        let store = log.app.store().unwrap();
        store.append(held(1).stream(), batch.clone(), ExpectedRevision::NoStream)
    };
    let blocker = Session::open(&url);
    blocker.run("BEGIN; LOCK TABLE orkestra.events IN EXCLUSIVE MODE");

    let tried = thread::scope(|scope| {
        let appending = scope.spawn(|| log.run(append()));
        blocker.until_rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND wait_event_type = 'Lock'",
        );
        blocker.run("ROLLBACK");
        appending.join().unwrap()
    });

    let stored = log.all().len() - 1;
    match tried {
        Ok(_) => assert_eq!(stored, 10),
        Err(error) => {
            assert!(error.is_transient(), "{error}");
            assert!([0, 10].contains(&stored), "{stored}");
        }
    }
    let again = log.run(append()).unwrap();
    assert_eq!(again.revision, Some(9));
    assert_eq!(log.check_numbers().len(), 11);
}

/// E11 with PgBouncer in transaction mode in between, which restarts too.
#[test]
fn a_pooler_that_restarts_with_its_database_loses_and_skips_nothing() {
    if shared().is_none() {
        return;
    }
    let node = Node::started();
    node.start_pooler();
    let server = node.server();
    let direct = server.database("pooler");
    let url = server.through_pooler(&direct).unwrap() + "?pooler=transaction";
    let log = Log::open(&url);
    let reader = Worker::reader(&url);

    let appending = log.append_behind(0..3000);
    let mut reports = reader.wait(beyond(500));
    node.stop_pooler();
    node.start_pooler();
    reports.extend(reader.wait(beyond(1000)));
    node.kill();
    node.start();
    appending.join().unwrap();

    read_all(reader, &log, reports);
    assert_eq!(log.all().len(), 3000);
}
