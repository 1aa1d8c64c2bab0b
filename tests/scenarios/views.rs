//! Processes that keep a view and are killed in the middle of it, or put to sleep: each event is in the view once, and of a rebuild all or nothing.
//! The view is in a database of the kind that the log is in.

use rusqlite::Connection;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    log::{Log, Place},
    process::Worker,
    session::Session,
    takeover::on_shared_stores,
    until,
    work::Report,
};

on_shared_stores! {
    a_view_whose_keepers_are_killed_around_the_commit_has_each_event_once,
    a_rebuild_that_is_killed_while_it_builds_leaves_the_old_view,
    a_rebuild_that_is_killed_around_the_switch_leaves_one_of_the_two_views,
    a_keeper_that_slept_in_its_transaction_writes_nothing_twice,
}

/// A view, and what is in it.
pub(crate) struct View {
    /// As the programs are told.
    pub(crate) place: String,
    folder: Option<TempDir>,
}

impl View {
    pub(crate) fn beside(log: &Place) -> Self {
        if log.url.starts_with("postgres") {
            return Self {
                place: log.url.clone(),
                folder: None,
            };
        }
        let folder = tempfile::tempdir().unwrap();
        Self {
            place: format!("sqlite:{}", folder.path().join("views.db").display()),
            folder: Some(folder),
        }
    }

    /// The first column of the rows, nothing where there is no such table.
    fn query(&self, sql: &str) -> Vec<String> {
        let Some(folder) = &self.folder else {
            return Session::open(&self.place)
                .try_query(sql)
                .unwrap_or_default();
        };
        let connection = Connection::open(folder.path().join("views.db")).unwrap();
        connection
            .busy_timeout(std::time::Duration::from_secs(60))
            .unwrap();
        let Ok(mut statement) = connection.prepare(sql) else {
            return Vec::new();
        };
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// In their order.
    fn numbers(&self) -> Vec<u64> {
        let numbers = self.query("SELECT CAST(number AS text) FROM board");
        let mut numbers: Vec<_> = numbers.iter().map(|n| n.parse().unwrap()).collect();
        numbers.sort_unstable();
        numbers
    }

    /// How many of its events were written by a rebuild.
    fn rebuilt(&self) -> usize {
        self.query("SELECT made FROM board WHERE made <> ''").len()
    }

    /// How many checkpoints there are: one for each view, and one for a rebuild.
    fn checkpoints(&self) -> usize {
        let table = match &self.folder {
            Some(_) => "orkestra_view_checkpoints",
            None => "orkestra.view_checkpoints",
        };
        self.query(&format!("SELECT name FROM {table}")).len()
    }

    /// Waits until these are there, once each.
    pub(crate) fn has(&self, numbers: impl IntoIterator<Item = u64>) {
        let numbers: Vec<_> = numbers.into_iter().collect();
        until("the view is complete", || {
            self.numbers().len() >= numbers.len()
        });
        let found = self.numbers();
        let differs = found.iter().zip(&numbers).find(|(a, b)| a != b);
        assert_eq!((differs, found.len()), (None, numbers.len()));
    }
}

/// A process that keeps the view, or builds it anew, and has begun.
pub(crate) fn process(kind: &str, log: &Place, view: &View, place: &str) -> Worker {
    let worker = Worker::program(&[kind, &log.url, &view.place, place]);
    worker.wait(|report| matches!(report, Report::Ready { .. }));
    worker
}

/// One that halts at the place.
fn halted(kind: &str, log: &Place, view: &View, place: &str) -> Worker {
    let worker = process(kind, log, view, place);
    worker.wait(|report| matches!(report, Report::Halted));
    worker
}

fn kill(worker: Worker) {
    worker.signal(Signal::KILL);
    assert_eq!(worker.end().1, None, "it was killed");
}

fn a_view_whose_keepers_are_killed_around_the_commit_has_each_event_once(place: &Place) {
    let view = View::beside(place);
    let log = Log::open(&place.url);
    log.append(1..=200);

    let mut before = 0;
    for at in ["batch-saved", "batch-committed"] {
        kill(halted("projector", place, &view, at));

        let written = view.numbers().len();
        // The first batch of a term may be refused: the mirror is behind the view, as nobody was left to say that it is committed.
        assert!(written >= before + 10, "{at}: {written}");
        assert_eq!(written % 10, 0, "{at}: whole batches");
        before = written;
        view.has(1..=written as u64);
    }

    let _last = process("projector", place, &view, "no");
    log.append(201..=230);
    view.has(1..=230);
    assert_eq!(view.checkpoints(), 1);
}

fn a_rebuild_that_is_killed_while_it_builds_leaves_the_old_view(place: &Place) {
    let view = View::beside(place);
    let log = Log::open(&place.url);
    log.append(1..=60);
    let _keeper = process("projector", place, &view, "no");
    view.has(1..=60);

    let mut last = 60;
    for at in ["batch-saved", "batch-committed"] {
        kill(halted("rebuilder", place, &view, at));

        assert_eq!(view.rebuilt(), 0, "the old one");
        log.append(last + 1..=last + 10);
        last += 10;
        view.has(1..=last);
    }
    let (_, code, errors) = process("rebuilder", place, &view, "no").end();

    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(view.rebuilt() as u64, last, "the new one");
    log.append(last + 1..=last + 10);
    view.has(1..=last + 10);
    assert_eq!(view.rebuilt() as u64, last, "and it is kept on");
    assert_eq!(view.checkpoints(), 1);
}

fn a_rebuild_that_is_killed_around_the_switch_leaves_one_of_the_two_views(place: &Place) {
    let view = View::beside(place);
    let log = Log::open(&place.url);
    log.append(1..=30);
    let _keeper = process("projector", place, &view, "no");
    view.has(1..=30);

    kill(halted("rebuilder", place, &view, "switch-switched"));
    assert_eq!(view.rebuilt(), 0, "the old one");
    log.append(31..=50);
    view.has(1..=50);
    assert_eq!(view.rebuilt(), 0, "and it is kept on");

    kill(halted("rebuilder", place, &view, "switch-committed"));
    assert_eq!(view.rebuilt(), 50, "the new one");
    log.append(51..=60);
    view.has(1..=60);
    assert_eq!(view.rebuilt(), 50, "and it is kept on");
    let (_, code, errors) = process("rebuilder", place, &view, "no").end();
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(view.rebuilt(), 60);
    log.append(61..=70);
    view.has(1..=70);
    assert_eq!(view.checkpoints(), 1, "one view");
}

/// It sleeps past its lease with rows written, and its checkpoint saved or not. What it holds then, a row or the whole file, the next one waits for;
/// whichever commits, the other's transaction comes to nothing.
fn a_keeper_that_slept_in_its_transaction_writes_nothing_twice(place: &Place) {
    let view = View::beside(place);
    let log = Log::open(&place.url);
    let mut last = 0;

    for at in ["batch-written", "batch-saved"] {
        log.append(last + 1..=last + 50);
        last += 50;
        let mut sleeper = halted("projector", place, &view, at);
        sleeper.signal(Signal::STOP);
        let before = view.numbers().len();
        let next = process("projector", place, &view, "no");
        log.append(last + 1..=last + 10);
        last += 10;
        if at == "batch-written" && place.url.starts_with("postgres") {
            // It holds nothing that the other needs.
            view.has(1..=last);
        } else {
            next.wait(|report| matches!(report, Report::Began { .. }));
            assert_eq!(view.numbers().len(), before, "the sleeper's turn");
        }
        sleeper.signal(Signal::CONT);
        sleeper.tell("go on");

        view.has(1..=last);
        kill(sleeper);
        kill(next);
    }
    assert_eq!(view.checkpoints(), 1);
}
