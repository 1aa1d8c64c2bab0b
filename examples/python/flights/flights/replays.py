"""What the demo notes about itself in the store, beside the flights."""

from __future__ import annotations

from orkestra import Event

STREAM = "replay"


class ReplayStarted(Event):
    """A store is about to be filled: by whom, with how many rows (none: all)."""

    runtime: str
    limit: int | None


class ReplayFinished(Event):
    """Every row was replayed."""

    rows: int
