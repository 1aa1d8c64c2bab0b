"""The board from the log alone, and the view built anew beside the live one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flights.board import Board
from flights.events import FLIGHT_EVENTS
from flights.progress import Progress
from flights.projection import keep_board, read_board
from flights.replays import STREAM, ReplayFinished, ReplayStarted
from flights.view import open_view
from orkestra import Orkestra

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from orkestra import RecordedEvent


@dataclass(frozen=True)
class Rebuilt:
    board: Board
    seconds: float
    runtime: str
    """Who filled the store."""
    limit: int | None
    finished: bool


async def rebuild(store: str) -> Rebuilt | None:
    """Reads the whole log; nothing if no replay was begun in the store."""
    board = Board()
    app = Orkestra("flights", store=store)
    app.add_types(*FLIGHT_EVENTS, ReplayStarted, ReplayFinished)
    async with app:
        notes = [r.event async for r in app.store.read_stream(STREAM)]
        if not notes or not isinstance(notes[0], ReplayStarted):
            return None
        begun = time.perf_counter()
        log: AsyncIterator[RecordedEvent] = app.store.read_all(topics=["events.*"])
        async for recorded in log:
            board.count(recorded.event)
        seconds = time.perf_counter() - begun
    finished = isinstance(notes[-1], ReplayFinished)
    return Rebuilt(board, seconds, notes[0].runtime, notes[0].limit, finished)


async def rebuild_view(store: str) -> Rebuilt | None:
    """Builds the view anew and switches to it; nothing if there was no replay."""
    view = await open_view(store)
    try:
        app = Orkestra("flights", store=store)
        app.add_types(ReplayStarted, ReplayFinished)
        keep_board(app, view)
        async with app:
            notes = [r.event async for r in app.store.read_stream(STREAM)]
            if not notes or not isinstance(notes[0], ReplayStarted):
                return None
            begun = time.perf_counter()
            bar = Progress("rebuild", 1)
            async for progress in app.rebuild("board"):
                bar.reach(progress.position or 0, progress.head or 0)
            bar.end()
            seconds = time.perf_counter() - begun
            finished = isinstance(notes[-1], ReplayFinished)
            board = await read_board(view)
    finally:
        await view.close()
    return Rebuilt(board, seconds, notes[0].runtime, notes[0].limit, finished)
