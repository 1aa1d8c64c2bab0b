"""A service in Python and one in Node on one broker."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1]
SCRIPT = EXAMPLES.parent / "scripts" / "rabbitmq.sh"


@pytest.fixture
def broker() -> str:
    """A virtual host of the run's broker."""
    url, node = (os.environ.get(f"ORKESTRA_TEST_{n}") for n in ("AMQP", "RABBITMQ"))
    if not url or not node:
        reason = "ORKESTRA_TEST_AMQP and ORKESTRA_TEST_RABBITMQ name no broker"
        if "rabbitmq" in os.environ.get("ORKESTRA_TEST_REQUIRE", "").split(","):
            pytest.fail(reason)
        pytest.skip(reason)
    name = f"interop-{os.getpid()}"
    subprocess.run([str(SCRIPT), "vhost", node, name], check=True, timeout=60)
    return url.rsplit("/", 1)[0] + f"/{name}"


def expected(service: str) -> list[str]:
    """What the page says that a service prints."""
    page = (EXAMPLES / "interop.md").read_text()
    return re.findall(rf"^{service}: .*$", page, re.MULTILINE)


def test_each_handles_what_the_other_sends(broker: str) -> None:
    environment = {**os.environ, "ORKESTRA_BUS": broker}
    shop = subprocess.Popen(
        ["node", str(EXAMPLES / "node/interop/main.mjs")],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert shop.stdout is not None
        first = shop.stdout.readline().strip()
        assert first == expected("shop")[0]
        warehouse = subprocess.run(
            [sys.executable, str(EXAMPLES / "python/interop/main.py")],
            check=True,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            timeout=25,
        )
        shop.terminate()
        rest, _ = shop.communicate(timeout=25)
    finally:
        shop.kill()
        shop.wait()

    assert warehouse.stdout.splitlines() == expected("warehouse")
    # The event and the answer come on ways of their own.
    assert sorted(rest.splitlines()) == sorted(expected("shop")[1:])
    assert shop.returncode == 0
