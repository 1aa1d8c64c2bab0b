//! Two processes that read under one name, of which one dies or falls asleep: BEHAVIOURS E06, E07.

use std::time::Duration;

use orkestra::{clock::Clock, subscription::LEASE};
use rustix::process::Signal;

use crate::{
    log::{Log, Place},
    process::Worker,
    work::Report,
};

/// Each case on every store that processes share.
macro_rules! on_shared_stores {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(#[test] fn $case() { super::$case(&crate::log::Place::sqlite()); })+
        }
        mod postgres {
            $(#[test] fn $case() {
                if let Some(place) = crate::log::Place::postgres(stringify!($case)) {
                    super::$case(&place);
                }
            })+
        }
    };
}

pub(crate) use on_shared_stores;

on_shared_stores! {
    a_killed_reader_is_followed_within_its_lease,
    a_reader_that_ends_in_order_is_followed_at_once,
    a_reader_that_slept_past_its_lease_saves_nothing,
}

fn got(wanted: u64) -> impl Fn(&Report) -> bool {
    move |report| matches!(report, Report::Got { number, .. } if *number == wanted)
}

/// The reports up to the one that says that everything up to this number is acknowledged.
fn read_to(reader: &Worker, number: u64) -> Vec<Report> {
    let mut reports = reader.wait(got(number));
    reports.extend(reader.wait(|report| matches!(report, Report::Saved { .. })));
    reports
}

fn end(reader: Worker, reports: &mut Vec<Report>) {
    reader.signal(Signal::TERM);
    let (rest, code, errors) = reader.end();
    reports.extend(rest);
    assert_eq!(code, Some(0), "{errors}");
}

/// E06.
fn a_killed_reader_is_followed_within_its_lease(place: &Place) {
    let log = Log::open(&place.url);
    let killed = Worker::reader(&place.url);
    log.append(0..50);
    let mut first = killed.wait(got(49));
    let next = Worker::reader(&place.url);

    let appending = log.append_behind(50..200);
    first.extend(killed.wait(|report| matches!(report, Report::Got { number: 80.., .. })));
    let from = next.clock.monotonic();
    killed.signal(Signal::KILL);
    first.extend(killed.end().0);
    appending.join().unwrap();
    let (at, report) = next.next_at().expect("the second reader ended");
    let mut second = vec![report];
    let took = at.saturating_sub(from);
    eprintln!("after the first was killed, the second read within {took:?}");
    while log.checkpoint().map(|position| position.0) != log.all().last().map(|event| event.0) {
        second.extend(next.wait(|report| matches!(report, Report::Saved { .. })));
    }

    assert!(took < LEASE + Duration::from_secs(5), "{took:?}");
    end(next, &mut second);
    log.check(&[&first, &second]);
    // Where the first had saved, and not before that.
    let saved = first.iter().filter_map(saved).max();
    let begun = second.iter().find_map(position_of).unwrap();
    assert!(Some(begun) > saved, "{begun} {saved:?}");
}

fn a_reader_that_ends_in_order_is_followed_at_once(place: &Place) {
    let log = Log::open(&place.url);
    let ended = Worker::reader(&place.url);
    log.append(0..20);
    let mut first = read_to(&ended, 19);
    let next = Worker::reader(&place.url);

    let from = next.clock.monotonic();
    end(ended, &mut first);
    log.append(20..40);
    let (at, report) = next.next_at().expect("the second reader ended");
    let mut second = vec![report];
    second.extend(read_to(&next, 39));

    // It asks again each tenth of the lease.
    let took = at.saturating_sub(from);
    assert!(took < LEASE / 2, "{took:?}");
    end(next, &mut second);
    log.check(&[&first, &second]);
}

/// E07.
fn a_reader_that_slept_past_its_lease_saves_nothing(place: &Place) {
    let log = Log::open(&place.url);
    let mut sleeper = Worker::reader(&place.url);
    log.append(0..20);
    let mut first = read_to(&sleeper, 19);
    log.append_held(20);
    first.extend(sleeper.wait(got(20)));
    let before = log.checkpoint();

    sleeper.signal(Signal::STOP);
    let mut next = Worker::reader(&place.url);
    let mut second = next.wait(got(20));
    next.tell("go on");
    second.extend(next.wait(|report| matches!(report, Report::Saved { .. })));
    log.append(21..40);
    second.extend(read_to(&next, 39));
    let moved = log.checkpoint();
    sleeper.signal(Signal::CONT);
    sleeper.tell("go on");
    first.extend(sleeper.wait(|report| matches!(report, Report::Refused { .. })));

    let Some(Report::Refused { code, .. }) = first.last() else {
        unreachable!()
    };
    assert_eq!(code, "ORK_STORE_STALE_LEASE");
    assert!(before < moved, "{before:?} {moved:?}");
    assert_eq!(log.checkpoint(), moved);
    // It is a stand-by from now on, and takes over in its turn.
    log.append(40..60);
    second.extend(read_to(&next, 59));
    end(next, &mut second);
    log.append(60..70);
    let mut third = read_to(&sleeper, 69);
    end(sleeper, &mut third);
    log.check(&[&first, &second, &third]);
}

fn saved(report: &Report) -> Option<u64> {
    match report {
        Report::Saved { position } => Some(*position),
        _ => None,
    }
}

fn position_of(report: &Report) -> Option<u64> {
    match report {
        Report::Got { position, .. } => Some(*position),
        _ => None,
    }
}
