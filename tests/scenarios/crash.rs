//! Processes that end without a word, or in order.

use std::collections::BTreeSet;

use orkestra_tests::broker::shared;
use rustix::process::Signal;

use crate::{
    process::Worker,
    sender::Sender,
    work::{Act, Report},
};

/// K09.
#[test]
fn a_killed_consumer_loses_nothing_that_it_held() {
    let Some(broker) = shared() else { return };
    let host = broker.virtual_host("killed-consumer");
    let killed = Worker::ready(&host.url);
    let sender = Sender::new(&host.url);

    sender.send((0..200).map(|number| (number, Act::Take(10))));
    let mut reports = killed.wait(|report| matches!(report, Report::Handled { number: 40.., .. }));
    let other = Worker::ready(&host.url);
    killed.signal(Signal::KILL);
    reports.extend(killed.end().0);

    sender.ledger().read(&reports);
    assert!(!sender.ledger().missing().is_empty(), "it held some");
    sender.drained_by(other, &host);
}

/// K16.
#[test]
fn a_graceful_stop_finishes_what_is_in_hand_and_gives_the_rest_back() {
    let Some(broker) = shared() else { return };
    let host = broker.virtual_host("graceful-stop");
    let stopped = Worker::ready(&host.url);
    let sender = Sender::new(&host.url);

    sender.send((0..200).map(|number| (number, Act::Take(20))));
    let mut reports = stopped.wait(|report| matches!(report, Report::Handled { number: 40.., .. }));
    stopped.signal(Signal::TERM);
    let (rest, code, _) = stopped.end();
    reports.extend(rest);

    assert_eq!(code, Some(0));
    assert_eq!(began(&reports), handled(&reports));
    sender.ledger().read(&reports);
    assert!(!sender.ledger().missing().is_empty(), "nothing was left");
    // Most often none comes twice. But a quorum queue whose disk is slow puts off the last acknowledgements of a channel, and forgets them
    // when the channel is closed; so only what is promised is asked for.
    sender.drained_by(Worker::ready(&host.url), &host);
}

/// K21: `orkestra worker --processes 2` starts the processes again that the message kills. Decision 0016 says what is promised.
#[test]
fn a_message_that_kills_its_process_becomes_a_dead_letter() {
    let Some(broker) = shared() else { return };
    let host = broker.virtual_host("crash-limit");
    let worker = Worker::with(&[&host.url, "--processes", "2"]);
    worker.wait(|report| matches!(report, Report::Ready { .. }));
    let sender = Sender::new(&host.url);

    sender.send(
        (0..100)
            .filter(|n| *n != 50)
            .map(|number| (number, Act::Succeed)),
    );
    sender.send_doomed(50, Act::Abort);
    sender.send((101..200).map(|number| (number, Act::Succeed)));
    let reports = worker.wait(|report| matches!(report, Report::Dead { .. }));

    let tries = |report: &&Report| matches!(report, Report::Began { number: 50, .. });
    let tries = reports.iter().filter(tries).count();
    sender.ledger().read(&reports);
    let rest = sender.drained_by(worker, &host);

    let is_dead = |report: &&Report| matches!(report, Report::Dead { .. });
    let dead: Vec<_> = reports.iter().chain(&rest).filter(is_dead).collect();
    let guilty = Report::Dead {
        number: Some(50),
        reason: "crash_limit".into(),
    };
    assert_eq!(dead, [&guilty]);
    // Twice in company, then alone. The broker may count a return that was none (decision 0016).
    assert!((3..=5).contains(&tries), "{tries}");
    // What was handled and not acknowledged at one of the two crashes in company comes again, and at no other.
    assert!(sender.ledger().most() <= 3, "{}", sender.ledger().most());
}

fn began(reports: &[Report]) -> BTreeSet<u64> {
    let number = |report: &Report| match report {
        Report::Began { number, .. } => Some(*number),
        _ => None,
    };
    reports.iter().filter_map(number).collect()
}

fn handled(reports: &[Report]) -> BTreeSet<u64> {
    let number = |report: &Report| match report {
        Report::Handled { number, .. } => Some(*number),
        _ => None,
    };
    reports.iter().filter_map(number).collect()
}
