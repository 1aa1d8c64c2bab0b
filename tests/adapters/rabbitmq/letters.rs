//! Dead letters at the broker.

use std::sync::{Arc, Mutex};

use orkestra::{
    clock::Timestamp,
    message::MessageKind,
    ports::{
        Arrived, BrokerLetter, Bus, DeadLetter, DeadLetterReason, DeadLetterStatus, ErrorRecord,
        Settlement,
    },
    testing::block_on,
};
use orkestra_tests::broker;

use super::{address, close, command, commands, done, event, events, holds, id, next, open};

fn bury(arrived: Arrived, handler: &str) -> DeadLetter {
    let letter = DeadLetter {
        id: id(),
        handler: handler.into(),
        kind: MessageKind::Event,
        message_id: arrived.raw.id.unwrap(),
        type_name: "Shop.E".into(),
        topic: arrived.raw.topic.clone(),
        body: arrived.raw.body.clone(),
        requeueable: true,
        reason: DeadLetterReason::RetriesExhausted,
        errors: vec![ErrorRecord {
            error_type: "OutOfStock".into(),
            message: "näh".into(),
            trace: String::new(),
        }],
        attempts: 4,
        first_failed_at: Timestamp::from_micros(1_700_000_000_000_000),
        last_failed_at: Timestamp::from_micros(1_700_000_009_000_000),
        correlation_id: "c-1".into(),
        trace_id: None,
        status: DeadLetterStatus::Dead,
        history: Vec::new(),
    };
    arrived.receipt.settle(Settlement::DeadLetter {
        letter: Box::new(letter.clone()),
        reply: None,
    });
    letter
}

fn taking(all: &Arc<Mutex<Vec<BrokerLetter>>>, limit: usize) -> orkestra::ports::TakeLetter {
    let all = Arc::clone(all);
    Box::new(move |letter| {
        let mut all = all.lock().unwrap();
        let wanted = all.len() < limit;
        if wanted {
            all.push(letter);
        }
        Box::pin(async move { wanted })
    })
}

#[test]
fn a_dead_letter_carries_what_is_known_and_stays_until_it_is_taken() {
    let host = host!("letters");
    let bus = open(&host, "");
    let inbox = events(&bus, "mail", &["#"]);
    let mut sent = Vec::new();
    for _ in 0..3 {
        sent.push(event("orders.placed"));
        block_on(bus.send(sent[sent.len() - 1].clone())).unwrap();
        bury(next(&inbox), "shop.mail");
    }
    // Of another app, and of nobody.
    host.publish("orkestra.deadletter", "stranger", b"{}");

    let letters = loop {
        let letters = block_on(bus.letters(10)).unwrap();
        if letters.len() == 3 {
            break letters;
        }
    };

    let letter = &letters[0];
    assert_eq!(
        (letter.handler.as_str(), letter.queue.as_str()),
        ("shop.mail", "orkestra.evt.shop.mail")
    );
    assert_eq!(
        (letter.topic.as_str(), letter.reason.as_str()),
        ("orders.placed", "retries_exhausted")
    );
    assert_eq!(letter.message.body, sent[0].body);
    assert_eq!(letter.message.attempts, 4);
    assert_eq!(letter.message.errors[0].message, "näh");
    assert_eq!(
        letter.message.last_failed_at,
        Some(Timestamp::from_micros(1_700_000_009_000_000))
    );
    assert_eq!(block_on(bus.letters(2)).unwrap().len(), 2);

    let taken = Arc::default();
    assert_eq!(
        block_on(bus.drain_letters(10, taking(&taken, 2))).unwrap(),
        2
    );
    assert_eq!(taken.lock().unwrap()[1].message.body, sent[1].body);
    assert_eq!(block_on(bus.letters(10)).unwrap().len(), 1);
    close(&bus);
    holds(&host, "orkestra.deadletter.queue", 2);
}

#[test]
fn what_the_broker_gave_up_is_found_by_its_queue() {
    let host = host!("native");
    let bus = open(&host, "");
    let inbox = commands(&bus, "work");
    block_on(bus.send(command("work"))).unwrap();
    // Its way back is gone when its wait is over. Not taken away while it waits: the broker may be slower than that.
    let arrived = next(&inbox);
    host.unbind("orkestra.return", "orkestra.cmd.work", "orkestra.cmd.work");
    arrived.receipt.settle(Settlement::Retry {
        after: std::time::Duration::from_millis(300),
        attempts: 1,
        failures: 1,
        first_failed_at: Timestamp::from_micros(0),
    });
    block_on(bus.send(command("work"))).unwrap();
    done(next(&inbox));

    let letters = loop {
        let letters = block_on(bus.letters(10)).unwrap();
        if !letters.is_empty() {
            break letters;
        }
    };

    assert_eq!(letters[0].handler, "shop.work");
    assert_eq!(letters[0].topic, "work");
    assert_eq!(letters[0].reason, "expired");
    close(&bus);
}

#[test]
fn a_requeued_message_reaches_its_handler_alone_as_a_first_attempt() {
    let host = host!("requeue");
    let bus = open(&host, "");
    let mail = events(&bus, "mail", &["orders.#"]);
    let stock = events(&bus, "stock", &["orders.#"]);
    let (message, entry) = (event("orders.placed"), id());

    block_on(bus.requeue(
        address(MessageKind::Event, "mail"),
        message.clone(),
        Some(entry),
    ))
    .unwrap();

    let arrived = next(&mail);
    assert_eq!(arrived.raw.id, Some(message.id));
    assert_eq!(arrived.raw.topic, "orders.placed");
    assert_eq!(arrived.raw.dead_letter, Some(entry));
    assert_eq!(arrived.raw.attempts, 0);
    done(arrived);
    close(&bus);
    assert!(stock.is_over());
}
