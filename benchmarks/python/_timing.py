"""Timing loops, and the one line of JSON that each measurement prints."""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

WARM_UP_SECONDS = 0.2
MEASURE_SECONDS = 1.0


def emit(value: float, unit: str, **details: object) -> None:
    """Prints what `run.py` reads: a value, its unit and any facts beside it."""
    sys.stdout.write(
        json.dumps({"value": value, "unit": unit, "details": details}) + "\n"
    )


def median_ns(batch: Callable[[], int], calls: int) -> float:
    """Returns the median ns per call of `batch`.

    Args:
        batch: Makes `calls` calls and returns the ns that the timed part took.
        calls: How many calls one batch makes.
    """
    until = time.perf_counter() + WARM_UP_SECONDS
    while time.perf_counter() < until:
        batch()
    taken: list[float] = []
    until = time.perf_counter() + MEASURE_SECONDS
    while time.perf_counter() < until:
        taken.append(batch() / calls)
    return statistics.median(taken)


async def median_ns_async(batch: Callable[[], Awaitable[int]], calls: int) -> float:
    """Returns the median ns per call, as `median_ns`, on the running loop."""
    until = time.perf_counter() + WARM_UP_SECONDS
    while time.perf_counter() < until:
        await batch()
    taken: list[float] = []
    until = time.perf_counter() + MEASURE_SECONDS
    while time.perf_counter() < until:
        taken.append(await batch() / calls)
    return statistics.median(taken)


def work_file(name: str) -> Path:
    """Returns the path of a file in the empty folder that this process runs in."""
    return Path.cwd() / name
