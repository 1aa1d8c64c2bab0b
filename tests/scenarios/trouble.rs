//! A consumer that goes on: bodies that nobody can read, handlers that never return, a queue that is gone.

use orkestra_tests::broker::shared;

use crate::{
    drained,
    process::Worker,
    sender::Sender,
    work::{Act, QUEUE, Report},
};

#[test]
fn a_body_that_is_no_message_is_a_dead_letter_at_once_and_the_rest_goes_on() {
    let Some(broker) = shared() else { return };
    let host = broker.virtual_host("poison");
    let worker = Worker::ready(&host.url);
    let sender = Sender::new(&host.url);

    sender.send((0..50).map(|number| (number, Act::Succeed)));
    host.publish("orkestra.commands", "work.do", b"\xff\xfe no JSON");
    host.publish(
        "orkestra.commands",
        "work.do",
        br#"{"nobody":"knows this"}"#,
    );
    sender.send((50..100).map(|number| (number, Act::Succeed)));

    let mut dead = 0;
    while dead < 2 {
        let report = worker.next().expect("the worker ended");
        dead += u32::from(matches!(report, Report::Dead { number: None, .. }));
        sender.ledger().read(&[report]);
    }
    sender.drained_by(worker, &host);
}

#[test]
fn handlers_that_never_return_time_out_and_give_their_places_back() {
    let Some(broker) = shared() else { return };
    let host = broker.virtual_host("hanging");
    let worker = Worker::ready(&host.url);
    let sender = Sender::new(&host.url);

    // More than there are places.
    for number in 1000..1020 {
        sender.send_doomed(number, Act::Hang);
    }
    sender.send((0..50).map(|number| (number, Act::Succeed)));

    let mut dead = 0;
    while dead < 20 {
        let report = worker.next().expect("the worker ended");
        if let Report::Dead { number, .. } = &report {
            assert!(number.is_some_and(|number| number >= 1000), "{report:?}");
            dead += 1;
        }
        sender.ledger().read(&[report]);
    }
    sender.drained_by(worker, &host);
}

#[test]
fn a_queue_that_is_deleted_is_declared_and_consumed_again() {
    let Some(broker) = shared() else { return };
    let host = broker.virtual_host("deleted-queue");
    let worker = Worker::ready(&host.url);
    let sender = Sender::new(&host.url);
    sender.send((0..50).map(|number| (number, Act::Succeed)));
    sender.handled(&worker, 50);
    drained(&host);

    host.delete_queue(QUEUE);
    worker.consuming(false);
    worker.consuming(true);
    sender.send((50..100).map(|number| (number, Act::Succeed)));

    sender.drained_by(worker, &host);
}
