"""The shop written with `eventsourcing`, as its documentation does.

Its defaults stay: JSON transcoder of the standard library, no compression, no
cache. On SQLite it sets WAL itself and leaves `synchronous` at SQLite's own
default, which `open_app` checks to be FULL, as ours is; on PostgreSQL it locks
its table for writers until the commit, so that no reader misses an event, and
has as many connections as there are writers.
"""

from __future__ import annotations

from uuid import UUID

from _stores import eventsourcing
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


def open_app(store: str = "sqlite", connections: int = 5) -> Shop:
    """Opens the shop on `store` and checks its durability."""
    app = Shop(env=eventsourcing(store, connections))
    with app.recorder.datastore.transaction(commit=False) as cursor:
        if store == "sqlite":
            cursor.execute("PRAGMA synchronous")
            assert cursor.fetchone()[0] == FULL
            cursor.execute("PRAGMA journal_mode")
            assert cursor.fetchone()[0] == "wal"
        else:
            cursor.execute("SHOW synchronous_commit")
            assert cursor.fetchone()["synchronous_commit"] == "on"
    return app
