"""Medians, ratios and verdicts, as text for people and JSON for programs."""

from __future__ import annotations

import json
import os
import platform
import statistics
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.environment import Environment
    from harness.model import Goal, Row, Samples


_WHAT = {"value": "", "rss_mib": " peak memory, MiB"}


def lines(row: Row, samples: list[Samples]) -> Iterator[str]:
    """Yields the text of one row: a line per side, then a line per goal."""
    yield f"\n{row.title}  [{row.id}]"
    for sample in samples:
        yield f"  {sample.side.label:<24} {_side(sample)}"
    for goal in row.goals:
        yield f"  -> {_goal_text(goal, samples)}"
    if row.note:
        yield f"     {row.note}"


def verdicts(row: Row, samples: list[Samples]) -> list[dict[str, object]]:
    """Returns each goal of the row with its ratio or value and whether it is met."""
    return [
        {
            "of": goal.of,
            "against": goal.against,
            "measure": goal.measure,
            "sense": goal.sense,
            "bound": goal.bound if goal.sense else None,
            "reached": reached,
            "met": _met(goal, reached),
        }
        for goal in row.goals
        for reached in [_reached(goal, samples)]
    ]


def write(
    path: Path,
    environment: Environment,
    rounds: int,
    results: list[tuple[Row, list[Samples]]],
) -> None:
    """Writes every sample, median and verdict to `path` as JSON."""
    document = {
        "taken_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "rounds": rounds,
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "system": platform.platform(),
        },
        "orkestra": environment.ours,
        "rows": [
            {
                "id": row.id,
                "title": row.title,
                "note": row.note,
                "sides": [_side_json(sample) for sample in samples],
                "goals": verdicts(row, samples),
            }
            for row, samples in results
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def _side(sample: Samples) -> str:
    if sample.problem is not None:
        return f"not measured: {sample.problem}"
    middle = statistics.median(sample.values)
    spread = (max(sample.values) - min(sample.values)) / middle if middle else 0.0
    rss = statistics.median(sample.rss_mib)
    figure = f"{_number(middle):>10} {sample.unit:<10}"
    return f"{figure} spread {spread:>4.0%}  rss {rss:.0f} MiB"


def _side_json(sample: Samples) -> dict[str, object]:
    return {
        "label": sample.side.label,
        "unit": sample.unit,
        "median": statistics.median(sample.values) if sample.values else None,
        "values": sample.values,
        "rss_mib": sample.rss_mib,
        "details": sample.details,
        "problem": sample.problem,
    }


def _goal_text(goal: Goal, samples: list[Samples]) -> str:
    what = goal.of + _WHAT.get(goal.measure, f" {goal.measure}")
    name = what if goal.against is None else f"{what} / {goal.against}"
    reached = _reached(goal, samples)
    if reached is None:
        aim = f" (goal: {goal.sense} {_number(goal.bound)})" if goal.sense else ""
        return f"{name}: not measured{aim}"
    value = _number(reached) if goal.against is None else f"{reached:.2f}x"
    value += _range(goal, samples)
    if goal.sense is None:
        return f"{name}: {value}"
    verdict = "met" if _met(goal, reached) else "NOT MET"
    return f"{name}: {value} (goal: {goal.sense} {_number(goal.bound)}) {verdict}"


def _reached(goal: Goal, samples: list[Samples]) -> float | None:
    of = _median(goal.of, goal, samples)
    if of is None or goal.against is None:
        return of
    against = _median(goal.against, goal, samples)
    return of / against if against else None


def _range(goal: Goal, samples: list[Samples]) -> str:
    """The ratio's extremes over the rounds: what neighbours in time gave."""
    if goal.against is None:
        return ""
    of = _of(goal.of, samples).of(goal.measure)
    against = _of(goal.against, samples).of(goal.measure)
    ratios = [a / b for a, b in zip(of, against, strict=False) if b]
    if len(ratios) < 2:
        return ""
    return f" [{min(ratios):.2f} to {max(ratios):.2f}]"


def _median(label: str, goal: Goal, samples: list[Samples]) -> float | None:
    sample = _of(label, samples)
    if sample.problem is not None or not sample.values:
        return None
    return statistics.median(sample.of(goal.measure))


def _of(label: str, samples: list[Samples]) -> Samples:
    return next(sample for sample in samples if sample.side.label == label)


def _met(goal: Goal, reached: float | None) -> bool | None:
    if goal.sense is None or reached is None:
        return None
    return reached <= goal.bound if goal.sense == "at most" else reached >= goal.bound


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    names = [line for line in text.splitlines() if line.startswith("model name")]
    return names[0].split(":", 1)[1].strip() if names else platform.processor()
