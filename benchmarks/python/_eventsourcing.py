"""The shop written with `eventsourcing`, on SQLite, as its documentation does.

Its defaults stay: JSON transcoder of the standard library, no compression, no
cache, a pool of 5 connections. It sets WAL itself and leaves `synchronous` at
SQLite's own default, which `open_app` checks to be FULL, as ours is.
"""

from __future__ import annotations

from uuid import UUID

from _timing import work_file
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

FULL = 2


class Order(Aggregate):
    """An order with a list of notes that grows by one per command."""

    @event("Placed")
    def __init__(
        self, order_id: str, product_id: str, quantity: int, notes: str
    ) -> None:
        self.order_id = order_id
        self.product_id = product_id
        self.quantity = quantity
        self.notes = notes
        self.total = quantity

    @event("Changed")
    def change(self, order_id: str, product_id: str, quantity: int, notes: str) -> None:
        """Adds `quantity` to the total."""
        self.total += quantity


class Shop(Application[UUID]):
    """The application; sections as long as a reader of a whole log would ask."""

    log_section_size = 1_000


def open_app() -> Shop:
    """Opens the shop in this process's folder and checks its durability."""
    app = Shop(
        env={
            "PERSISTENCE_MODULE": "eventsourcing.sqlite",
            "SQLITE_DBNAME": str(work_file("eventsourcing.db")),
            "SQLITE_LOCK_TIMEOUT": "30",
        }
    )
    with app.recorder.datastore.transaction(commit=False) as cursor:
        cursor.execute("PRAGMA synchronous")
        assert cursor.fetchone()[0] == FULL
        cursor.execute("PRAGMA journal_mode")
        assert cursor.fetchone()[0] == "wal"
    return app
