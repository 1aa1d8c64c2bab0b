//! What is too much for one frame, and what somebody deleted meanwhile.

use std::time::Duration;

use orkestra::{
    clock::Timestamp,
    message::MessageKind,
    ports::{
        Bus, BusError, DeadLetter, DeadLetterReason, DeadLetterStatus, ErrorRecord, Settlement,
        TraceContext,
    },
    testing::block_on,
};
use orkestra_tests::broker;

use super::{close, done, event, events, id, next, open, text, within};

fn letter(error: ErrorRecord) -> DeadLetter {
    let now = Timestamp::from_micros(1_700_000_000_000_000);
    DeadLetter {
        id: id(),
        handler: "shop.mail".into(),
        kind: MessageKind::Event,
        message_id: id(),
        type_name: "Shop.E".into(),
        topic: "a".into(),
        body: "{}".into(),
        requeueable: true,
        reason: DeadLetterReason::RetriesExhausted,
        errors: vec![error],
        attempts: 1,
        first_failed_at: now,
        last_failed_at: now,
        correlation_id: String::new(),
        trace_id: None,
        status: DeadLetterStatus::Dead,
        history: Vec::new(),
    }
}

#[test]
fn a_dead_letter_with_an_endless_error_is_shortened() {
    let host = host!("endless");
    let bus = open(&host, "");
    let inbox = events(&bus, "mail", &["a"]);
    block_on(bus.send(event("a"))).unwrap();
    let error = ErrorRecord {
        error_type: "ValueError".into(),
        message: "é".repeat(500_000),
        trace: "at line 1\n".repeat(100_000),
    };

    next(&inbox).receipt.settle(Settlement::DeadLetter {
        letter: Box::new(letter(error)),
        reply: None,
    });

    assert!(within(&inbox, Duration::from_secs(2)).is_none());
    let letters = block_on(bus.letters(10)).unwrap();
    let [told] = &letters[0].message.errors[..] else {
        panic!("{letters:?}");
    };
    assert_eq!(told.error_type, "ValueError");
    assert!(told.message.starts_with("éé") && told.message.ends_with("bytes more)"));
    close(&bus);
}

#[test]
fn headers_that_fit_into_no_frame_are_refused_before_they_end_the_connection() {
    let host = host!("baggage");
    let bus = open(&host, "");
    let mut heavy = event("a");
    heavy.trace = TraceContext {
        baggage: Some("x".repeat(200_000).into()),
        ..TraceContext::default()
    };

    let error = block_on(bus.send(heavy)).unwrap_err();

    let BusError::MessageTooLarge { reason, .. } = error else {
        panic!("{error}");
    };
    assert!(reason.starts_with("its headers have 200"), "{reason}");
    close(&bus);
}

#[test]
fn a_rung_that_was_deleted_is_declared_again() {
    let host = host!("rung");
    let bus = open(&host, "");
    let inbox = events(&bus, "mail", &["a"]);
    block_on(bus.send(event("a"))).unwrap();
    let retry = |attempts| Settlement::Retry {
        after: Duration::from_millis(80),
        attempts,
        failures: attempts,
        first_failed_at: Timestamp::from_micros(0),
    };
    next(&inbox).receipt.settle(retry(1));
    let again = next(&inbox);
    host.delete_queue("orkestra.retry.100");

    again.receipt.settle(retry(2));

    let again = next(&inbox);
    assert_eq!((again.raw.attempts, again.raw.failures), (2, 2));
    done(again);
    close(&bus);
}

#[test]
fn a_retry_waits_in_hand_while_its_queue_takes_nothing() {
    let host = host!("full");
    // One that refuses from the first message on; a quorum queue takes some before it does.
    let bus = open(&host, "queue_type=classic");
    let inbox = events(&bus, "mail", &["a"]);
    block_on(bus.send(event("a"))).unwrap();
    let arrived = next(&inbox);
    host.refuse("^orkestra.evt.shop.mail$", true);

    arrived.receipt.settle(Settlement::Retry {
        after: Duration::ZERO,
        attempts: 1,
        failures: 1,
        first_failed_at: Timestamp::from_micros(0),
    });

    assert!(within(&inbox, Duration::from_secs(3)).is_none());
    host.refuse("", false);
    let again = next(&inbox);
    assert_eq!((again.raw.attempts, again.raw.failures), (1, 1));
    done(again);
    close(&bus);
}

#[test]
fn an_exchange_that_was_deleted_is_no_way_to_lose_events() {
    let host = host!("exchange");
    let bus = open(&host, "");
    let inbox = events(&bus, "mail", &["a"]);
    block_on(bus.send(event("a"))).unwrap();
    done(next(&inbox));
    host.delete_exchange("orkestra.events");

    for _ in 0..2 {
        // Declared again, it would have nobody's queue.
        assert_eq!(
            text(block_on(bus.send(event("a")))),
            Err("exchange orkestra.events does not exist".to_owned())
        );
    }
    close(&bus);
}
