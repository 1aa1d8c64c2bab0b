//! A broker that goes silent, or away, in the middle of something: everybody is told, and closing ends.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use orkestra::{
    adapters::rabbitmq::RabbitmqBus,
    clock::Timestamp,
    message::MessageKind,
    ports::{Bus, BusError, Settlement},
    testing::block_on,
};
use orkestra_tests::broker::{self, VirtualHost};

use super::{at, close, command, commands, event, next, spec};

/// A way to the broker that can be cut, or swallow what is sent.
#[derive(Debug, Default)]
struct Way {
    silent: AtomicBool,
    cut: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

impl Way {
    /// The way, and the host's URL along it.
    fn to(host: &VirtualHost) -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = listener.local_addr().unwrap();
        let (login, rest) = host.url.split_once('@').unwrap();
        let (there, path) = rest.split_once('/').unwrap();
        let way = Arc::new(Self::default());
        let (accepting, there) = (Arc::clone(&way), there.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.cut.load(Ordering::Acquire) {
                    continue;
                }
                let server = TcpStream::connect(&there).unwrap();
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let way = Arc::clone(&accepting);
                    thread::spawn(move || way.carry(from, to));
                }
                accepting.streams.lock().unwrap().extend([client, server]);
            }
        });
        (way, format!("{login}@{here}/{path}"))
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = [0; 8_192];
        while let Ok(count) = from.read(&mut bytes)
            && count > 0
        {
            if !self.silent.load(Ordering::Acquire) && to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    }

    /// From now on nothing arrives, in either direction.
    fn silence(&self) {
        self.silent.store(true, Ordering::Release);
    }

    /// Ends every connection; no other one is made.
    fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Does `work` on a thread, and hands out what comes of it.
fn behind<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> mpsc::Receiver<T> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(work()));
    told
}

fn soon<T>(told: &mpsc::Receiver<T>) -> T {
    // It ends long before.
    told.recv_timeout(Duration::from_secs(15)).unwrap()
}

fn closing(bus: &Arc<RabbitmqBus>, deadline: Duration) -> mpsc::Receiver<()> {
    let bus = Arc::clone(bus);
    behind(move || block_on(bus.close(deadline)))
}

fn sending(bus: &Arc<RabbitmqBus>) -> mpsc::Receiver<Result<(), BusError>> {
    let bus = Arc::clone(bus);
    behind(move || block_on(bus.send(event("a"))))
}

#[test]
fn closing_ends_a_consumer_that_waits_for_its_broker() {
    let bus = at("amqp://127.0.0.1:1?startup_wait=60");
    let consuming = {
        let bus = Arc::clone(&bus);
        behind(move || block_on(bus.consume(spec(MessageKind::Event, "mail", &["#"]))).map(drop))
    };
    while bus.health().consumers.is_empty() {
        thread::yield_now();
    }

    soon(&closing(&bus, Duration::from_secs(1)));

    assert!(matches!(soon(&consuming), Err(BusError::Closed {})));
}

#[test]
fn closing_does_not_wait_for_a_broker_that_has_gone_silent() {
    let host = host!("silent");
    let (way, url) = Way::to(&host);
    let bus = at(&url);
    let inbox = commands(&bus, "a");
    block_on(bus.send(command("a"))).unwrap();
    let arrived = next(&inbox);
    way.silence();
    let sent = sending(&bus);

    soon(&closing(&bus, Duration::from_millis(300)));

    assert!(soon(&sent).is_err());
    drop(arrived);
}

#[test]
fn what_is_on_its_way_is_told_in_time_when_the_broker_goes() {
    let host = host!("in-time");
    let (way, url) = Way::to(&host);
    let bus = at(&format!("{url}?publish_timeout=1"));
    block_on(bus.send(event("a"))).unwrap();
    way.silence();
    let sent = sending(&bus);
    thread::park_timeout(Duration::from_millis(100));
    way.cut();

    let error = soon(&sent).unwrap_err();

    assert!(
        error.to_string().contains("may have been accepted"),
        "{error}"
    );
    close(&bus);
}

#[test]
fn what_waits_behind_a_retry_is_told_in_time() {
    let host = host!("behind");
    let (way, url) = Way::to(&host);
    let bus = at(&format!("{url}?publish_timeout=1&startup_wait=60"));
    let inbox = commands(&bus, "a");
    let other = at(&host.url);
    block_on(other.send(command("a"))).unwrap();
    let arrived = next(&inbox);
    // Only the connection that consumes is there; the one that publishes is not made.
    way.cut.store(true, Ordering::Release);
    arrived.receipt.settle(Settlement::Retry {
        after: Duration::from_millis(1),
        attempts: 1,
        failures: 1,
        first_failed_at: Timestamp::from_micros(0),
    });
    thread::park_timeout(Duration::from_millis(200));

    let error = soon(&sending(&bus)).unwrap_err();

    assert!(
        error.to_string().contains("not confirmed in time"),
        "{error}"
    );
    close(&other);
    soon(&closing(&bus, Duration::from_millis(300)));
}

#[test]
fn who_waits_for_an_answer_is_told_when_the_bus_is_closed() {
    let host = host!("asked");
    let bus = at(&host.url);
    let inbox = commands(&bus, "a");
    let asked = {
        let bus = Arc::clone(&bus);
        behind(move || block_on(bus.ask(command("a"))))
    };
    let arrived = next(&inbox);

    soon(&closing(&bus, Duration::from_millis(300)));

    assert!(matches!(soon(&asked), Err(BusError::Closed {})));
    drop(arrived);
}

#[test]
fn a_command_that_is_asked_twice_at_a_time_is_answered_twice() {
    let host = host!("twice");
    let bus = at(&host.url);
    let inbox = commands(&bus, "a");
    let question = command("a");
    let asked: Vec<_> = (0..2)
        .map(|_| {
            let (bus, question) = (Arc::clone(&bus), question.clone());
            behind(move || block_on(bus.ask(question)))
        })
        .collect();
    let both = [next(&inbox), next(&inbox)];

    for arrived in both {
        arrived.receipt.settle(Settlement::Done {
            reply: Some("{}".into()),
        });
    }

    for asked in asked {
        assert_eq!(soon(&asked).unwrap(), "{}");
    }
    close(&bus);
}

#[test]
fn a_queue_that_is_consumed_again_is_one_consumer() {
    let host = host!("again");
    let bus = at(&host.url);
    drop(commands(&bus, "a"));
    block_on(bus.pause());

    let inbox = commands(&bus, "a");

    let health = bus.health();
    assert_eq!(health.consumers.len(), 1);
    assert!(health.consumers[0].consuming);
    block_on(bus.send(command("a"))).unwrap();
    next(&inbox)
        .receipt
        .settle(Settlement::Done { reply: None });
    close(&bus);
}
