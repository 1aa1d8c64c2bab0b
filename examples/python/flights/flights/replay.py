"""Every row as commands to its aircraft, and a board kept by a projection."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flights.aircraft import Aircraft
from flights.commands import stream_of
from flights.progress import Progress
from flights.projection import keep_board, read_board
from flights.replays import STREAM, ReplayFinished, ReplayStarted
from flights.rows import ROWS, commands, rows
from flights.view import open_view
from orkestra import Orkestra

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flights.board import Board
    from flights.rows import Row
    from flights.view import View


@dataclass(frozen=True)
class Replayed:
    board: Board
    rows: int
    events: int
    seconds: float
    """From the first command to the board's last event."""


async def replay(
    data: Path, store: str, *, limit: int | None, in_flight: int
) -> Replayed:
    """Fills an empty store; `in_flight` rows at once share transactions."""
    view = await open_view(store)
    try:
        return await _replay(data, store, view, limit, in_flight)
    finally:
        await view.close()


async def _replay(
    data: Path, store: str, view: View, limit: int | None, in_flight: int
) -> Replayed:
    app = Orkestra("flights", store=store)
    app.add_aggregate(Aircraft, concurrency=in_flight)
    keep_board(app, view)

    async with app:
        started = ReplayStarted(runtime="python", limit=limit)
        await app.store.append(STREAM, [started], expected="no_stream")
        begun = time.perf_counter()
        total = ROWS if limit is None else min(limit, ROWS)
        progress = Progress("replay", total)
        done = _Rows(app, rows(data, limit), progress)
        await done.all(in_flight)
        progress.end()
        await app.caught_up("board", await app.store.head() or 0)
        seconds = time.perf_counter() - begun
        finished = ReplayFinished(rows=progress.done)
        await app.store.append(STREAM, [finished], expected=0)
    board = await read_board(view)
    return Replayed(board, progress.done, done.events, seconds)


class _Rows:
    """Rows on their way, shared by the workers that take them."""

    def __init__(
        self, app: Orkestra, source: Iterator[Row], progress: Progress
    ) -> None:
        self._app = app
        self._source = source
        self._progress = progress
        self._order: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._revisions: dict[str, int] = {}

    @property
    def events(self) -> int:
        """How many events the streams hold."""
        return sum(self._revisions.values()) + len(self._revisions)

    async def all(self, workers: int) -> None:
        tasks = [asyncio.create_task(self._work()) for _ in range(workers)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _work(self) -> None:
        for row in self._source:
            wanted = commands(row)
            stream = stream_of(wanted[0])
            # Those who wait for a lock get it in order: so do the rows of an aircraft.
            async with self._order[stream]:
                for command in wanted:
                    answer = await self._app.dispatch(command)
                    if (revision := answer["revision"]) is not None:
                        self._revisions[stream] = revision
            self._progress.step()
