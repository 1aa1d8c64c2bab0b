"""Runs the sides of a row, interleaved, each in a fresh process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.environment import BENCHMARKS, Environment
from harness.model import Row, Samples, Side

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT_SECONDS = 900


@dataclass(frozen=True)
class Outcome:
    """What one process said, and its peak resident memory in MiB."""

    value: float
    unit: str
    details: dict[str, object]
    rss_mib: float


class MeasurementError(Exception):
    """A measuring process failed; the text says how."""


def measure(
    row: Row,
    environment: Environment,
    rounds: int,
    progress: Callable[[str], None],
) -> list[Samples]:
    """Runs every side once per round, starting with another side each time.

    Args:
        row: The row to measure.
        environment: Where to run it.
        rounds: How many values to take of each side.
        progress: Called with a short text before each process starts.
    """
    samples = [Samples(side, problem=_why_not(side, environment)) for side in row.sides]
    for number in range(min(rounds, row.most_rounds or rounds)):
        shift = number % len(samples)
        for sample in samples[shift:] + samples[:shift]:
            if sample.problem is not None:
                continue
            progress(f"{row.id} {number + 1}/{rounds} {sample.side.label}")
            try:
                outcome = run(sample.side, environment, database=row.database)
            except MeasurementError as error:
                sample.problem = str(error)
                continue
            sample.unit = outcome.unit
            sample.values.append(outcome.value)
            sample.rss_mib.append(outcome.rss_mib)
            sample.details.append(outcome.details)
    return samples


def run(side: Side, environment: Environment, *, database: bool) -> Outcome:
    """Runs one process in an empty folder and reads its last line as JSON."""
    work = BENCHMARKS / ".work"
    work.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=work))
    variables = {"PYTHONDONTWRITEBYTECODE": "1"} | environment.variables
    try:
        if not database:
            return _run_in(folder, side, environment, variables)
        assert environment.database is not None
        with environment.database.empty() as url:
            # The last one is for libpq, which would use TLS on loopback, too.
            variables |= {"BENCH_POSTGRES": url, "PGSSLMODE": "disable"}
            return _run_in(folder, side, environment, variables)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run_in(
    folder: Path, side: Side, environment: Environment, variables: dict[str, str]
) -> Outcome:
    command = environment.command(side.runner, side.script, side.args)
    env = {
        k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "ORKESTRA_"))
    }
    env |= variables
    with (folder / "stderr").open("w+") as stderr:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            stderr.seek(0)
            tail = " | ".join(stderr.read().strip().splitlines()[-3:])
            failure = f"exit {process.returncode}: {tail}"
            raise MeasurementError(failure)
    lines = output.strip().splitlines()
    if not lines:
        silence = "it printed nothing"
        raise MeasurementError(silence)
    said = json.loads(lines[-1])
    kib = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return Outcome(
        float(said["value"]), str(said["unit"]), said.get("details", {}), kib / 1024
    )


def _why_not(side: Side, environment: Environment) -> str | None:
    if side.runner == "rust" or side.ours:  # the bare loops are in our crate too
        return environment.missing.get(side.runner)
    return None
