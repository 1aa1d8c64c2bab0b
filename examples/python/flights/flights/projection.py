"""The board as a table, which a projection keeps beside its own checkpoint."""

from __future__ import annotations

from dataclasses import astuple, fields
from typing import TYPE_CHECKING

from flights.board import Board, Tally
from flights.events import FLIGHT_EVENTS

if TYPE_CHECKING:
    from flights.view import View
    from orkestra import Checkpoint, Orkestra, RecordedEvent

COLUMNS = [field.name for field in fields(Tally)]
TABLE = ", ".join(f"{name} bigint NOT NULL" for name in COLUMNS)
MARKS = ", ".join("?" for _ in COLUMNS)
ADD = ", ".join(f"{name} = b.{name} + excluded.{name}" for name in COLUMNS)


def keep_board(app: Orkestra, view: View) -> None:
    """Adds the projection to an app."""

    @app.projection("board", events=FLIGHT_EVENTS, batch_size=2000)
    async def board(events: list[RecordedEvent], checkpoint: Checkpoint) -> None:
        news = Board()
        for recorded in events:
            news.count(recorded.event)
        async with view.transaction() as transaction:
            await transaction.execute(
                f"INSERT INTO board{checkpoint.suffix} AS b VALUES (?, ?, {MARKS})"
                f" ON CONFLICT (kind, name) DO UPDATE SET {ADD}",
                [(kind, name, *astuple(tally)) for kind, name, tally in news.tallies()],
            )
            await checkpoint.save(transaction.connection)

    @board.prepare
    async def create(checkpoint: Checkpoint) -> None:
        table = f"board{checkpoint.suffix}"
        async with view.transaction() as transaction:
            if checkpoint.suffix:
                # What a rebuild left that came to no end.
                await transaction.execute(f"DROP TABLE IF EXISTS {table}")
            await transaction.execute(
                f"CREATE TABLE IF NOT EXISTS {table}"
                f" (kind text, name text, {TABLE}, PRIMARY KEY (kind, name))"
            )

    @board.switch
    async def rename(checkpoint: Checkpoint) -> None:
        async with view.transaction() as transaction:
            await transaction.execute("DROP TABLE board")
            await transaction.execute("ALTER TABLE board_rebuild RENAME TO board")
            await checkpoint.switch(transaction.connection)


async def read_board(view: View) -> Board:
    """What the table says."""
    board = Board()
    async with view.transaction() as transaction:
        rows = await transaction.fetch("SELECT * FROM board")
    for kind, name, *counts in rows:
        board.take(kind, name, Tally(*counts))
    return board
