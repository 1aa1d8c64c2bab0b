//! How long a consumer is away. No limit is asserted, as machines differ: the figures are printed (`--nocapture`).

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use orkestra::clock::Clock;
use orkestra_tests::broker::{Node, shared};

use crate::{process::Worker, sender::Sender, until, work::Act};

#[test]
fn a_consumer_is_back_soon_after_its_connections_are_closed() {
    let Some(broker) = shared() else { return };
    let host = broker.virtual_host("recovery");
    let worker = Worker::start(&host.url);
    worker.consuming(true);

    let away: Vec<_> = (0..5)
        .map(|_| {
            host.close_connections();
            let from = worker.consuming(false);
            worker.consuming(true).saturating_sub(from).as_millis()
        })
        .collect();

    eprintln!("after all connections were closed, consuming again within {away:?} ms");
    let sender = Sender::new(&host.url);
    sender.send([(0, Act::Succeed)]);
    sender.handled_by(worker);
}

#[test]
fn a_consumer_is_back_soon_after_the_broker_is() {
    if shared().is_none() {
        return;
    }
    let node = Node::started();
    let worker = Worker::start(&node.url());
    worker.consuming(true);

    let away: Vec<_> = (0..3)
        .map(|_| {
            node.stop();
            worker.consuming(false);
            let back = thread::scope(|scope| {
                let back = scope.spawn(|| {
                    until("the broker is back", || greets(node.port));
                    worker.clock.monotonic()
                });
                node.start();
                back.join().unwrap()
            });
            worker.consuming(true).saturating_sub(back).as_millis()
        })
        .collect();

    eprintln!("after the broker was back, consuming again within {away:?} ms");
    let sender = Sender::new(&node.url());
    sender.send([(0, Act::Succeed)]);
    sender.handled_by(worker);
}

/// Whether a broker answers to a client's first bytes.
fn greets(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return false;
    };
    let mut first = [0];
    stream
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    stream.write_all(b"AMQP\0\0\x09\x01").is_ok() && stream.read_exact(&mut first).is_ok()
}
