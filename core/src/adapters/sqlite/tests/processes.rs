//! Several processes on one file. A child is this test binary again, running [`child`] alone, with its orders on standard input.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use super::{block_on, events, name, open, within_a_while};
use crate::ports::{
    CheckpointStore, EventStore, ExpectedRevision, Position, ReadAll, RecordedEvent, SaveCheckpoint,
};

const READY: &str = "child: ready";
const DONE: &str = "child: done ";

struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// A process with the file open, waiting for [`Process::go`].
    fn start(file: &Path, job: &str, count: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .arg("adapters::sqlite::tests::processes::child")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = format!("{}\n{job}\n{count}\n", file.display());
        let input = child.stdin.as_mut().unwrap();
        input.write_all(orders.as_bytes()).unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut process = Self { child, output };
        while process.line() != READY {}
        process
    }

    fn go(&mut self) {
        self.child
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"go\n")
            .unwrap();
    }

    /// The next line that it writes.
    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.output.read_line(&mut line).unwrap() > 0, "it ended");
        // The test harness writes the test's name without a line's end.
        match line.find("child: ") {
            Some(start) => line[start..].trim().to_owned(),
            None => line,
        }
    }

    /// What it has done next: a position or the like.
    fn done(&mut self) -> u64 {
        loop {
            if let Some(number) = self.line().strip_prefix(DONE) {
                return number.parse().unwrap();
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "the other processes of these tests"]
fn child() {
    let mut orders = std::io::stdin().lock().lines();
    let (Some(Ok(file)), Some(Ok(job)), Some(Ok(count))) =
        (orders.next(), orders.next(), orders.next())
    else {
        return;
    };
    let say = |text: &str| writeln!(std::io::stdout(), "{text}").unwrap();
    let store = open(Path::new(&file));
    say(READY);
    orders.next();
    let count: usize = count.parse().unwrap();
    match job.as_str() {
        "checkpoint" => {
            let position = Some(Position(count as u64));
            block_on(store.save("board".into(), position, SaveCheckpoint::default())).unwrap();
            say(&format!("{DONE}{count}"));
        }
        "answer" => {
            // Each event of the other process is answered by one of ours.
            for (event, n) in events(count).into_iter().zip(0..) {
                block_on(store.wait_for_events(Some(Position(2 * n)))).unwrap();
                let append = store.append(name("answers"), vec![event], ExpectedRevision::Any);
                assert_eq!(
                    block_on(append).unwrap().position,
                    Some(Position(2 * n + 2))
                );
            }
        }
        stream => {
            for event in events(count) {
                let append = store.append(name(stream), vec![event], ExpectedRevision::Any);
                let position = block_on(append).unwrap().position.unwrap();
                say(&format!("{DONE}{position}"));
            }
        }
    }
    orders.next();
}

fn whole_log(file: &Path) -> Vec<RecordedEvent> {
    let store = open(file);
    let mut events = Vec::new();
    let mut after = None;
    loop {
        let page = block_on(store.read_all(ReadAll::after(after))).unwrap();
        events.extend(page.events);
        after = page.position.or(after);
        if page.end {
            return events;
        }
    }
}

#[test]
fn processes_write_in_turn_and_every_event_is_there_once() {
    const EACH: usize = 300;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let mut processes: Vec<_> = ["cart-0", "cart-1", "cart-2"]
        .map(|stream| Process::start(&file, stream, EACH))
        .into();
    for process in &mut processes {
        process.go();
    }
    let readers: Vec<_> = processes
        .into_iter()
        .map(|mut process| {
            std::thread::spawn(move || {
                for _ in 0..EACH {
                    process.done();
                }
            })
        })
        .collect();
    for reader in readers {
        reader.join().unwrap();
    }

    let log = whole_log(&file);

    let mut counts: HashMap<&str, usize> = HashMap::new();
    let mut at_first_end = None;
    for event in &log {
        let count = counts.entry(&event.stream).or_default();
        assert_eq!(event.revision, *count as u64);
        *count += 1;
        if *count == EACH && at_first_end.is_none() {
            at_first_end = Some(counts.values().copied().min().unwrap_or(0));
        }
    }
    assert_eq!(log.len(), 3 * EACH);
    // Nobody starves: when the first has finished, the slowest has done a good part of its own.
    assert!(at_first_end >= Some(EACH / 3), "{at_first_end:?}");
}

#[test]
fn a_process_that_waits_is_woken_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let store = open(&file);
    let mut appending = Process::start(&file, "cart-0", 1);
    let mut saving = Process::start(&file, "checkpoint", 7);
    let (a, b) = (store.clone(), store.clone());
    let appended = within_a_while(async move { a.wait_for_events(None).await });
    let saved = within_a_while(async move { b.wait_until("board".into(), Position(7)).await });

    appending.go();
    saving.go();

    appended().unwrap();
    saved().unwrap();
}

#[test]
fn no_call_between_processes_is_lost() {
    const ROUNDS: usize = 200;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let store = open(&file);
    let mut answering = Process::start(&file, "answer", ROUNDS);
    answering.go();

    let rounds = within_a_while(async move {
        for n in 0..ROUNDS as u64 {
            let append = store.append(name("calls"), events(1), ExpectedRevision::Any);
            assert_eq!(append.await.unwrap().position, Some(Position(2 * n + 1)));
            store
                .wait_for_events(Some(Position(2 * n + 1)))
                .await
                .unwrap();
        }
    });

    rounds();
}

#[test]
fn what_was_acknowledged_survives_the_end_of_its_process() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let mut process = Process::start(&file, "cart-0", 1_000_000);
    process.go();
    let mut last = 0;
    for _ in 0..200 {
        last = process.done();
    }

    // SIGKILL: it gets no chance to finish anything.
    drop(process);

    let log = whole_log(&file);
    assert!(log.len() as u64 >= last);
    for (n, event) in (0..).zip(&log) {
        assert_eq!((event.revision, event.position), (n, Position(n + 1)));
    }
    let verdict: String = rusqlite::Connection::open(&file)
        .unwrap()
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(verdict, "ok");
    let store = open(&file);
    let next = block_on(store.append(name("cart-0"), events(1), ExpectedRevision::Any)).unwrap();
    assert_eq!(next.revision, Some(log.len() as u64));
}
