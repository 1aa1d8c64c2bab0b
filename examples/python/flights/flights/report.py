"""The table of the board, and what a process and a store take."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flights.board import Board, Tally

HEADER = ("", "flights", "cancelled", "diverted", "late departing", "late arriving")
MIB = 2**20


def table(board: Board) -> str:
    """Mean delays in minutes, per carrier, per airport of origin, and in all."""
    parts: list[list[tuple[str, Tally]]] = [
        sorted(board.carriers.items()),
        sorted(board.airports.items()),
        [("all", board.total())],
    ]
    rows = [[_cells(name, tally) for name, tally in part] for part in parts]
    every = [HEADER, *(row for part in rows for row in part)]
    widths = [max(map(len, column)) for column in zip(*every, strict=True)]
    rule = "  ".join("-" * width for width in widths)
    out = [_line(HEADER, widths)]
    for part in rows:
        out += [rule, *(_line(row, widths) for row in part)]
    return "\n".join(out)


def _cells(name: str, tally: Tally) -> tuple[str, ...]:
    return (
        name,
        f"{tally.flights:,}",
        f"{tally.cancelled:,}",
        f"{tally.diverted:,}",
        mean(tally.departure_minutes, tally.departures),
        mean(tally.arrival_minutes, tally.arrivals),
    )


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    first, *rest = (
        cell.ljust(width) if column == 0 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join([first, *rest]).rstrip()


def mean(minutes: int, count: int) -> str:
    return f"{minutes / count:.2f}" if count else "-"


def store_bytes(path: Path | None) -> int:
    """The size of the store's and the view's files; 0 where a server has them."""
    if path is None:
        return 0
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))


def peak_bytes() -> int:
    """The most memory that this process has had resident."""
    status = Path("/proc/self/status")
    if status.exists():
        # What getrusage reports may be of the program that started this one.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
