//! What is said when the broker is away, is none, or refuses.

use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
    time::Duration,
};

use orkestra::{
    Bytes,
    clock::{Clock, SystemClock},
    message::MessageKind,
    ports::{Bus, BusError},
    testing::block_on,
};
use orkestra_tests::broker;

use super::{at, close, command, commands, done, event, next, open, spec, text};

/// What sending and consuming both say of the broker at `url`.
fn said(url: &str) -> String {
    let bus = at(url);
    let sent = text(block_on(bus.send(event("a"))));
    let consumed = block_on(bus.consume(spec(MessageKind::Event, "mail", &["#"])));
    assert_eq!(sent, text(consumed.map(|_| ())));
    assert!(!bus.health().connected);
    sent.unwrap_err()
}

/// A port where `answer` is what everybody hears.
fn somebody_else(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut greeting = [0; 8];
            if stream.read_exact(&mut greeting).is_ok() {
                let _ = stream.write_all(answer);
            }
            // Until the other side hangs up.
            thread::spawn(move || stream.read_to_end(&mut Vec::new()));
        }
    });
    port
}

#[test]
fn a_wrong_password_is_a_refused_login() {
    let host = host!("password");
    let url = host.url.replace("guest:guest", "guest:wrong");
    let error = said(&url);
    assert!(
        error.starts_with("the broker refuses the login: Login was refused"),
        "{error}"
    );
}

#[test]
fn a_wrong_virtual_host_is_refused_by_its_name() {
    let host = host!("vhost");
    let error = said(&format!("{}-not-there", host.url));
    assert!(
        error.starts_with("the broker refuses the virtual host: "),
        "{error}"
    );
    assert!(
        error.contains("rabbitmq-vhost-") && error.contains("-not-there"),
        "{error}"
    );
}

#[test]
fn an_unknown_host_a_closed_port_and_something_else_are_told_apart() {
    let unknown = said("amqp://no-such-host.invalid");
    assert!(
        unknown.starts_with("the broker is unavailable: host no-such-host.invalid is unknown"),
        "{unknown}"
    );

    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let closed = said(&format!("amqp://127.0.0.1:{port}"));
    assert!(
        closed.starts_with(&format!(
            "the broker is unavailable: 127.0.0.1:{port}: Connection refused"
        )),
        "{closed}"
    );

    let port = somebody_else(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    assert_eq!(
        said(&format!("amqp://127.0.0.1:{port}")),
        format!("the broker is unavailable: 127.0.0.1:{port}: what answers is not AMQP 0-9-1")
    );

    let port = somebody_else(b"");
    assert_eq!(
        said(&format!("amqp://127.0.0.1:{port}?connect_timeout=0.3")),
        format!("the broker is unavailable: 127.0.0.1:{port} did not answer within 0.3 s")
    );
}

#[test]
fn a_broker_that_is_away_at_start_is_waited_for_when_asked() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let bus = at(&format!("amqp://127.0.0.1:{port}?startup_wait=0.5"));

    let clock = SystemClock::default();
    let error = block_on(bus.send(event("a"))).unwrap_err();

    assert!(matches!(error, BusError::Unavailable { .. }));
    assert!(clock.monotonic() > Duration::from_millis(400));
}

#[test]
fn a_queue_with_other_arguments_is_named_with_the_difference() {
    let host = host!("mismatch");
    let classic = open(&host, "queue_type=classic");
    drop(commands(&classic, "work"));
    close(&classic);

    let bus = open(&host, "");
    let consumed = block_on(bus.consume(spec(MessageKind::Command, "work", &["work"])));

    assert_eq!(
        text(consumed.map(|_| ())),
        Err("queue orkestra.cmd.work exists with other arguments: x-queue-type: expected quorum, found classic".into())
    );
    // The bus goes on.
    let inbox = commands(&bus, "other");
    block_on(bus.send(command("other"))).unwrap();
    done(next(&inbox));
    assert_eq!(bus.health().consumers.len(), 1);
    close(&bus);
}

#[test]
fn a_passive_bus_declares_nothing_and_names_what_is_missing() {
    let host = host!("passive");
    let passive = open(&host, "declare=passive");
    assert_eq!(
        text(block_on(passive.send(event("a")))),
        Err("exchange orkestra.commands does not exist".into())
    );

    let active = open(&host, "");
    drop(commands(&active, "work"));
    close(&active);
    block_on(passive.send(command("work"))).unwrap();
    // Rungs are declared when they are first needed; a passive consumer looks for them at once.
    let consumed = block_on(passive.consume(spec(MessageKind::Command, "work", &["work"])));
    assert_eq!(
        text(consumed.map(|_| ())),
        Err("queue orkestra.retry.100 does not exist".into())
    );
    assert_eq!(host.depth("orkestra.retry.100"), None);
    close(&passive);
}

#[test]
fn a_message_over_the_limit_fails_alone() {
    let host = host!("large");
    let bus = open(&host, "");
    let inbox = commands(&bus, "work");
    let mut large = command("work");
    // RabbitMQ's default limit is 128 MiB.
    large.body = Bytes::from(vec![b' '; 128 * 1024 * 1024 + 1]);

    let (before, failed, after) = block_on(async {
        futures_util::join!(
            bus.send(command("work")),
            bus.send(large.clone()),
            bus.send(command("work"))
        )
    });

    assert!(before.is_ok() && after.is_ok());
    let Err(BusError::MessageTooLarge {
        topic,
        bytes,
        reason,
    }) = failed
    else {
        panic!("{failed:?}");
    };
    assert_eq!((topic.as_str(), bytes), ("work", large.body.len()));
    assert!(reason.contains("134217728"), "{reason}");
    // From now on without asking the broker.
    assert!(block_on(bus.send(large)).is_err());
    done(next(&inbox));
    done(next(&inbox));
    close(&bus);
}

#[test]
fn a_requeue_into_a_queue_that_is_not_there_names_it() {
    let host = host!("requeue-missing");
    let bus = open(&host, "");
    let to = spec(MessageKind::Event, "gone", &[]).address;

    let requeued = block_on(bus.requeue(to, event("a"), None));

    assert_eq!(
        text(requeued),
        Err("queue orkestra.evt.shop.gone does not exist".into())
    );
    close(&bus);
}
