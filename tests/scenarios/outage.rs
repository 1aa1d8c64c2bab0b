//! Brokers that go away, come back, or were not there yet.

use orkestra_tests::broker::{Node, shared};

use crate::{
    process::Worker,
    sender::Sender,
    until,
    work::{Act, Report},
};

const MANY: u64 = 10_000;

fn succeed(number: u64) -> (u64, Act) {
    (number, Act::Succeed)
}

/// K10.
#[test]
fn a_broker_that_restarts_twice_in_10000_messages_loses_none() {
    if shared().is_none() {
        return;
    }
    let node = Node::started();
    let worker = Worker::ready(&node.url());
    let sender = Sender::new(&node.url());

    let sending = sender.send_behind((0..MANY).map(succeed));
    sender.handled(&worker, MANY / 3);
    node.stop();
    node.start();
    sender.handled(&worker, MANY / 2);
    // Not the other way round: RabbitMQ may forget a queue that it was told of less than a few seconds before.
    node.kill();
    node.start();
    sending.join().unwrap();

    sender.handled_by(worker);
}

/// K11.
#[test]
fn connections_closed_by_the_broker_come_back_and_nothing_is_lost() {
    let Some(broker) = shared() else { return };
    let host = broker.virtual_host("closed-connections");
    let worker = Worker::ready(&host.url);
    let sender = Sender::new(&host.url);

    let sending = sender.send_behind((0..MANY / 2).map(succeed));
    for part in 1..=3 {
        sender.handled(&worker, part * MANY / 8);
        host.close_connections();
    }
    sending.join().unwrap();

    sender.drained_by(worker, &host);
}

/// K12, when nobody asked to wait.
#[test]
fn a_broker_that_is_away_at_the_start_is_an_error_that_says_so() {
    if shared().is_none() {
        return;
    }
    let away = Node::stopped();

    let (reports, code, errors) = Worker::start(&away.url()).end();

    assert_eq!((reports, code), (vec![], Some(1)));
    assert!(errors.contains("the broker is unavailable"), "{errors}");
}

/// K12, with `startup_wait`.
#[test]
fn a_worker_that_was_asked_to_wait_starts_when_the_broker_does() {
    if shared().is_none() {
        return;
    }
    let node = Node::stopped();

    let worker = Worker::start(&format!("{}?startup_wait=60", node.url()));
    node.start();
    worker.wait(|report| matches!(report, Report::Ready { .. }));
    let sender = Sender::new(&node.url());
    sender.send((0..10).map(succeed));

    sender.handled_by(worker);
}

/// A publisher that the broker blocks waits, says so, and goes on.
#[test]
fn a_memory_alarm_blocks_publishers_and_loses_nothing() {
    if shared().is_none() {
        return;
    }
    let node = Node::started();
    let worker = Worker::ready(&node.url());
    let sender = Sender::new(&node.url());
    sender.send((0..10).map(succeed));

    node.memory_limit(0.000_01);
    let sending = sender.send_behind((10..100).map(succeed));
    until("the sender says that it is blocked", || {
        sender.blocked().is_some()
    });
    node.memory_limit(0.4);
    sending.join().unwrap();

    sender.handled_by(worker);
    until("the sender is not blocked any more", || {
        sender.blocked().is_none()
    });
}
