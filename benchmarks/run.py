#!/usr/bin/env python3
"""Measures Orkestra beside its peers and judges the goals.

python benchmarks/run.py                    everything, 5 interleaved rounds
python benchmarks/run.py --only append      the rows whose id matches a pattern
python benchmarks/run.py --rounds 1 --peers the peers alone, quickly
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from harness import report
from harness.environment import BENCHMARKS, prepare
from harness.measure import measure
from harness.rows import ROWS

if TYPE_CHECKING:
    from pathlib import Path

    from harness.model import Row, Samples


def main() -> int:
    """Runs the chosen rows; returns 1 when a goal was missed or a side failed."""
    options = _options()
    rows = [
        row
        for row in ROWS
        if re.search(options.only, row.id) and row.large <= options.large
    ]
    if options.list:
        for row in rows:
            _say(f"{row.id:<24} {row.title}")
        return 0
    if not rows:
        sys.stderr.write(f"no row's id matches {options.only!r}; see --list\n")
        return 2
    if options.peers:
        rows = [_without_ours(row) for row in rows]
        rows = [row for row in rows if row.sides]
    environment = prepare(
        {side.runner for row in rows for side in row.sides},
        broker=any(row.broker for row in rows),
        database=any(row.database for row in rows),
    )
    results: list[tuple[Row, list[Samples]]] = []
    for row in rows:
        samples = measure(row, environment, options.rounds, _progress)
        _progress("")
        for line in report.lines(row, samples):
            _say(line)
        results.append((row, samples))
    path = BENCHMARKS / "results" / f"{options.save}.json"
    report.write(path, environment, options.rounds, results)
    return _summary(results, path)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only",
        default="",
        metavar="PATTERN",
        help="rows whose id matches the regular expression",
    )
    parser.add_argument("--rounds", type=int, default=5, help="values per side (5)")
    parser.add_argument("--peers", action="store_true", help="leave Orkestra out")
    parser.add_argument(
        "--large", action="store_true", help="the rows with 10 million events, too"
    )
    parser.add_argument("--list", action="store_true", help="print the rows and stop")
    parser.add_argument(
        "--save", default="latest", metavar="NAME", help="results/NAME.json (latest)"
    )
    return parser.parse_args()


def _without_ours(row: Row) -> Row:
    sides = tuple(side for side in row.sides if not side.ours)
    return replace(row, sides=sides, goals=())


def _summary(results: list[tuple[Row, list[Samples]]], path: Path) -> int:
    met = [
        verdict["met"]
        for row, samples in results
        for verdict in report.verdicts(row, samples)
        if verdict["sense"] is not None
    ]
    failed = [sample for _, samples in results for sample in samples if sample.problem]
    _say(
        f"\ngoals: {met.count(True)} met, {met.count(False)} NOT MET, "
        f"{met.count(None)} not measured; sides that did not run: {len(failed)}"
    )
    _say(f"results: {path}")
    return 1 if met.count(False) or failed else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
