//! Events appended in the users' own transactions, which are open for long, overtake each other and are rolled back: BEHAVIOURS C01 to
//! C06. No reader that remembers a position misses one of them, and none waits for a transaction that is open.

use std::thread;

use orkestra::{Message, clock::Timestamp};
use orkestra_tests::postgres::{Node, Server, shared};
use rustix::process::Signal;

use crate::{
    log::Log,
    process::Worker,
    session::Session,
    work::{Happened, Report},
};

/// What a user's transaction claims and sends.
const MESSAGE: &str = "00000000-0000-7000-8000-000000000001";

/// A log with a reader that polls throughout, and users with connections of their own.
struct Scene {
    url: String,
    log: Log,
    reader: Worker,
    reports: Vec<Report>,
}

impl Scene {
    fn new(server: &Server, name: &str) -> Self {
        let url = server.database(name);
        let log = Log::open(&url);
        let reader = Worker::reader(&url);
        Self {
            url,
            log,
            reader,
            reports: Vec::new(),
        }
    }

    fn user(&self) -> Session {
        Session::open(&self.url)
    }

    /// Returns when the reader has been given these, in whatever order.
    fn given(&mut self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            let got =
                |report: &Report| matches!(report, Report::Got { number: n, .. } if *n == number);
            if !self.reports.iter().any(got) {
                self.reports.extend(self.reader.wait(got));
            }
        }
    }

    fn not_given(&self, number: u64) {
        let got = |report: &Report| matches!(report, Report::Got { number: n, .. } if *n == number);
        assert!(!self.reports.iter().any(got));
    }

    /// Each number from 0 to `count` is in the log once, and the reader was given the log from end to end, nothing left out.
    fn check(mut self, count: usize) {
        self.given(0..count as u64);
        self.reader.signal(Signal::TERM);
        let (rest, code, errors) = self.reader.end();
        self.reports.extend(rest);
        assert_eq!(code, Some(0), "{errors}");
        self.log.check(&[&self.reports]);
        assert_eq!(self.log.all().len(), count);
    }
}

impl Session {
    fn begin(&self) {
        self.run("BEGIN");
    }

    fn append(&self, number: u64) {
        self.run(&append(number));
    }

    fn commit(&self) {
        self.run("COMMIT");
    }

    fn rollback(&self) {
        self.run("ROLLBACK");
    }
}

/// The statement that appends an event of this number.
pub(crate) fn append(number: u64) -> String {
    let happened = Happened {
        number,
        hold: false,
    };
    let id = happened.event(Timestamp::from_micros(0)).id;
    let data = serde_json::to_string(&happened).unwrap();
    let stream = &*happened.stream();
    let events = format!(
        r#"[{{"id":"{id}","type":"{}","data":{data}}}]"#,
        Happened::TYPE_NAME
    );
    format!("SELECT orkestra.append('{stream}', '{events}')")
}

/// C01.
#[test]
fn of_two_transactions_the_later_commits_first() {
    let Some(server) = shared() else { return };
    let mut scene = Scene::new(&server, "c01");
    let (one, two) = (scene.user(), scene.user());

    one.begin();
    one.append(0);
    two.begin();
    two.append(1);
    two.commit();
    scene.given([1]);
    scene.not_given(0);
    one.commit();
    scene.given([0]);

    let order: Vec<_> = scene.log.all().iter().map(|(_, number)| *number).collect();
    assert_eq!(order, [1, 0]);
    scene.check(2);
}

/// C02: what is shown is never followed by a smaller position, here with our own appends in between.
#[test]
fn an_older_transaction_is_open_while_others_append() {
    let Some(server) = shared() else { return };
    let mut scene = Scene::new(&server, "c02");
    let (old, new) = (scene.user(), scene.user());

    old.begin();
    old.append(0);
    for number in 1..10 {
        if number % 2 == 0 {
            scene.log.append(number..=number);
        } else {
            new.begin();
            new.append(number);
            new.commit();
        }
        scene.given([number]);
    }
    old.append(10);
    old.commit();

    scene.check(11);
}

/// C03.
#[test]
fn several_slow_transactions_and_fast_ones() {
    let Some(server) = shared() else { return };
    let mut scene = Scene::new(&server, "c03");
    let slow: Vec<_> = (0..5).map(|_| scene.user()).collect();
    let fast = scene.user();

    for (number, user) in (0..).zip(&slow) {
        user.begin();
        user.append(number);
    }
    for number in 5..25 {
        fast.append(number);
    }
    scene.given(5..25);
    for user in slow.iter().rev() {
        user.commit();
    }

    scene.check(25);
}

/// C04.
#[test]
fn an_earlier_append_is_rolled_back() {
    let Some(server) = shared() else { return };
    let mut scene = Scene::new(&server, "c04");
    let (one, two) = (scene.user(), scene.user());

    one.begin();
    one.append(1000);
    two.append(0);
    scene.given([0]);
    one.rollback();
    one.begin();
    one.append(1001);
    // As when its process is killed.
    drop(one);
    two.append(1);

    scene.check(2);
}

/// C05.
#[test]
fn an_idle_session_sits_in_a_transaction() {
    let Some(server) = shared() else { return };
    let mut scene = Scene::new(&server, "c05");
    let (idle, frozen) = (scene.user(), scene.user());

    idle.run("CREATE TABLE theirs (id int); BEGIN; INSERT INTO theirs VALUES (1)");
    frozen.run("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM orkestra.events");
    scene.user().append(0);
    scene.log.append(1..20);
    scene.given(0..20);
    idle.rollback();
    frozen.commit();

    scene.check(20);
}

/// C06.
#[test]
fn numbers_of_sequences_are_lost_by_a_crash() {
    if shared().is_none() {
        return;
    }
    let node = Node::started();
    let server = node.server();
    let mut scene = Scene::new(&server, "c06");
    scene.log.append(0..10);
    let user = scene.user();
    user.append(10);
    scene.given(0..11);
    user.run(
        "DO $$ DECLARE name text; BEGIN \
         FOR name IN SELECT format('%I.%I', schemaname, sequencename) FROM pg_sequences WHERE schemaname = 'orkestra' \
         LOOP PERFORM nextval(name) FROM generate_series(1, 50); END LOOP; END $$",
    );
    user.begin();
    user.append(1000);

    node.kill();
    node.start();
    scene.log.append(11..20);
    scene.user().append(20);

    scene.check(21);
}

/// It is open for a minute, longer than any patience of ours: with all that a user's transaction can hold, and it is committed after all.
#[test]
fn a_transaction_that_stays_open_for_a_minute_delays_nobody() {
    let Some(server) = shared() else { return };
    let mut scene = Scene::new(&server, "open");
    let open = scene.user();
    open.begin();
    open.append(0);
    open.run("SELECT orkestra.save_checkpoint('theirs', NULL, 1, 1)");
    open.run(&format!(
        "SELECT orkestra.inbox_claim('theirs', '{MESSAGE}')"
    ));
    open.run(&format!(
        "SELECT orkestra.enqueue('event', '{MESSAGE}', 'theirs', 'theirs', '{{}}')"
    ));
    let begun = open.query("SELECT now()").remove(0);

    let other = scene.user();
    let mut number = 1;
    while other
        .query(&format!(
            "SELECT 1 WHERE clock_timestamp() < '{begun}'::timestamptz + interval '1 minute'"
        ))
        .len()
        == 1
    {
        scene.log.append(number..number + 10);
        other.append(number + 10);
        scene.given(number..number + 11);
        number += 11;
        other.run("SELECT pg_sleep(0.3)");
    }
    assert!(number > 11);
    scene.not_given(0);
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    other.until_rows(&format!("{locks} HAVING count(*) = 0"));
    // Another process starts, its schema is looked after, and it appends.
    let late = Log::open(&scene.url);
    late.append(number..number + 10);
    open.commit();
    let kept = "SELECT position FROM orkestra.view_checkpoints JOIN orkestra.inbox ON handler = name JOIN orkestra.outbox USING (message_id)";
    assert_eq!(other.query(kept), ["1"]);

    scene.check(usize::try_from(number).unwrap() + 10);
}

/// All of it at once.
#[test]
fn many_transactions_commit_and_roll_back_between_many_appends() {
    let Some(server) = shared() else { return };
    let scene = Scene::new(&server, "mixed");
    let appending = scene.log.append_behind(0..1000);

    thread::scope(|scope| {
        for user in 0..4_u64 {
            let session = scene.user();
            scope.spawn(move || {
                for turn in 0..50 {
                    let number = 1000 + user * 50 + turn;
                    session.begin();
                    if turn % 3 == 0 {
                        session.append(number + 10_000);
                        session.rollback();
                        session.begin();
                    }
                    session.append(number);
                    session.commit();
                }
            });
        }
    });
    appending.join().unwrap();

    scene.check(1200);
}
