"""The table: every row that `run.py` measures, with the goals it must meet."""

from __future__ import annotations

from harness.model import Goal, Row, Side, at_least, at_most, node, ours, python
from harness.rows_postgres import POSTGRES
from harness.rows_rabbitmq import RABBITMQ

_PYTHON_IN_PROCESS = (
    Row(
        "python-dispatch-async",
        "Python: dispatch to one async handler",
        (
            python("dict + await", "dispatch", "dict"),
            python("blinker send_async", "dispatch", "blinker-async"),
            ours("orkestra", "python", "dispatch", "orkestra-async"),
        ),
        (
            at_most("orkestra", 3.0, "dict + await"),
            at_most("orkestra", 0.5, "blinker send_async"),
        ),
        "one message object, sent again and again: each sending is stamped anew",
    ),
    Row(
        "python-dispatch-fresh",
        "Python: make a command and dispatch it to one async handler",
        (
            python("dict + await", "dispatch", "dict-fresh"),
            python("blinker send_async", "dispatch", "blinker-fresh"),
            ours("orkestra", "python", "dispatch", "orkestra-fresh"),
        ),
        (
            Goal("orkestra", "dict + await"),
            Goal("orkestra", "blinker send_async"),
        ),
        "construction, stamping and freeing all inside the timed loop",
    ),
    Row(
        "python-dispatch-sync",
        "Python: dispatch to a sync handler from sync code, .wait()",
        (
            python("blinker send", "dispatch", "blinker-sync"),
            ours("orkestra", "python", "dispatch", "orkestra-sync"),
        ),
        (at_most("orkestra", 0.5, "blinker send"),),
    ),
    Row(
        "python-publish-5",
        "Python: one event to 5 async handlers",
        (
            python("5 awaits", "publish", "list"),
            python("blinker send_async", "publish", "blinker"),
            ours("orkestra", "python", "publish", "orkestra"),
        ),
        (
            at_most("orkestra", 0.7, "blinker send_async"),
            Goal("orkestra", "5 awaits"),
        ),
        "each event object is published once; made outside the timed part",
    ),
    Row(
        "python-construct",
        "Python: make a message",
        (
            python("pydantic, frozen", "construct", "pydantic"),
            ours("orkestra", "python", "construct", "orkestra"),
        ),
        (at_most("orkestra", 1.2, "pydantic, frozen"),),
    ),
)

_PYTHON_SQLITE = (
    Row(
        "python-append-1",
        "Python: durable SQLite append, 1 writer, 1 event each",
        (
            python("eventsourcing", "append", "eventsourcing", "1"),
            python("eventsourcing put", "append", "eventsourcing-put", "1"),
            ours("orkestra", "python", "append", "orkestra", "1"),
            ours("orkestra .wait()", "python", "append", "orkestra-threads", "1"),
        ),
        (
            at_least("orkestra .wait()", 1.5, "eventsourcing"),
            Goal("orkestra", "eventsourcing"),
            Goal("orkestra", "eventsourcing put"),
        ),
        "WAL and synchronous=FULL on both sides; the peer is synchronous, so .wait() "
        "is its like",
    ),
    Row(
        "python-append-16",
        "Python: durable SQLite append, 16 concurrent writers, 1 event each",
        (
            python("eventsourcing", "append", "eventsourcing", "16"),
            python("eventsourcing put", "append", "eventsourcing-put", "16"),
            ours("orkestra", "python", "append", "orkestra", "16"),
            ours("orkestra .wait()", "python", "append", "orkestra-threads", "16"),
        ),
        (
            at_least("orkestra", 10.0, "eventsourcing"),
            Goal("orkestra", "eventsourcing put"),
            Goal("orkestra .wait()", "eventsourcing"),
        ),
        "writers are threads (eventsourcing, .wait()) or tasks (orkestra)",
    ),
    Row(
        "python-load-1000",
        "Python: load an aggregate of 1,000 events",
        (
            python("eventsourcing", "aggregate", "eventsourcing", "load"),
            ours("orkestra", "python", "aggregate", "orkestra", "load"),
        ),
        (at_most("orkestra", 0.1, "eventsourcing"),),
        "no snapshot and no cache on either side",
    ),
    Row(
        "python-command",
        "Python: command on an aggregate of 10 events, 1 append",
        (
            python("eventsourcing", "aggregate", "eventsourcing", "command"),
            ours("orkestra", "python", "aggregate", "orkestra", "command"),
            ours("orkestra .wait()", "python", "aggregate", "orkestra", "command-wait"),
            ours(
                "orkestra, 16 at once",
                "python",
                "aggregate",
                "orkestra",
                "command-16",
            ),
        ),
        (
            at_least("orkestra .wait()", 5.0, "eventsourcing"),
            Goal("orkestra", "eventsourcing"),
            Goal("orkestra, 16 at once", "eventsourcing"),
        ),
        "no snapshot and no cache on either side; durable; the peer is synchronous, "
        "so .wait() is its like",
    ),
    Row(
        "python-read-log",
        "Python: read the whole log as typed events",
        (
            python("eventsourcing", "read_log", "eventsourcing"),
            ours("orkestra", "python", "read_log", "orkestra"),
        ),
        (at_least("orkestra", 3.0, "eventsourcing"),),
        "100,000 events; eventsourcing reads sections of 1,000",
    ),
)

_NODE = (
    Row(
        "node-dispatch",
        "Node: dispatch to one async handler",
        (
            node("Map + await", "dispatch", "map"),
            node("@nestjs/cqrs", "dispatch", "nest"),
            ours("orkestra explicit", "node", "dispatch", "orkestra-explicit"),
            ours("orkestra derived", "node", "dispatch", "orkestra-derived"),
        ),
        (
            at_most("orkestra explicit", 1.0, "@nestjs/cqrs"),
            Goal("orkestra derived", "@nestjs/cqrs"),
            Goal("orkestra derived", "orkestra explicit"),
        ),
    ),
    Row(
        "node-publish-5",
        "Node: one event to 5 handlers",
        (
            node("@nestjs/cqrs", "publish", "nest"),
            ours("orkestra explicit", "node", "publish", "orkestra-explicit"),
            ours("orkestra derived", "node", "publish", "orkestra-derived"),
        ),
        (
            at_most("orkestra explicit", 0.3, "@nestjs/cqrs"),
            Goal("orkestra derived", "@nestjs/cqrs"),
        ),
        "until all five have run, counted",
    ),
    Row(
        "node-append",
        "Node: durable SQLite append, 1 event each, one after another",
        (
            node("emmett", "append", "emmett"),
            node("emmett, one connection", "append", "emmett-singleton"),
            ours("orkestra", "node", "append", "orkestra"),
        ),
        (
            at_least("orkestra", 15.0, "emmett"),
            Goal("orkestra", "emmett, one connection"),
        ),
        "emmett opens a connection per call unless it is given one to keep",
    ),
    Row(
        "node-command",
        "Node: command on an aggregate of 10 events, 1 append, SQLite",
        (
            node("emmett", "command", "emmett"),
            node("emmett, one connection", "command", "emmett-singleton"),
            ours("orkestra", "node", "command", "orkestra"),
        ),
        (
            at_least("orkestra", 10.0, "emmett"),
            Goal("orkestra", "emmett, one connection"),
        ),
    ),
    Row(
        "node-append-memory",
        "Node: append in memory, 1 event each, 10,000 streams",
        (
            node("emmett", "append", "emmett-memory"),
            ours("orkestra", "node", "append", "orkestra-memory"),
        ),
        (at_least("orkestra", 1.0, "emmett"),),
        "emmett counts all streams at each append: it slows down as it grows",
    ),
    Row(
        "node-append-memory-small",
        "Node: append in memory, 1,000 events over 50 streams",
        (
            node("emmett", "append", "emmett-memory-small"),
            ours("orkestra", "node", "append", "orkestra-memory-small"),
        ),
        (Goal("orkestra", "emmett"),),
    ),
)

_RUST = (
    Row(
        "rust-append-100",
        "Rust: SQLite, 100 concurrent appenders, 1 event each",
        (
            Side("rusqlite loop", "rust", "append", ("bare",)),
            ours("orkestra", "rust", "append", "sqlite"),
        ),
        (at_least("orkestra", 0.8, "rusqlite loop"),),
        "the bare loop commits 100 rows per transaction, same table and pragmas",
    ),
    Row(
        "rust-read-log",
        "Rust: read the whole log",
        (
            Side("rusqlite scan", "rust", "read-log", ("bare",)),
            ours("orkestra", "rust", "read-log", "sqlite"),
        ),
        (
            at_least("orkestra", 1_500_000, None),
            Goal("orkestra", "rusqlite scan"),
        ),
    ),
    Row(
        "rust-dispatch",
        "Rust: a command to its handler; an event to 5 handlers",
        (
            ours("dispatch", "rust", "dispatch", "command"),
            ours("publish to 5", "rust", "dispatch", "event"),
        ),
    ),
    Row(
        "rust-telemetry-off",
        "Rust: one span when nobody listens",
        (
            ours("empty loop", "rust", "telemetry", "empty"),
            ours("span", "rust", "telemetry", "span"),
        ),
        (at_most("span", 3.0, None),),
        "the bound is 1 % of a dispatch from Python",
    ),
    Row(
        "rust-topics",
        "Rust: a topic made from a type name; a pattern matched",
        (
            ours("topic_for", "rust", "topics", "topic"),
            ours("Pattern::matches", "rust", "topics", "pattern"),
        ),
    ),
)

_FLIGHTS = tuple(
    Row(
        f"{runtime}-flights",
        f"{runtime.capitalize()}: the flights job, whole file",
        (ours("orkestra", "python", "flights", runtime),),
        (Goal("orkestra", None, 300.0, "at most", "rss_mib"),),
        "the goal is the largest process's peak resident memory",
    )
    for runtime in ("python", "node")
)

ROWS: tuple[Row, ...] = (
    *_PYTHON_IN_PROCESS,
    *_PYTHON_SQLITE,
    *_NODE,
    *_RUST,
    *_FLIGHTS,
    *POSTGRES,
    *RABBITMQ,
)
