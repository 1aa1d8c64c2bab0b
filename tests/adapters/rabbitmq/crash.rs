//! Messages that end their process.

use std::time::Duration;

use orkestra::{
    message::MessageKind,
    ports::{Bus, DeadLetterReason, Outgoing},
    testing::block_on,
};
use orkestra_tests::broker::{self, VirtualHost};
use uuid::Uuid;

use super::{close, done, event, events, holds, next, open, within};

/// What processes one after another do with a message that kills whoever has it in hand; returns how many died, and which innocent ones were
/// handled.
fn processes(host: &VirtualHost, parameters: &str, guilty: Uuid) -> (u32, Vec<Uuid>) {
    let mut handled = Vec::new();
    for deaths in 0..20 {
        let bus = open(host, parameters);
        let inbox = events(&bus, "mail", &["#"]);
        loop {
            // All that can be in hand at once.
            let mut hand = vec![next(&inbox)];
            while let Some(arrived) = within(&inbox, Duration::from_millis(200)) {
                hand.push(arrived);
            }
            let culprit = hand.iter().position(|a| a.raw.id == Some(guilty));
            if let Some(at) = culprit
                && hand[at].content.is_ok()
            {
                // Nothing of it is said to the broker any more.
                drop(bus);
                break;
            }
            for arrived in hand {
                match &arrived.content {
                    Ok(_) => handled.extend(arrived.raw.id),
                    Err(doom) => {
                        assert_eq!(arrived.raw.id, Some(guilty));
                        assert_eq!(doom.reason, DeadLetterReason::CrashLimit);
                    }
                }
                done(arrived);
            }
            if culprit.is_some() {
                // Whoever was sent round meanwhile.
                while let Some(arrived) = within(&inbox, Duration::from_millis(200)) {
                    assert!(arrived.content.is_ok());
                    handled.extend(arrived.raw.id);
                    done(arrived);
                }
                close(&bus);
                return (deaths, handled);
            }
        }
    }
    panic!("it never ended");
}

fn send(host: &VirtualHost, parameters: &str, count: usize) -> Vec<Outgoing> {
    let bus = open(host, parameters);
    drop(events(&bus, "mail", &["#"]));
    block_on(bus.pause());
    let sent: Vec<_> = (0..count).map(|_| event("orders.placed")).collect();
    for message in &sent {
        block_on(bus.send(message.clone())).unwrap();
    }
    close(&bus);
    sent
}

fn only_the_guilty_one_is_given_up(host: &VirtualHost, parameters: &str, deaths: u32) {
    let sent = send(host, parameters, 12);
    let guilty = sent[5].id;

    let (died, mut handled) = processes(host, parameters, guilty);

    let mut innocent: Vec<_> = sent
        .iter()
        .map(|m| m.id)
        .filter(|id| *id != guilty)
        .collect();
    innocent.sort();
    handled.sort();
    assert_eq!(handled, innocent);
    assert_eq!(died, deaths);
    holds(host, "orkestra.evt.shop.mail", 0);
}

#[test]
fn only_the_message_that_ends_its_process_is_given_up() {
    let host = host!("crash-quorum");
    only_the_guilty_one_is_given_up(&host, "", 5);
}

#[test]
fn a_classic_queue_has_the_same_crash_limit() {
    let host = host!("crash-classic");
    only_the_guilty_one_is_given_up(&host, "queue_type=classic&crash_limit=3", 3);
}

#[test]
fn a_lost_connection_is_no_crash() {
    let host = host!("no-crash");
    let bus = open(&host, "crash_limit=2");
    let inbox = events(&bus, "mail", &["#"]);
    let (a, b) = (event("a"), event("b"));
    block_on(bus.send(a)).unwrap();
    block_on(bus.send(b)).unwrap();

    let mut kept = Vec::new();
    for _ in 0..3 {
        let hand = [next(&inbox), next(&inbox)];
        for arrived in &hand {
            assert!(arrived.content.is_ok());
            assert_eq!(arrived.raw.attempts, 0);
            assert_eq!(arrived.raw.kind, Some(MessageKind::Event));
        }
        host.close_connections();
        // Given back before the loss is noticed they would have come back once by our own will.
        kept.extend(hand);
    }
    for _ in 0..2 {
        let arrived = next(&inbox);
        assert!(arrived.content.is_ok());
        done(arrived);
    }
    close(&bus);
}
