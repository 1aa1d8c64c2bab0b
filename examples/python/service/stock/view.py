"""The stock as a table, kept by a projection through the service's own connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stock.aggregate import STOCK_EVENTS, StockReceived

if TYPE_CHECKING:
    from psycopg_pool import AsyncConnectionPool

    from orkestra import Checkpoint, Orkestra, RecordedEvent


def keep_stock(app: Orkestra, pool: AsyncConnectionPool) -> None:
    """Adds the projection: table ``stock``, a row for each sku."""

    @app.projection("stock", events=STOCK_EVENTS)
    async def stock(events: list[RecordedEvent], checkpoint: Checkpoint) -> None:
        async with pool.connection() as connection, connection.transaction():
            for recorded in events:
                event = recorded.event
                sign = 1 if isinstance(event, StockReceived) else -1
                await connection.execute(
                    f"INSERT INTO stock{checkpoint.suffix} AS s VALUES (%s, %s)"
                    " ON CONFLICT (sku) DO UPDATE"
                    " SET quantity = s.quantity + excluded.quantity",
                    (event.sku, sign * event.quantity),
                )
            await checkpoint.save(connection)

    @stock.prepare
    async def create(checkpoint: Checkpoint) -> None:
        table = f"stock{checkpoint.suffix}"
        async with pool.connection() as connection, connection.transaction():
            if checkpoint.suffix:
                await connection.execute(f"DROP TABLE IF EXISTS {table}")
            await connection.execute(
                f"CREATE TABLE IF NOT EXISTS {table}"
                " (sku text PRIMARY KEY, quantity bigint NOT NULL)"
            )

    @stock.switch
    async def rename(checkpoint: Checkpoint) -> None:
        async with pool.connection() as connection, connection.transaction():
            await connection.execute("DROP TABLE stock")
            await connection.execute("ALTER TABLE stock_rebuild RENAME TO stock")
            await checkpoint.switch(connection)


async def levels(pool: AsyncConnectionPool) -> dict[str, int]:
    """What the table says."""
    async with pool.connection() as connection:
        rows = await connection.execute("SELECT sku, quantity FROM stock ORDER BY sku")
        return dict(await rows.fetchall())
