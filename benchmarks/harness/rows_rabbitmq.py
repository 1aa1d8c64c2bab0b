"""The rows of the RabbitMQ bus, on classic and on quorum queues."""

from __future__ import annotations

from harness.model import Goal, Row, Side, at_least, at_most, node, ours, python

_ROUNDS = 3
_PEERS_NODE = ("amqplib", "rabbitmq-client", "golevelup")


def _rust(label: str, *args: str) -> Side:
    return Side(label, "rust", "rabbit", args)


def _rows(kind: str) -> tuple[Row, ...]:
    return (*_python_rows(kind), *_node_rows(kind), *_rust_rows(kind))


def _python_rows(kind: str) -> tuple[Row, ...]:
    return (
        Row(
            f"rabbitmq-python-send-{kind}",
            f"Python: send, confirmed, 100 in flight, {kind} queue",
            (
                python("pika", "rabbit_send", "pika", kind),
                python("pika select", "rabbit_send", "pika-select", kind),
                python("kombu", "rabbit_send", "kombu", kind),
                python("aio-pika", "rabbit_send", "aio-pika", kind),
                python("faststream", "rabbit_send", "faststream", kind),
                ours("orkestra", "python", "rabbit_send", "orkestra", kind),
            ),
            (
                at_least("orkestra", 2.5, "pika"),
                Goal("orkestra", "pika select"),
                Goal("orkestra", "kombu"),
                at_least("orkestra", 8.0, "aio-pika"),
                at_least("orkestra", 8.0, "faststream"),
            ),
            "pika, kombu: one in flight, as their calls block; pika select: callbacks, "
            "nothing to await",
            broker=True,
            most_rounds=_ROUNDS,
        ),
        Row(
            f"rabbitmq-python-consume-{kind}",
            f"Python: consume, handle, acknowledge, prefetch 100, {kind} queue",
            (
                python("pika", "rabbit_consume", "pika", kind),
                python("pika select", "rabbit_consume", "pika-select", kind),
                python("kombu", "rabbit_consume", "kombu", kind),
                python("aio-pika", "rabbit_consume", "aio-pika", kind),
                python("faststream", "rabbit_consume", "faststream", kind),
                python("celery", "rabbit_consume", "celery", kind),
                ours("orkestra", "python", "rabbit_consume", "orkestra", kind),
            ),
            (
                at_least("orkestra", 4.0, "pika"),
                Goal("orkestra", "pika select"),
                at_least("orkestra", 4.0, "kombu"),
                Goal("orkestra", "aio-pika"),
                at_least("orkestra", 10.0, "faststream"),
                at_least("orkestra", 20.0, "celery"),
            ),
            "async handlers but for pika, kombu (callbacks) and celery (sync tasks)",
            broker=True,
            most_rounds=_ROUNDS,
        ),
        Row(
            f"rabbitmq-python-flow-{kind}",
            f"Python: send, handle, acknowledge at once, {kind} queue",
            (
                python("pika select", "rabbit_flow", "pika-select", kind),
                python("aio-pika", "rabbit_flow", "aio-pika", kind),
                python("faststream", "rabbit_flow", "faststream", kind),
                ours("orkestra", "python", "rabbit_flow", "orkestra", kind),
            ),
            (
                at_least("orkestra", 2.0, "pika select"),
                Goal("orkestra", "aio-pika"),
                at_least("orkestra", 7.0, "faststream"),
            ),
            "one process and one event loop",
            broker=True,
            most_rounds=_ROUNDS,
        ),
    )


def _node_rows(kind: str) -> tuple[Row, ...]:
    jobs = {
        "send": "send, confirmed, 100 in flight",
        "consume": "consume, handle, acknowledge, prefetch 100",
        "flow": "send, handle, acknowledge at once",
    }
    return tuple(
        Row(
            f"rabbitmq-node-{job}-{kind}",
            f"Node: {title}, {kind} queue",
            (
                *(node(peer, f"rabbit_{job}", peer, kind) for peer in _PEERS_NODE),
                *_by_hand(job, kind),
                ours("orkestra", "node", f"rabbit_{job}", "orkestra", kind),
            ),
            (
                *(at_least("orkestra", 1.3, peer) for peer in _PEERS_NODE),
                *(Goal("orkestra", side.label) for side in _by_hand(job, kind)),
            ),
            broker=True,
            most_rounds=_ROUNDS,
        )
        for job, title in jobs.items()
    )


def _by_hand(job: str, kind: str) -> tuple[Side, ...]:
    """What a sender does who writes our contract by hand."""
    if job == "consume":
        return ()
    name = "amqplib, our envelopes"
    return (node(name, f"rabbit_{job}", "amqplib-envelopes", kind),)


def _rust_rows(kind: str) -> tuple[Row, ...]:
    return (
        *(
            Row(
                f"rabbitmq-rust-{job}-{kind}",
                f"Rust: {title}, {kind} queue",
                (
                    _rust("bare client", job, "bare", kind),
                    _rust("bare, our envelopes", job, "bare-envelopes", kind),
                    _rust("lapin", job, "lapin", kind),
                    ours("orkestra", "rust", "rabbit", job, "orkestra", kind),
                ),
                (
                    at_least("orkestra", bound, "bare client"),
                    at_least("orkestra", bound, "bare, our envelopes"),
                    Goal("orkestra", "lapin"),
                ),
                "1,000 in flight; the bare client writes ready-made frames and awaits "
                "nothing per message",
                broker=True,
                most_rounds=_ROUNDS,
            )
            for job, title, bound in (
                ("send", "send, confirmed", 0.8),
                ("consume", "consume, handle, acknowledge", 0.5),
            )
        ),
        Row(
            f"rabbitmq-latency-{kind}",
            f"Rust: from sending to the handler, nothing else going on, {kind} queue",
            (
                _rust("bare client", "latency", "bare", kind),
                ours("orkestra", "rust", "rabbit", "latency", "orkestra", kind),
            ),
            (
                at_most("orkestra", 1.3, "bare client"),
                Goal("orkestra", "bare client", 1.3, "at most", "p99"),
            ),
            broker=True,
            most_rounds=_ROUNDS,
        ),
    )


def _dispatch_row(flights: int) -> Row:
    count = str(flights)
    return Row(
        f"rabbitmq-dispatch-{flights}",
        f"dispatch with a result, {flights} in flight, quorum queue",
        (
            python("celery rpc", "rabbit_dispatch", "celery", count),
            python("taskiq", "rabbit_dispatch", "taskiq", count),
            node("nestjs rmq", "rabbit_dispatch", "nestjs", count),
            ours("orkestra python", "python", "rabbit_dispatch", "orkestra", count),
            ours("orkestra node", "node", "rabbit_dispatch", "orkestra", count),
        ),
        (
            Goal("orkestra python", "celery rpc"),
            Goal("orkestra python", "taskiq"),
            Goal("orkestra node", "nestjs rmq"),
        ),
        "taskiq's results stay in the process's memory: it has no backend for RabbitMQ",
        broker=True,
        most_rounds=2,
    )


_RECOVERY = Row(
    "rabbitmq-recovery",
    "From the broker being back to a message handled",
    (
        ours("connections closed", "rust", "rabbit", "recovery", "connections"),
        ours("broker restarted", "rust", "rabbit", "recovery", "broker"),
    ),
    (
        at_most("connections closed", 200.0, None),
        at_most("broker restarted", 200.0, None),
    ),
    "back: when the bare client, trying every 2 ms, has a message confirmed again",
    broker=True,
    most_rounds=2,
)

_MEMORY = Row(
    "rabbitmq-memory",
    "Growth of a consumer with a slow handler and a queue of 20,000 messages",
    (
        ours("python", "python", "rabbit_memory", "orkestra"),
        ours("node", "node", "rabbit_memory", "orkestra"),
    ),
    (at_most("python", 2.0, None), at_most("node", 2.0, None)),
    "resident memory at the end against the first second, prefetch 100",
    broker=True,
    most_rounds=1,
)

RABBITMQ: tuple[Row, ...] = (
    *_rows("quorum"),
    *_rows("classic"),
    _dispatch_row(1),
    _dispatch_row(100),
    _RECOVERY,
    _MEMORY,
)
