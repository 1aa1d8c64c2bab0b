//! Connections: encrypted, named, lost, and closed.

use std::{thread, time::Duration};

use orkestra::{
    Bytes,
    message::MessageKind,
    ports::{Bus, BusError, Settlement},
    testing::block_on,
};
use orkestra_tests::broker;

use super::{
    at, close, command, commands, done, event, events, eventually, holds, next, open, text, within,
};

#[test]
fn a_connection_is_encrypted_and_both_sides_are_known() {
    let host = host!("tls");
    let (url, folder) = host.over_tls();
    let folder = folder.display();
    let bus = at(&format!(
        "{url}?cacertfile={folder}/ca.pem&certfile={folder}/client.pem&keyfile={folder}/client.key"
    ));
    let inbox = commands(&bus, "work");

    block_on(bus.send(command("work"))).unwrap();
    done(next(&inbox));

    close(&bus);
}

#[test]
fn a_server_that_is_not_trusted_is_refused() {
    let host = host!("distrust");
    let (url, folder) = host.over_tls();
    let folder = folder.display();
    for parameters in [
        String::new(),
        format!("?cacertfile={folder}/ca.pem&server_name=elsewhere.example"),
        format!("?cacertfile={folder}/server.key"),
        format!("?cacertfile={folder}/not-there.pem"),
    ] {
        let bus = at(&format!("{url}{parameters}"));
        let error = block_on(bus.send(event("a"))).unwrap_err();
        assert!(matches!(error, BusError::Unavailable { .. }), "{error}");
        let told = error.to_string();
        assert!(
            told.contains("TLS failed") || told.contains(".pem") || told.contains(".key"),
            "{told}"
        );
    }
}

#[test]
fn an_operator_sees_whose_connections_these_are() {
    let host = host!("names");
    let bus = open(&host, "");
    drop(commands(&bus, "work"));
    block_on(bus.send(event("a"))).unwrap();

    let names = host.connection_names();

    let process = std::process::id();
    for what in ["publish", "consume"] {
        assert!(
            names.contains(&format!(" pid {process} {what};")),
            "{names}"
        );
    }
    assert!(names.contains("shop@"), "{names}");
    close(&bus);
}

#[test]
fn a_deleted_queue_is_declared_again() {
    let host = host!("deleted");
    let bus = open(&host, "");
    let inbox = events(&bus, "mail", &["#"]);

    host.delete_queue("orkestra.evt.shop.mail");

    eventually(|| {
        block_on(bus.send(event("a"))).unwrap();
        within(&inbox, Duration::from_millis(20)).map(done)
    });
    let health = bus.health();
    assert!(health.consumers[0].consuming);
    close(&bus);
}

#[test]
fn a_lost_connection_is_back_shortly_for_both_sides() {
    let host = host!("back");
    let bus = open(&host, "");
    let inbox = commands(&bus, "work");
    let asker = open(&host, "");
    for _ in 0..3 {
        block_on(asker.send(command("work"))).unwrap();
        done(next(&inbox));
        host.close_connections();
    }

    let worker = {
        let inbox = inbox.clone();
        thread::spawn(move || {
            next(&inbox).receipt.settle(Settlement::Done {
                reply: Some(Bytes::from_static(b"yes")),
            });
        })
    };
    assert_eq!(block_on(asker.ask(command("work"))).unwrap(), "yes");
    worker.join().unwrap();
    close(&asker);
    close(&bus);
}

#[test]
fn nothing_is_lost_while_connections_are_closed_again_and_again() {
    let host = host!("storm");
    let bus = open(&host, "prefetch=20");
    let inbox = commands(&bus, "work");
    let sent = thread::spawn({
        let bus = std::sync::Arc::clone(&bus);
        move || {
            block_on(futures_util::future::join_all((0..1000).map(|_| async {
                let command = command("work");
                bus.send(command.clone()).await.unwrap();
                command.id
            })))
        }
    });

    let mut handled = std::collections::HashSet::new();
    let mut count = 0;
    while handled.len() < 1000 {
        let arrived = next(&inbox);
        handled.extend(arrived.raw.id);
        done(arrived);
        count += 1;
        if count % 300 == 0 && handled.len() < 1000 {
            host.close_connections();
        }
    }

    let sent = sent.join().unwrap();
    assert!(sent.iter().all(|id| handled.contains(id)));
    close(&bus);
    holds(&host, "orkestra.cmd.work", 0);
}

#[test]
fn closing_finishes_what_is_in_hand_and_gives_back_the_rest() {
    let host = host!("close");
    let bus = open(&host, "");
    let inbox = commands(&bus, "work");
    for _ in 0..10 {
        block_on(bus.send(command("work"))).unwrap();
    }
    let in_hand = next(&inbox);
    let worker = thread::spawn({
        let inbox = inbox.clone();
        move || {
            // The inbox has ended: nothing that lay in it is handed out any more.
            eventually(|| inbox.is_over().then_some(()));
            done(in_hand);
        }
    });

    block_on(bus.close(Duration::from_secs(10)));

    worker.join().unwrap();
    assert!(inbox.is_over());
    holds(&host, "orkestra.cmd.work", 9);
    assert_eq!(
        text(block_on(bus.send(command("work")))),
        Err("the bus is closed".into())
    );
    let health = bus.health();
    assert!(!health.connected && !health.consumers[0].consuming);
    block_on(bus.close(Duration::from_secs(10)));
}

#[test]
fn closing_does_not_wait_longer_than_it_is_told() {
    let host = host!("deadline");
    let bus = open(&host, "");
    let inbox = commands(&bus, "work");
    block_on(bus.send(command("work"))).unwrap();
    let never_settled = next(&inbox);

    block_on(bus.close(Duration::from_millis(200)));

    holds(&host, "orkestra.cmd.work", 1);
    done(never_settled);
}

#[test]
fn a_broker_that_is_away_does_not_delay_the_end() {
    let host = host!("away");
    let bus = open(&host, "");
    drop(commands(&bus, "work"));
    host.close_connections();
    block_on(bus.pause());
    block_on(bus.close(Duration::from_secs(10)));
    assert_eq!(bus.health().consumers[0].handler, "shop.work");
    assert_eq!(MessageKind::Command.as_str(), "command");
}
