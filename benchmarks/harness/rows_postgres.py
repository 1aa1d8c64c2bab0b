"""The rows of the PostgreSQL store, projections on it, and the relay."""

from __future__ import annotations

from harness.model import Goal, Row, Side, at_least, at_most, node, ours, python

_ROUNDS = 3


def _rust(label: str, *args: str) -> Side:
    return Side(label, "rust", "postgres", args)


def _append_rows(writers: int, python_goal: float, node_goal: float) -> tuple[Row, Row]:
    count = str(writers)
    many = "1 writer" if writers == 1 else f"{writers} concurrent writers"
    side = "orkestra .wait()" if writers == 1 else "orkestra"
    other = "orkestra" if writers == 1 else "orkestra .wait()"
    return (
        Row(
            f"postgres-python-append-{writers}",
            f"Python: durable PostgreSQL append, {many}, 1 event each",
            (
                python("eventsourcing", "append", "eventsourcing", count, "postgres"),
                ours("orkestra", "python", "append", "orkestra", count, "postgres"),
                ours(
                    "orkestra .wait()",
                    "python",
                    "append",
                    "orkestra-threads",
                    count,
                    "postgres",
                ),
            ),
            (
                at_least(side, python_goal, "eventsourcing"),
                Goal(other, "eventsourcing"),
            ),
            "writers are threads (eventsourcing, .wait()) or tasks (orkestra)",
            database=True,
            most_rounds=_ROUNDS,
        ),
        Row(
            f"postgres-node-append-{writers}",
            f"Node: durable PostgreSQL append, {many}, 1 event each",
            (
                node("emmett", "postgres_append", "emmett", count),
                ours("orkestra", "node", "postgres_append", "orkestra", count),
            ),
            (at_least("orkestra", node_goal, "emmett"),),
            database=True,
            most_rounds=_ROUNDS,
        ),
    )


_COMMANDS = (
    Row(
        "postgres-python-command",
        "Python: command on an aggregate of 10 events, 1 append, PostgreSQL",
        (
            python(
                "eventsourcing", "aggregate", "eventsourcing", "command", "postgres"
            ),
            ours("orkestra", "python", "aggregate", "orkestra", "command", "postgres"),
            ours(
                "orkestra .wait()",
                "python",
                "aggregate",
                "orkestra",
                "command-wait",
                "postgres",
            ),
        ),
        (
            at_least("orkestra .wait()", 4.0, "eventsourcing"),
            Goal("orkestra", "eventsourcing"),
        ),
        "no snapshot and no cache on either side",
        database=True,
        most_rounds=_ROUNDS,
    ),
    Row(
        "postgres-node-command",
        "Node: command on an aggregate of 10 events, 1 append, PostgreSQL",
        (
            node("emmett", "command", "emmett-postgres"),
            ours("orkestra", "node", "command", "orkestra-postgres"),
        ),
        (at_least("orkestra", 4.0, "emmett"),),
        "no snapshot and no cache on either side",
        database=True,
        most_rounds=_ROUNDS,
    ),
)

_READING = (
    Row(
        "postgres-python-read-log",
        "Python: read the whole log as typed events, PostgreSQL",
        (
            python("eventsourcing", "read_log", "eventsourcing", "postgres"),
            ours("orkestra", "python", "read_log", "orkestra", "postgres"),
        ),
        (at_least("orkestra", 3.0, "eventsourcing"),),
        "50,000 events; eventsourcing reads sections of 1,000",
        database=True,
        most_rounds=_ROUNDS,
    ),
    Row(
        "postgres-python-projection",
        "Python: an SQL view with its checkpoint, in batches of 1,000",
        (
            python("eventsourcing", "projection", "eventsourcing"),
            python("eventsourcing runner", "projection", "eventsourcing-runner"),
            ours("orkestra", "python", "projection", "orkestra"),
        ),
        (
            at_least("orkestra", 3.0, "eventsourcing"),
            Goal("orkestra", "eventsourcing runner"),
        ),
        "eventsourcing: its parts put together by hand, a transaction per batch; its "
        "runner has one per event",
        database=True,
        most_rounds=_ROUNDS,
    ),
    Row(
        "postgres-node-projection",
        "Node: an SQL view with its checkpoint, in batches of 1,000",
        (
            node("emmett", "postgres_projection", "emmett"),
            ours("orkestra", "node", "postgres_projection", "orkestra"),
        ),
        (at_least("orkestra", 20.0, "emmett"),),
        "emmett writes the view and its checkpoint for each event, in a transaction "
        "for the batch",
        database=True,
        most_rounds=_ROUNDS,
    ),
)

_RUST = (
    Row(
        "postgres-rust-append-100",
        "Rust: PostgreSQL, 100 concurrent appenders, 1 event each",
        (
            _rust("one-statement loop", "append"),
            ours("orkestra", "rust", "append", "postgres"),
        ),
        (at_least("orkestra", 0.8, "one-statement loop"),),
        "the bare loop inserts 100 rows per statement under an advisory lock, same "
        "table and indexes",
        database=True,
        most_rounds=_ROUNDS,
    ),
    Row(
        "postgres-latency",
        "Rust: from an append to the subscriber's handler, nothing else going on",
        (
            ours("other connections", "rust", "postgres", "latency", "other"),
            ours("same app", "rust", "postgres", "latency", "same"),
        ),
        (
            at_most("other connections", 2_000.0, None),
            at_most("same app", 2_000.0, None),
            Goal("other connections", None, measure="p99"),
        ),
        "the append is in it; other connections: the reader is woken as another "
        "process is",
        database=True,
        most_rounds=_ROUNDS,
    ),
    Row(
        "postgres-relay",
        "Rust: the relay from the log to RabbitMQ, quorum queue",
        (
            ours("publish", "rust", "postgres", "relay", "publish", "quorum"),
            ours("relay", "rust", "postgres", "relay", "log", "quorum"),
        ),
        (at_least("relay", 0.7, "publish"),),
        "publish: 256 tasks that await their confirm; the relay keeps the order of "
        "each stream and its checkpoint",
        broker=True,
        database=True,
        most_rounds=_ROUNDS,
    ),
)

_LARGE = tuple(
    Row(
        f"large-{store}",
        f"{name}: a log of 10 million events against one of 100,000",
        (ours("orkestra", "rust", "large", store),),
        (
            at_least("orkestra", 0.7, None),
            Goal("orkestra", None, 0.7, "at least", "load"),
            Goal("orkestra", None, 0.7, "at least", "head"),
        ),
        "events appended, streams of 1,000 events loaded and heads told per second, "
        "both logs in turn",
        database=store == "postgres",
        large=True,
        most_rounds=1,
    )
    for store, name in (("postgres", "PostgreSQL"), ("sqlite", "SQLite"))
)

POSTGRES: tuple[Row, ...] = (
    *_append_rows(1, 4.0, 3.0),
    *_append_rows(16, 15.0, 10.0),
    *_COMMANDS,
    *_READING,
    *_RUST,
    *_LARGE,
)
