"""Events per second that a projection takes into an SQL view: `projection.py SIDE`.

Batches of 1,000, and for each one transaction of the view's own with the view's
rows and the checkpoint. `eventsourcing-runner` is that library's documented way,
a transaction for each event; `eventsourcing` reads its log in sections and writes
rows and tracking itself, through its own recorder.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from _eventsourcing import Order, Shop, open_app
from _shop import payload
from _stores import eventsourcing as settings
from _timing import emit
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from psycopg.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

EVENTS = 50_000
RUNNER_EVENTS = 2_000
PER_STREAM = 100
BATCH = 1_000

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


class Board(PostgresTrackingRecorder):
    """The view's tables: its rows, and how far it is."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self.sql_create_statements.append(SQL(CREATE))

    def add(self, rows: Mapping[str, list[int]], tracking: Tracking) -> None:
        """Adds to the view and moves its checkpoint, in one transaction."""
        with self.datastore.transaction(commit=True) as cursor:
            cursor.execute(UPSERT, columns(rows), prepare=True)
            self._insert_tracking(cursor, tracking)

    def count(self) -> int:
        """Returns how many events are in the view."""
        with self.datastore.transaction(commit=False) as cursor:
            cursor.execute(COUNT)
            return cursor.fetchone()["events"]


class BoardProjection(Projection[Board]):
    """The documented way: called with each event."""

    name = "board"

    def process_event(self, event: Order.Event, tracking: Tracking) -> None:
        """Adds one event to the view."""
        self.view.add({str(event.originator_id): [1, event.quantity]}, tracking)


def fill(events: int) -> Shop:
    """Opens the shop with orders of 100 events."""
    app = open_app("postgres")
    for number in range(events // PER_STREAM):
        order = Order(**payload(number))
        for later in range(1, PER_STREAM):
            order.change(**payload(later))
        app.save(order)
    return app


def eventsourcing() -> float:
    """Sections of the notification log, mapped to domain events."""
    app = fill(EVENTS)
    board = app.factory.tracking_recorder(Board)
    start = time.perf_counter()
    first = 1
    while True:
        section = app.notification_log.select(first, BATCH)
        rows: dict[str, list[int]] = {}
        for notification in section:
            event = app.mapper.to_domain_event(notification)
            row = rows.setdefault(str(event.originator_id), [0, 0])
            row[0] += 1
            row[1] += event.quantity
        if section:
            board.add(rows, Tracking(app.name, section[-1].id))
        if len(section) < BATCH:
            break
        first = section[-1].id + 1
    seconds = time.perf_counter() - start
    assert board.count() == EVENTS
    app.close()
    return EVENTS / seconds


def eventsourcing_runner() -> float:
    """`ProjectionRunner`, until its view has the last event."""
    app = fill(RUNNER_EVENTS)
    last = app.recorder.max_notification_id()
    start = time.perf_counter()
    with ProjectionRunner(
        application_class=Shop,
        projection_class=BoardProjection,
        view_class=Board,
        env=settings("postgres", 5),
    ) as runner:
        runner.wait(last, timeout=60)
        seconds = time.perf_counter() - start
        assert runner.view.count() == RUNNER_EVENTS
    app.close()
    return RUNNER_EVENTS / seconds


SIDES: dict[str, Callable[[], float]] = {
    "eventsourcing": eventsourcing,
    "eventsourcing-runner": eventsourcing_runner,
}

if __name__ == "__main__":
    emit(SIDES[sys.argv[1]](), "events/s")
