"""The view of `projection.py`: a row for each stream. Every side runs the same SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PER_STREAM = 100

CREATE = """
    CREATE TABLE board (
        stream text PRIMARY KEY, events bigint NOT NULL, quantity bigint NOT NULL
    )"""
UPSERT = """
    INSERT INTO board SELECT * FROM unnest(%s::text[], %s::bigint[], %s::bigint[])
    ON CONFLICT (stream) DO UPDATE SET
        events = board.events + excluded.events,
        quantity = board.quantity + excluded.quantity"""
COUNT = "SELECT sum(events)::bigint AS events FROM board"


def columns(rows: Mapping[str, list[int]]) -> tuple[list[object], ...]:
    """Returns the parameters of `UPSERT`."""
    counts = rows.values()
    events, quantities = [row[0] for row in counts], [row[1] for row in counts]
    return list(rows), events, quantities
