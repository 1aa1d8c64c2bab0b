"""What the core warns of reaches the logger of the package."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from orkestra import Orkestra
from shop import OrderPlaced
from waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

SUBSCRIPTION = """
    import sys
    from orkestra import Event, Orkestra

    class Noted(Event, type_name="Shop.Noted"):
        pass

    def stand_behind_the_end(store: str) -> None:
        app = Orkestra("shop", store=store)
        app.store.append("s", [Noted()]).wait()
        for _ in range(20):
            reader = app.subscribe("reader")
            reader.pending().wait()
            reader.ack(1_000).wait()
            reader.close().wait()
"""


async def test_a_warning_of_the_core_is_one_of_logging(
    store: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Orkestra("shop", store=store).add_types(OrderPlaced) as app:
        await app.store.append("s", [OrderPlaced(order_id="o")])
        reader = app.subscribe("reader")
        await anext(reader)
        await reader.ack(1_000)
        await reader.close()
        assert await app.subscribe("reader").pending() == []
        await eventually(lambda: "stood behind the end of the log" in caplog.text)
    (record,) = [r for r in caplog.records if "stood behind" in r.getMessage()]
    assert (record.name, record.levelname) == ("orkestra", "WARNING")
    assert "(name=reader, position=1000, head=1)" in record.getMessage()


def run(code: str, store: str) -> subprocess.CompletedProcess[str]:
    program = textwrap.dedent(SUBSCRIPTION) + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", program, store],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_process_ends_in_the_middle_of_warnings(sqlite: str) -> None:
    done = run("stand_behind_the_end(sys.argv[1])", sqlite)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    # None is lost by that.
    assert len(lines) == 19
    for line in lines:
        assert "stood behind the end" in line


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork")
def test_a_child_of_a_fork_ends_too(tmp_path: Path) -> None:
    code = """
        import os
        stand_behind_the_end(sys.argv[1] + "-1.db")
        if os.fork() == 0:
            stand_behind_the_end("memory:")
            sys.exit(7)
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
        stand_behind_the_end("memory:")
    """
    done = run(code, f"sqlite:{tmp_path}/store")
    assert done.returncode == 0, done.stderr
