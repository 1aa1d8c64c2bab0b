"""The private RabbitMQ node of a run."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def start_broker(checkout: Path) -> dict[str, str]:
    """Starts a node that ends with this process, unless `BENCH_AMQP` names one.

    Args:
        checkout: Where `scripts/rabbitmq.sh` is.

    Returns:
        What the measuring processes find in their environment: `BENCH_AMQP`, its
        URL, and `BENCH_BROKER`, the command that evaluates Erlang in the node.
    """
    if "BENCH_AMQP" in os.environ:
        return {}
    script, port = str(checkout / "scripts/rabbitmq.sh"), free_port()
    folder = tempfile.mkdtemp(prefix="orkestra-bench-rabbitmq.")
    start = [script, "start", folder, str(port), str(os.getpid())]
    subprocess.run(start, check=True, stdout=sys.stderr)
    return {
        "BENCH_AMQP": f"amqp://guest:guest@localhost:{port}/%2F",
        "BENCH_BROKER": f"{script} eval {folder}",
    }


def free_port() -> int:
    """A port whose neighbour and Erlang's two, 10,000 above, are free too."""
    while True:
        port = 22_000 + 2 * random.randrange(1_000)
        others = (port, port + 1, port + 10_000, port + 10_001)
        if not any(_answers(other) for other in others):
            return port


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
