"""The services of the examples, each a process of its own, asked over HTTP."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).resolve().parents[1]
# Nest's decorators have to be compiled: npx tsc -p examples/node/service
NEST = EXAMPLES.parent / "build/examples/service/serve.js"
PROGRAMS = {
    "python": [sys.executable, str(EXAMPLES / "python/service/serve.py")],
    "node": ["node", str(NEST)],
}
PATIENCE = 30.0


@contextlib.contextmanager
def database() -> Iterator[str]:
    """The URL of an empty database; skips the test where there is no server."""
    server = os.environ.get("ORKESTRA_TEST_POSTGRES")
    if not server:
        reason = "ORKESTRA_TEST_POSTGRES names no server"
        if "postgres" in os.environ.get("ORKESTRA_TEST_REQUIRE", "").split(","):
            pytest.fail(reason)
        pytest.skip(reason)
    name = f"examples_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0'.encode())
        # The tests' user has the name of our schema, which would come first.
        public = f'ALTER DATABASE "{name}" SET search_path = public'
        connection.execute(public.encode())
        yield urlsplit(server)._replace(path=f"/{name}").geturl()
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


class Service(httpx.Client):
    """A client of a running service."""

    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """Ends the service as a power cut does."""
        self.process.kill()
        self.process.wait(timeout=PATIENCE)


@contextlib.contextmanager
def service(runtime: str, store: str) -> Iterator[Service]:
    """A running service of a runtime, and a client of it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [*PROGRAMS[runtime], "--store", store, "--port", str(port)]
    process = subprocess.Popen(command)
    try:
        url = f"http://127.0.0.1:{port}"
        with Service(base_url=url, timeout=20) as client:
            client.process = process
            _wait(process, client)
            yield client
    finally:
        killed = process.poll() is not None
        process.terminate()
        assert process.wait(timeout=PATIENCE) in ((-9,) if killed else (0, -15, 143))


def _wait(process: subprocess.Popen[bytes], client: httpx.Client) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None, "the service did not start"
        with contextlib.suppress(httpx.TransportError):
            client.get("/health")
            return
        time.sleep(0.02)
    pytest.fail("the service does not answer")
