"""The view of `projection.py` written with `eventsourcing`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from _board import COUNT, CREATE, PER_STREAM, UPSERT, columns
from _eventsourcing import Order, Shop, open_app
from _shop import payload
from _stores import eventsourcing as settings
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from psycopg.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Mapping


class Board(PostgresTrackingRecorder):
    """The view's tables: its rows, and how far it is."""

    begun = 0.0
    """When the first of its transactions was over, as for the other side."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self.sql_create_statements.append(SQL(CREATE))

    def add(self, rows: Mapping[str, list[int]], tracking: Tracking) -> None:
        """Adds to the view and moves its checkpoint, in one transaction."""
        with self.datastore.transaction(commit=True) as cursor:
            cursor.execute(UPSERT, columns(rows), prepare=True)
            self._insert_tracking(cursor, tracking)
        self.begun = self.begun or time.perf_counter()

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


def in_sections(events: int, batch: int) -> float:
    """Events per second: sections of the notification log, mapped to domain events."""
    app = fill(events)
    board = app.factory.tracking_recorder(Board)
    first = 1
    while True:
        section = app.notification_log.select(first, batch)
        rows: dict[str, list[int]] = {}
        for notification in section:
            event = app.mapper.to_domain_event(notification)
            row = rows.setdefault(str(event.originator_id), [0, 0])
            row[0] += 1
            row[1] += event.quantity
        if section:
            board.add(rows, Tracking(app.name, section[-1].id))
        if len(section) < batch:
            break
        first = section[-1].id + 1
    seconds = time.perf_counter() - board.begun
    assert board.count() == events
    app.close()
    return (events - batch) / seconds


def with_runner(events: int) -> float:
    """Events per second: `ProjectionRunner`, until its view has the last event."""
    app = fill(events)
    last = app.recorder.max_notification_id()
    with ProjectionRunner(
        application_class=Shop,
        projection_class=BoardProjection,
        view_class=Board,
        env=settings("postgres", 5),
    ) as runner:
        runner.wait(last, timeout=60)
        seconds = time.perf_counter() - runner.view.begun
        assert runner.view.count() == events
    app.close()
    return (events - 1) / seconds
