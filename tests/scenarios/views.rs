//! Processes that keep a view and are ended in the middle of it: each event is in the view once, and of a rebuild all or nothing.

use rusqlite::Connection;
use tempfile::TempDir;

use crate::{
    log::{Log, Place},
    process::Worker,
    until,
    work::Report,
};

/// The file of a view.
struct View {
    path: String,
    _folder: TempDir,
}

impl View {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            path: folder.path().join("views.db").display().to_string(),
            _folder: folder,
        }
    }

    fn numbers(&self) -> Vec<u64> {
        let connection = Connection::open(&self.path).unwrap();
        connection
            .busy_timeout(std::time::Duration::from_secs(60))
            .unwrap();
        // Before the first start there is none.
        let Ok(mut statement) = connection.prepare("SELECT number FROM board ORDER BY rowid")
        else {
            return Vec::new();
        };
        let numbers = statement.query_map([], |row| row.get::<_, i64>(0)).unwrap();
        numbers
            .map(|n| u64::try_from(n.unwrap()).unwrap())
            .collect()
    }

    /// Waits until all up to `last` are there, and none twice.
    fn has(&self, last: u64) {
        until("the view is complete", || {
            self.numbers().len() as u64 >= last
        });
        let mut numbers = self.numbers();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=last).collect::<Vec<_>>());
    }
}

fn process(kind: &str, url: &str, view: &View, crash: &str) -> Worker {
    let worker = Worker::program(&[kind, url, &view.path, crash]);
    worker.wait(|report| matches!(report, Report::Ready { .. }));
    worker
}

/// Reads to the end of a process that ends by itself.
fn ended(worker: &Worker) {
    while worker.next().is_some() {}
}

#[test]
fn a_view_whose_keepers_die_around_the_commit_has_each_event_once() {
    let (place, view) = (Place::sqlite(), View::new());
    let log = Log::open(&place.url);
    log.append(1..=100);
    let first = process("projector", &place.url, &view, "before");
    ended(&first);
    assert_eq!(view.numbers().len(), 20, "two batches are committed");

    let second = process("projector", &place.url, &view, "after");
    ended(&second);
    // Its first batch may have been refused: the mirror is behind the view while it catches up.
    assert!(view.numbers().len() >= 40, "two more at least");

    let _third = process("projector", &place.url, &view, "no");
    log.append(101..=130);
    view.has(130);
}

#[test]
fn a_rebuild_that_dies_around_the_switch_leaves_one_of_the_two_views() {
    let (place, view) = (Place::sqlite(), View::new());
    let log = Log::open(&place.url);
    log.append(1..=30);
    let _keeper = process("projector", &place.url, &view, "no");
    view.has(30);
    // So that the two can be told apart: the old one has its events backwards.
    let backwards = "CREATE TABLE other AS SELECT number FROM board ORDER BY number DESC; \
                     DROP TABLE board; ALTER TABLE other RENAME TO board";
    let connection = Connection::open(&view.path).unwrap();
    connection.execute_batch(backwards).unwrap();

    ended(&process("rebuilder", &place.url, &view, "before"));
    assert_eq!(view.numbers()[0], 30, "the old one");
    log.append(31..=40);
    view.has(40);
    assert_eq!(view.numbers()[0], 30, "and it is kept on");

    ended(&process("rebuilder", &place.url, &view, "after"));
    assert_eq!(view.numbers()[0], 1, "the new one");
    log.append(41..=50);
    view.has(50);

    let third = process("rebuilder", &place.url, &view, "no");
    ended(&third);
    log.append(51..=60);
    view.has(60);
    let rows: i64 = connection
        .query_row(
            "SELECT count(*) FROM orkestra_view_checkpoints",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(rows, 1, "one row for one view");
}
