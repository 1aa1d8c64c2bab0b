//! How long a consumer is away. No limit is asserted, as machines differ: the figures are printed (`--nocapture`).

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
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

/// A quorum queue elects a leader first, which takes RabbitMQ some tenths of a second after it accepts connections; a classic
/// queue shows our own part.
#[test]
fn a_consumer_is_back_soon_after_the_broker_is() {
    if shared().is_none() {
        return;
    }
    let node = Node::started();
    let classic = format!("{}?queue_type=classic", node.virtual_host("classic"));
    let urls = [node.url(), classic];
    let workers = urls.each_ref().map(|url| Worker::start(url));
    for worker in &workers {
        worker.consuming(true);
    }

    let clocks = workers.each_ref().map(|worker| Arc::clone(&worker.clock));
    let mut away = [vec![], vec![]];
    for _ in 0..2 {
        node.stop();
        for worker in &workers {
            worker.consuming(false);
        }
        let back = thread::scope(|scope| {
            let back = scope.spawn(|| {
                until("the broker is back", || greets(node.port));
                clocks.each_ref().map(|clock| clock.monotonic())
            });
            node.start();
            back.join().unwrap()
        });
        for (index, worker) in workers.iter().enumerate() {
            let consuming = worker.consuming(true);
            away[index].push(consuming.saturating_sub(back[index]).as_millis());
        }
    }

    let [quorum, classic] = away;
    eprintln!(
        "after the broker was back, consuming again within {quorum:?} ms (quorum), {classic:?} ms (classic)"
    );
    for (url, worker) in urls.iter().zip(workers) {
        let sender = Sender::new(url);
        sender.send([(0, Act::Succeed)]);
        sender.handled_by(worker);
    }
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
