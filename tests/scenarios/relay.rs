//! From the log to the broker while processes are killed: at least once, by one process at a time.

use std::{collections::BTreeMap, ops::Range};

use orkestra_tests::broker::{Node, shared};
use rustix::process::Signal;

use crate::{
    log::{Log, Place},
    process::Worker,
    takeover::on_shared_stores,
    until,
    work::Report,
};

on_shared_stores! {
    what_a_killed_process_committed_is_published_by_the_next,
    without_a_broker_a_process_without_handlers_leaves_the_outbox_to_the_others,
    without_a_broker_what_a_killed_process_had_in_hand_is_handed_over_by_the_next,
    without_a_broker_a_process_that_slept_past_its_lease_is_followed_and_loses_nothing,
    of_two_relays_one_publishes_and_the_other_follows_it,
}

/// How often each event was handled.
#[derive(Default)]
pub(crate) struct Handled(BTreeMap<u64, u32>);

impl Handled {
    fn read<'a>(&mut self, reports: impl IntoIterator<Item = &'a Report>) {
        for report in reports {
            if let Report::Handled { number, .. } = report {
                *self.0.entry(*number).or_default() += 1;
            }
        }
    }

    /// Reads until so many events have been handled at least once.
    pub(crate) fn wait(&mut self, service: &Worker, count: usize) {
        while self.0.len() < count {
            let report = service.next().expect("the service ended");
            self.read([&report]);
        }
    }

    fn twice(&self) -> usize {
        self.0.values().filter(|times| **times > 1).count()
    }

    /// What was handled, each number once.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.0.keys().copied()
    }
}

/// Ends the service in order.
pub(crate) fn end(service: Worker, handled: &mut Handled) {
    service.signal(Signal::TERM);
    let (rest, code, errors) = service.end();
    handled.read(&rest);
    assert_eq!(code, Some(0), "{errors}");
}

fn what_a_killed_process_committed_is_published_by_the_next(place: &Place) {
    if shared().is_none() {
        return;
    }
    let node = Node::started();
    let consumer = Worker::service(&node.url(), "memory:", true);
    let mut killed = Worker::service(&node.url(), &place.url, false);
    let mut handled = Handled::default();
    killed.tell("append 0 20");
    handled.wait(&consumer, 20);

    node.stop();
    killed.tell("append 20 70");
    killed.tell("outbox 70 100");
    killed.wait(|report| matches!(report, Report::Appended { to: 100 }));
    killed.signal(Signal::KILL);
    killed.end();
    node.start();
    let next = Worker::service(&node.url(), &place.url, false);
    handled.wait(&consumer, 100);

    end(next, &mut handled);
    end(consumer, &mut handled);
    assert!(handled.numbers().eq(0..100));
}

/// A process that has the first event of `numbers` in its handler's hand, and the rest in its own: its handlers take one event at a time.
fn holding(place: &Place, numbers: Range<u64>) -> Worker {
    let mut process = Worker::service("memory:", &place.url, true);
    let (first, end) = (numbers.start, numbers.end);
    process.tell(&format!("hold {first} {}", first + 1));
    process.wait(|report| matches!(report, Report::Began { number, .. } if *number == first));
    process.tell(&format!("outbox {} {end}", first + 1));
    process.wait(|report| matches!(report, Report::Appended { to } if *to == end));
    process
}

fn without_a_broker_what_a_killed_process_had_in_hand_is_handed_over_by_the_next(place: &Place) {
    let log = Log::open(&place.url);
    let killed = holding(place, 0..50);
    let mut next = Worker::service("memory:", &place.url, true);
    assert_eq!(log.outbox(), 50);

    killed.signal(Signal::KILL);
    assert!(killed.end().0.is_empty(), "it had handled none");
    next.tell("go on");
    next.tell("outbox 50 60");
    let mut handled = Handled::default();
    handled.wait(&next, 60);

    assert_eq!(handled.twice(), 0);
    until("nothing is left in the outbox", || log.outbox() == 0);
    end(next, &mut handled);
    assert!(handled.numbers().eq(0..60));
}

fn without_a_broker_a_process_that_slept_past_its_lease_is_followed_and_loses_nothing(
    place: &Place,
) {
    let log = Log::open(&place.url);
    let mut sleeper = holding(place, 0..50);

    sleeper.signal(Signal::STOP);
    let mut next = Worker::service("memory:", &place.url, true);
    next.tell("go on");
    let mut handled = Handled::default();
    handled.wait(&next, 50);
    until("nothing is left in the outbox", || log.outbox() == 0);
    // What it has in hand it handles once more: at least once. What came in meanwhile is not its own.
    next.tell("outbox 50 60");
    sleeper.signal(Signal::CONT);
    sleeper.tell("go on");
    handled.wait(&next, 60);
    let mut again = Handled::default();
    again.wait(&sleeper, 1);
    // It is a stand-by from now on, and takes over in its turn.
    end(next, &mut handled);
    sleeper.tell("outbox 60 70");
    again.read(&sleeper.wait(|report| matches!(report, Report::Handled { number: 69, .. })));
    end(sleeper, &mut again);

    assert_eq!((handled.twice(), again.twice()), (0, 0));
    assert!(handled.numbers().eq(0..60));
    let again: Vec<_> = again.numbers().filter(|n| !(60..70).contains(n)).collect();
    assert!(again.iter().all(|n| *n < 50), "{again:?}");
    assert_eq!(log.outbox(), 0);
}

/// A web process puts messages in, a worker handles them: whoever has no handler takes none out.
fn without_a_broker_a_process_without_handlers_leaves_the_outbox_to_the_others(place: &Place) {
    let log = Log::open(&place.url);
    let mut web = Worker::service("memory:", &place.url, false);
    web.tell("outbox 0 20");
    web.wait(|report| matches!(report, Report::Appended { .. }));
    assert_eq!(log.outbox(), 20);

    // It may handle some before it says that it is ready.
    let worker = Worker::program(&["consumer", "memory:", &place.url]);
    let mut handled = Handled::default();
    handled.wait(&worker, 20);
    web.tell("outbox 20 40");
    handled.wait(&worker, 40);

    end(worker, &mut handled);
    end(web, &mut handled);
    assert!(handled.numbers().eq(0..40));
}

fn of_two_relays_one_publishes_and_the_other_follows_it(place: &Place) {
    let Some(broker) = shared() else { return };
    let host = broker.virtual_host(&place.name("two-relays"));
    let log = Log::open(&place.url);
    let consumer = Worker::service(&host.url, "memory:", true);
    let mut handled = Handled::default();
    let first = Worker::service(&host.url, &place.url, false);
    log.append(0..1);
    handled.wait(&consumer, 1);
    let second = Worker::service(&host.url, &place.url, false);

    log.append(1..500);
    handled.wait(&consumer, 500);
    assert_eq!(handled.twice(), 0, "both publish");
    let appending = log.append_behind(500..1500);
    handled.wait(&consumer, 700);
    first.signal(Signal::KILL);
    first.end();
    appending.join().unwrap();
    handled.wait(&consumer, 1500);

    end(second, &mut handled);
    end(consumer, &mut handled);
    // What the broker had confirmed and the checkpoint did not say yet.
    assert!(handled.twice() <= 512, "{}", handled.twice());
    assert_eq!(log.check_numbers().len(), 1500);
}
