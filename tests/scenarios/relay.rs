//! From the log to the broker while processes are killed: at least once, by one process at a time.

use std::collections::BTreeMap;

use orkestra_tests::broker::{Node, shared};
use rustix::process::Signal;

use crate::{
    log::{Log, Place},
    process::Worker,
    takeover::on_shared_stores,
    work::Report,
};

on_shared_stores! {
    what_a_killed_process_committed_is_published_by_the_next,
    without_a_broker_the_next_process_hands_over_what_a_killed_one_put_into_the_outbox,
    of_two_relays_one_publishes_and_the_other_follows_it,
}

/// How often each event was handled.
#[derive(Default)]
struct Handled(BTreeMap<u64, u32>);

impl Handled {
    fn read<'a>(&mut self, reports: impl IntoIterator<Item = &'a Report>) {
        for report in reports {
            if let Report::Handled { number, .. } = report {
                *self.0.entry(*number).or_default() += 1;
            }
        }
    }

    /// Reads until so many events have been handled at least once.
    fn wait(&mut self, service: &Worker, count: usize) {
        while self.0.len() < count {
            let report = service.next().expect("the service ended");
            self.read([&report]);
        }
    }

    fn twice(&self) -> usize {
        self.0.values().filter(|times| **times > 1).count()
    }
}

fn end(service: Worker, handled: &mut Handled) {
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
    assert!(handled.0.keys().copied().eq(0..100));
}

fn without_a_broker_the_next_process_hands_over_what_a_killed_one_put_into_the_outbox(
    place: &Place,
) {
    let mut killed = Worker::service("memory:", &place.url, true);
    let next = Worker::service("memory:", &place.url, true);
    let mut handled = Handled::default();

    killed.tell("outbox 0 200");
    handled.read(&killed.wait(|report| matches!(report, Report::Appended { .. })));
    killed.signal(Signal::KILL);
    handled.read(&killed.end().0);
    handled.wait(&next, 200);

    end(next, &mut handled);
    assert!(handled.0.keys().copied().eq(0..200));
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
