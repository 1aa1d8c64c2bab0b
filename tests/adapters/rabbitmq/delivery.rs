//! What is sent, arrives, is settled and comes again.

use std::{sync::Arc, thread, time::Duration};

use orkestra::{
    Bytes,
    clock::Timestamp,
    message::MessageKind,
    ports::{Arrived, Bus, Outgoing, Settlement, TraceContext},
    testing::block_on,
};
use orkestra_tests::broker;

use super::{close, command, commands, done, event, events, holds, next, open, text, within};

#[test]
fn a_command_goes_to_its_queue_and_is_done_with() {
    let host = host!("command");
    let bus = open(&host, "");
    let inbox = commands(&bus, "orders.place_order");

    let sent = Outgoing {
        max_retries: Some(3),
        trace: TraceContext {
            traceparent: Some("00-nonsense".into()),
            tracestate: None,
            baggage: Some("a=b".into()),
        },
        ..command("orders.place_order")
    };
    block_on(bus.send(sent.clone())).unwrap();
    let arrived = next(&inbox);

    assert_eq!(arrived.raw.id, Some(sent.id));
    assert_eq!(arrived.raw.body, sent.body);
    assert_eq!(arrived.raw.topic, "orders.place_order");
    assert_eq!(arrived.raw.kind, Some(MessageKind::Command));
    assert_eq!((arrived.raw.attempts, arrived.raw.failures), (0, 0));
    assert_eq!(arrived.raw.max_retries, Some(3));
    assert_eq!(arrived.raw.trace, sent.trace);
    assert!(!arrived.raw.wants_reply);
    assert!(arrived.content.is_ok());
    done(arrived);
    close(&bus);
    holds(&host, "orkestra.cmd.orders.place_order", 0);
}

#[test]
fn a_command_without_a_handler_is_an_error_and_an_event_is_not() {
    let host = host!("unroutable");
    let bus = open(&host, "");
    let inbox = commands(&bus, "known");

    let results = block_on(futures_util::future::join_all((0..200).map(|n| {
        let bus = Arc::clone(&bus);
        async move {
            let topic = if n % 3 == 0 { "unknown" } else { "known" };
            (topic, text(bus.send(command(topic)).await))
        }
    })));

    for (topic, result) in results {
        let expected = if topic == "known" {
            Ok(())
        } else {
            Err("no handler for unknown".to_owned())
        };
        assert_eq!(result, expected);
    }
    block_on(bus.send(event("nobody.cares"))).unwrap();
    for _ in 0..133 {
        done(next(&inbox));
    }
    close(&bus);
}

#[test]
fn a_question_is_answered() {
    let host = host!("ask");
    let bus = open(&host, "");
    let inbox = commands(&bus, "sum");
    let worker = thread::spawn(move || {
        for _ in 0..3 {
            let arrived = next(&inbox);
            assert!(arrived.raw.wants_reply);
            let reply = Some(Bytes::from(format!("answer {}", arrived.raw.id.unwrap())));
            arrived.receipt.settle(Settlement::Done { reply });
        }
    });

    for _ in 0..3 {
        let asked = command("sum");
        let answer = block_on(bus.ask(asked.clone())).unwrap();
        assert_eq!(answer, format!("answer {}", asked.id));
    }
    assert_eq!(
        text(block_on(bus.ask(command("nobody")))),
        Err("no handler for nobody".to_owned())
    );
    worker.join().unwrap();
    close(&bus);
}

#[test]
fn a_retry_comes_back_to_its_own_queue_with_what_is_known() {
    let host = host!("retry");
    let bus = open(&host, "");
    let inbox = events(&bus, "mail", &["orders.*"]);
    let other = events(&bus, "stock", &["orders.#"]);
    let failed = Timestamp::from_micros(1_700_000_000_000_000);

    let sent = event("orders.placed");
    block_on(bus.send(sent.clone())).unwrap();
    next(&inbox).receipt.settle(Settlement::Retry {
        after: Duration::from_millis(80),
        attempts: 1,
        failures: 1,
        first_failed_at: failed,
    });
    done(next(&other));
    let again = next(&inbox);

    assert_eq!((again.raw.attempts, again.raw.failures), (1, 1));
    assert_eq!(again.raw.first_failed_at, Some(failed));
    assert_eq!(again.raw.topic, "orders.placed");
    assert_eq!((again.raw.id, &again.raw.body), (Some(sent.id), &sent.body));
    done(again);
    assert!(within(&other, Duration::from_millis(50)).is_none());
    close(&bus);
    holds(&host, "orkestra.evt.shop.mail", 0);
    holds(&host, "orkestra.retry.100", 0);
}

#[test]
fn a_short_wait_behind_a_long_one_comes_back_first() {
    let host = host!("ladder");
    let bus = open(&host, "");
    let inbox = events(&bus, "mail", &["#"]);
    let retry = |arrived: Arrived, millis| {
        arrived.receipt.settle(Settlement::Retry {
            after: Duration::from_millis(millis),
            attempts: 1,
            failures: 1,
            first_failed_at: Timestamp::from_micros(0),
        });
    };

    block_on(bus.send(event("long"))).unwrap();
    retry(next(&inbox), 2_000);
    block_on(bus.send(event("short"))).unwrap();
    retry(next(&inbox), 100);

    for topic in ["short", "long"] {
        let arrived = next(&inbox);
        assert_eq!(arrived.raw.topic, topic);
        done(arrived);
    }
    close(&bus);
}

#[test]
fn a_body_that_is_not_ours_is_doomed_with_its_bytes() {
    let host = host!("poison");
    let bus = open(&host, "");
    let inbox = events(&bus, "mail", &["#"]);

    for body in [&b"not json"[..], b"{}", b"\xff\xfe", b""] {
        host.publish("orkestra.events", "orders.placed", body);
        let arrived = next(&inbox);
        assert_eq!(arrived.raw.body, body);
        assert!(arrived.content.is_err());
        done(arrived);
    }
    block_on(bus.send(event("orders.placed"))).unwrap();
    done(next(&inbox));
    close(&bus);
}

#[test]
fn what_is_given_back_comes_again() {
    let host = host!("give-back");
    let bus = open(&host, "");
    let inbox = commands(&bus, "work");

    block_on(bus.send(command("work"))).unwrap();
    drop(next(&inbox));
    let again = next(&inbox);

    assert_eq!(again.raw.attempts, 1);
    done(again);
    close(&bus);
}

#[test]
fn a_lost_connection_comes_back_by_itself() {
    let host = host!("reconnect");
    let bus = open(&host, "");
    let inbox = events(&bus, "mail", &["#"]);
    block_on(bus.send(event("a"))).unwrap();
    let held = next(&inbox);

    host.close_connections();
    block_on(bus.send(event("b"))).unwrap();
    // Settled already: by coming again.
    done(held);

    let mut topics = [next(&inbox), next(&inbox)].map(|arrived| {
        let topic = arrived.raw.topic.clone();
        done(arrived);
        topic
    });
    topics.sort();
    assert_eq!(topics, ["a", "b"]);
    assert!(within(&inbox, Duration::from_millis(50)).is_none());
    close(&bus);
    holds(&host, "orkestra.evt.shop.mail", 0);
}

#[test]
fn the_broker_and_we_mean_the_same_by_a_pattern() {
    #[derive(serde::Deserialize)]
    struct Case {
        pattern: String,
        topic: String,
        matches: bool,
    }
    let host = host!("patterns");
    let bus = open(&host, "queue_type=classic");
    let cases: Vec<Case> =
        serde_json::from_str(include_str!("../../vectors/patterns.json")).unwrap();
    let mut topics: Vec<_> = cases.iter().map(|case| case.topic.as_str()).collect();
    topics.sort_unstable();
    topics.dedup();
    let mut patterns: Vec<_> = cases.iter().map(|case| case.pattern.as_str()).collect();
    patterns.sort_unstable();
    patterns.dedup();

    let inboxes: Vec<_> = (0..)
        .zip(&patterns)
        .map(|(n, pattern)| events(&bus, &format!("handler_{n}"), &[pattern]))
        .collect();
    for topic in &topics {
        block_on(bus.send(event(topic))).unwrap();
    }

    for (pattern, inbox) in patterns.iter().zip(&inboxes) {
        let mut wanted: Vec<_> = cases
            .iter()
            .filter(|case| case.pattern == *pattern && case.matches)
            .map(|case| case.topic.as_str())
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut arrived: Vec<_> = wanted
            .iter()
            .map(|_| {
                let arrived = next(inbox);
                let topic = arrived.raw.topic.clone();
                done(arrived);
                topic
            })
            .collect();
        arrived.sort_unstable();
        assert_eq!(arrived, wanted, "{pattern}");
        assert!(inbox.try_take().is_none(), "{pattern}");
    }
    close(&bus);
}
