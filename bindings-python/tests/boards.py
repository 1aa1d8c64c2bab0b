"""A view for the tests: how many were ordered, in a table, through any driver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orkestra._drivers import Dialect, Statement, Steps, run
from shop import OrderCancelled, OrderPlaced
from waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers import Driver
    from orkestra import Checkpoint, Handlers, Orkestra, Projection, RecordedEvent


class Board:
    """A projection into a table of each order's quantity, which fails on repetitions.

    Attributes:
        batches: For each call of the function the positions of its events.
        before_commit: Called after the checkpoint was saved, in the transaction.
    """

    def __init__(self, driver: Driver, url: str) -> None:
        self.driver = driver
        self.url = url
        self.batches: list[list[int]] = []
        self.replayed: list[bool] = []
        self.prepared: list[str] = []
        self.before_commit: Callable[[Checkpoint], None] = lambda _checkpoint: None

    def declare(
        self, app: Orkestra | Handlers, name: str = "board", **options: Any
    ) -> Projection:
        """Adds the projection to an app."""

        @app.projection(name, events=[OrderPlaced, OrderCancelled], **options)
        async def board(events: list[RecordedEvent], checkpoint: Checkpoint) -> None:
            self.batches.append([recorded.position for recorded in events])
            self.replayed.append(checkpoint.replaying)
            async with self.driver.transaction(self.url) as connection:
                for recorded in events:
                    await run(connection, self._count(recorded, checkpoint.suffix))
                await checkpoint.save(connection)
                self.before_commit(checkpoint)

        @board.prepare
        async def prepare(checkpoint: Checkpoint) -> None:
            self.prepared.append(checkpoint.suffix)
            table = f"board{checkpoint.suffix}"
            async with self.driver.transaction(self.url) as connection:
                if checkpoint.suffix:
                    await self.execute(connection, f"DROP TABLE IF EXISTS {table}")
                await self.execute(
                    connection,
                    f"CREATE TABLE IF NOT EXISTS {table} "
                    "(position bigint PRIMARY KEY, id text, quantity integer)",
                )

        @board.switch
        async def switch(checkpoint: Checkpoint) -> None:
            async with self.driver.transaction(self.url) as connection:
                await self.execute(connection, "DROP TABLE IF EXISTS board")
                await self.execute(
                    connection, "ALTER TABLE board_rebuild RENAME TO board"
                )
                await checkpoint.switch(connection)
                self.before_commit(checkpoint)

        return board

    def _count(self, recorded: RecordedEvent, suffix: str) -> Any:
        event = recorded.event
        quantity = getattr(event, "quantity", -1)

        def work(dialect: Dialect) -> Steps[None]:
            p = "$" if dialect == "postgres" else "?"
            yield Statement(
                f"INSERT INTO board{suffix} VALUES ({p}1, {p}2, {p}3)",
                (recorded.position, event.order_id, quantity),
            )

        return work

    async def execute(self, connection: Any, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a statement on the user's connection."""

        def work(_dialect: Dialect) -> Steps[list[tuple[Any, ...]]]:
            return (yield Statement(sql))

        return await run(connection, work)

    async def sql(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a statement in a transaction of its own."""
        async with self.driver.transaction(self.url) as connection:
            return await self.execute(connection, sql)

    async def rows(self) -> list[tuple[Any, ...]]:
        """The view: id and quantity, in the order of the log."""
        return await self.sql("SELECT id, quantity FROM board ORDER BY position")

    async def checkpoint(self, name: str = "shop.board") -> int | None:
        """Where the view says that it stands."""
        prefix = "orkestra." if self.driver.dialect == "postgres" else "orkestra_"
        rows = await self.sql(
            f"SELECT position FROM {prefix}view_checkpoints WHERE name = '{name}'"
        )
        return rows[0][0] if rows else None

    async def reaches(self, position: int) -> None:
        """Waits until the view says that it stands there."""

        async def stands_there() -> bool:
            return await self.checkpoint() == position

        await eventually(stands_there)
