//! Appenders, readers, a view and the relay at once on one PostgreSQL, whose server is ended under them in every way, or in which somebody's transaction
//! stays open.

use orkestra::Message;
use orkestra_tests::{broker, postgres};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    log::{Log, Place},
    outage_postgres::read_all,
    process::Worker,
    relay::{Handled, end},
    session::Session,
    transactions::append,
    views::{View, process},
    work::Happened,
};

/// How a server ends, and is there again.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// In order.
    Restarted,
    /// At once, without saving anything.
    Killed,
    /// One process of it is killed, as the kernel does that is out of memory: it ends all sessions and recovers by itself.
    ProcessKilled,
    /// SIGKILL.
    Crashed,
}

impl Way {
    fn end(self, node: &postgres::Node, url: &str) {
        match self {
            Self::Restarted => node.stop(),
            Self::Killed => node.kill(),
            Self::Crashed => node.crash(),
            Self::ProcessKilled => {
                let some = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
                            AND pid <> pg_backend_pid() ORDER BY backend_start LIMIT 1";
                let pid = node.server().sql(url, some).trim().parse().unwrap();
                return kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
            }
        }
        node.start();
    }
}

#[test]
fn a_server_that_ends_in_every_way_under_all_of_them_loses_and_doubles_nothing() {
    const PART: u64 = 1000;
    let Some(broker) = broker::shared() else {
        return;
    };
    if postgres::shared().is_none() {
        return;
    }
    let host = broker.virtual_host("together");
    let node = postgres::Node::started();
    let place = Place::on(&node, "together");
    let (log, view) = (Log::open(&place.url), View::beside(&place));
    let consumer = Worker::service(&host.url, "memory:", true);
    let mut handled = Handled::default();
    let relays = [(); 2].map(|()| Worker::service(&host.url, &place.url, false));
    let _keepers = [(); 2].map(|()| process("projector", &place, &view, "no"));
    let reader = Worker::reader(&place.url);

    let ways = [
        Way::Restarted,
        Way::Killed,
        Way::ProcessKilled,
        Way::Crashed,
    ];
    let mut all = 0;
    for way in ways {
        let appending = log.append_behind(all..all + PART);
        handled.wait(&consumer, usize::try_from(all + PART / 4).unwrap());
        way.end(&node, &place.url);
        appending.join().unwrap();
        all += PART;
    }

    handled.wait(&consumer, usize::try_from(all).unwrap());
    view.has(0..all);
    for relay in relays {
        end(relay, &mut handled);
    }
    end(consumer, &mut handled);
    assert!(handled.numbers().eq(0..all));
    read_all(reader, &log, Vec::new());
    assert_eq!(log.all().len() as u64, all);
}

/// The statement that puts an event of this number into the outbox.
fn enqueue(number: u64) -> String {
    let happened = Happened {
        number,
        hold: false,
    };
    let data = serde_json::to_string(&happened).unwrap();
    let name = Happened::TYPE_NAME;
    format!(
        r#"SELECT orkestra.enqueue('event', id, 'log.happened', 'a-request', convert_to(format('{{"__type__":"event_envelope",
        "event_type":"{name}","event_id":"%s","data":{data}}}', id), 'UTF8')) FROM gen_random_uuid() id"#
    )
}

#[test]
fn a_transaction_that_stays_open_holds_up_none_of_them() {
    let (Some(broker), Some(place)) = (broker::shared(), Place::postgres("open_among_all")) else {
        return;
    };
    let host = broker.virtual_host("open-among-all");
    let (log, view) = (Log::open(&place.url), View::beside(&place));
    let open = Session::open(&place.url);
    open.run("CREATE TABLE theirs (id int)");
    open.run("BEGIN; INSERT INTO theirs VALUES (1)");
    open.run(&append(0));
    open.run(&enqueue(1));

    // All of them begin, and look after the schema, while it is open.
    let consumer = Worker::service(&host.url, "memory:", true);
    let relay = Worker::service(&host.url, &place.url, false);
    let _keeper = process("projector", &place, &view, "no");
    let reader = Worker::reader(&place.url);
    log.append(2..500);
    let mut handled = Handled::default();
    handled.wait(&consumer, 498);
    view.has(2..500);
    let (_, code, errors) = process("rebuilder", &place, &view, "no").end();
    assert_eq!(code, Some(0), "{errors}");
    let retention = log.app.retention();
    let purged = log.run(async {
        let age = std::time::Duration::from_secs(3600);
        let letters = retention.purge_dead_letters(age, None).await.unwrap();
        letters
            + retention.purge_outbox(age).await.unwrap()
            + retention.purge_inbox(age).await.unwrap()
    });
    assert_eq!(purged, 0);
    assert!(handled.numbers().eq(2..500));
    open.run("COMMIT");

    handled.wait(&consumer, 500);
    view.has([0].into_iter().chain(2..500));
    end(relay, &mut handled);
    end(consumer, &mut handled);
    assert!(handled.numbers().eq(0..500));
    reader.signal(Signal::TERM);
    reader.end();
}
