"""Projections from Python: views in the user's own database, through every driver."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from boards import Board
from drivers import DRIVERS, SQLITE, Driver, seems_open_on
from orkestra import Checkpoint, Handlers, Orkestra, RecordedEvent, RetryPolicy
from orkestra.errors import (
    CheckpointMismatchError,
    DuplicateHandlerNameError,
    InvalidConnectionError,
    InvalidHandlerError,
    NoSwitchError,
    StoreFileError,
    SubscriptionStoppedError,
    UnknownProjectionError,
)
from orkestra.testing import TestApp
from postgres import Database
from shop import OrderCancelled, OrderPlaced
from waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EACH = pytest.mark.parametrize("driver", DRIVERS, ids=lambda d: d.name)
LITE = next(driver for driver in SQLITE if driver.name == "sqlite3")
NO_WAIT = RetryPolicy(initial=0.001, max_delay=0.002)


@pytest.fixture
def driver() -> Driver:
    """The driver of the tests that are not about drivers."""
    return LITE


@pytest.fixture
def url(driver: Driver, tmp_path: Path) -> Iterator[str]:
    """An empty database for views."""
    if driver.dialect == "sqlite":
        yield str(tmp_path / "view.db")
        return
    database = Database()
    yield database.url
    database.drop()


@pytest.fixture
def board(driver: Driver, url: str) -> Board:
    return Board(driver, url)


def placed(n: int) -> OrderPlaced:
    return OrderPlaced(order_id=f"o-{n}", quantity=n)


def wanted(*numbers: int) -> list[tuple[str, int]]:
    return [(f"o-{n}", n) for n in numbers]


async def append(app: Orkestra, *numbers: int) -> int:
    done = await app.store.append("orders", [placed(n) for n in numbers])
    assert done.position is not None
    return done.position


@EACH
async def test_view_and_checkpoint_commit_together(
    driver: Driver, board: Board, sqlite: str
) -> None:
    app = Orkestra("shop", store=sqlite)
    board.declare(app)
    async with app:
        position = await append(app, 1, 2, 3)
        await app.caught_up("board", position)
        assert await board.rows() == wanted(1, 2, 3)
        assert await board.checkpoint() == position
        position = await append(app, 4)
        await app.caught_up("board", position)
        assert await board.rows() == wanted(1, 2, 3, 4)
        assert await board.checkpoint() == position


@EACH
async def test_e12_a_rollback_delivers_again(
    driver: Driver, board: Board, sqlite: str
) -> None:
    app = Orkestra("shop", store=sqlite)
    board.declare(app, retry=NO_WAIT)
    fails = iter([True, True, False])

    def fail(_checkpoint: Checkpoint) -> None:
        if next(fails, False):
            raise ValueError

    board.before_commit = fail
    async with app:
        position = await append(app, 1, 2)
        await app.caught_up("board", position)
        assert await board.rows() == wanted(1, 2)
        assert await board.checkpoint() == position
    assert board.batches == [board.batches[-1]] * 3


@EACH
async def test_a_rollback_that_nobody_hears_of_delivers_again(
    driver: Driver, board: Board, sqlite: str
) -> None:
    app = Orkestra("shop", store=sqlite)
    again = asyncio.Event()
    calls = 0

    @app.projection("board", events=[OrderPlaced])
    async def view(events: list[RecordedEvent], checkpoint: Checkpoint) -> None:
        nonlocal calls
        calls += 1
        with contextlib.suppress(KeyError):
            async with driver.transaction(board.url) as connection:
                for recorded in events:
                    await board.execute(
                        connection,
                        f"INSERT INTO board VALUES ({recorded.position}, 'o', 1)",
                    )
                await checkpoint.save(connection)
                if calls == 2:
                    # The transaction rolls back and the function returns all the same.
                    raise KeyError
        if calls > 2:
            again.set()

    @view.prepare
    async def prepare(_checkpoint: Checkpoint) -> None:
        await board.sql(
            "CREATE TABLE IF NOT EXISTS board (position bigint PRIMARY KEY,"
            " id text, quantity integer)"
        )

    async with app:
        await app.caught_up("board", await append(app, 1))
        await app.caught_up("board", await append(app, 2))
        assert len(await board.rows()) == 1
        # The next save finds out, and the lost one comes again.
        position = await append(app, 3)
        await again.wait()
        await board.reaches(position)
        assert len(await board.rows()) == 3


@EACH
async def test_a_stale_owner_cannot_save(
    driver: Driver, board: Board, sqlite: str
) -> None:
    app = Orkestra("shop", store=sqlite)
    board.declare(app, retry=NO_WAIT)
    held = asyncio.Event()
    go_on = asyncio.Event()
    seen: list[BaseException] = []

    @app.projection("slow", events=[OrderPlaced])
    async def slow(events: list[RecordedEvent], checkpoint: Checkpoint) -> None:
        held.set()
        await go_on.wait()
        try:
            async with driver.transaction(board.url) as connection:
                await checkpoint.save(connection)
        except BaseException as error:
            seen.append(error)
            raise

    async with app:
        position = await append(app, 1)
        await app.caught_up("board", position)
        await held.wait()
        # Another process has gone on meanwhile.
        table = "orkestra.view_checkpoints"
        if driver.dialect == "sqlite":
            table = table.replace(".", "_")
        await board.sql(
            f"INSERT INTO {table} SELECT 'shop.slow', position, 99, saved_at "
            f"FROM {table} WHERE name = 'shop.board'"
        )
        go_on.set()
        await eventually(lambda: seen)
    assert type(seen[0]).__name__ == "StaleLeaseError"
    assert (seen[0].current, seen[0].name) == (99, "shop.slow")  # type: ignore[attr-defined]


@EACH
async def test_a_restored_view_gets_what_it_lost(
    driver: Driver, board: Board, sqlite: str
) -> None:
    app = Orkestra("shop", store=sqlite)
    board.declare(app, batch_size=2)
    async with app:
        first = await append(app, 1, 2)
        await app.caught_up("board", first)
        await app.caught_up("board", await append(app, 3, 4))
        assert await board.rows() == wanted(1, 2, 3, 4)
        # A backup of the view is put back.
        table = "orkestra.view_checkpoints"
        if driver.dialect == "sqlite":
            table = table.replace(".", "_")
        await board.sql(f"DELETE FROM board WHERE position > {first}")
        await board.sql(f"UPDATE {table} SET position = {first}")
        last = await append(app, 5)
        await board.reaches(last)
        assert await board.rows() == wanted(1, 2, 3, 4, 5)


@EACH
async def test_a_rebuild_takes_the_live_views_place(
    driver: Driver, board: Board, sqlite: str
) -> None:
    app = Orkestra("shop", store=sqlite)
    board.declare(app, batch_size=10)
    async with app:
        await app.caught_up("board", await append(app, *range(25)))
        await board.sql("UPDATE board SET quantity = 0")

        seen = [progress async for progress in app.rebuild("board")]

        assert await board.rows() == wanted(*range(25))
        assert [progress.handled for progress in seen] == [10, 20, 25, 25]
        assert seen[-1].caught_up is True
        assert seen[-1].position == seen[-1].head == await app.store.head()
        assert board.prepared.count("_rebuild") == 1
        assert await board.checkpoint("shop.board_rebuild") is None
        position = await append(app, 25)
        await app.caught_up("board", position)
        assert await board.rows() == wanted(*range(26))
        assert await board.checkpoint() == position


@EACH
async def test_a_switch_that_rolls_back_leaves_the_live_view(
    driver: Driver, board: Board, sqlite: str
) -> None:
    app = Orkestra("shop", store=sqlite)
    board.declare(app)

    def refuse(checkpoint: Checkpoint) -> None:
        if checkpoint.position is None:
            raise ValueError("not now")

    async with app:
        await app.caught_up("board", await append(app, 1, 2))
        board.before_commit = refuse
        with pytest.raises(ValueError, match="not now"):
            await app.rebuild("board")
        assert await board.rows() == wanted(1, 2)
        board.before_commit = lambda _checkpoint: None
        await app.caught_up("board", await append(app, 3))
        assert await board.rows() == wanted(1, 2, 3)

        progress = await app.rebuild("board", resume=True)

        assert progress.caught_up is True
        assert await board.rows() == wanted(1, 2, 3)


async def test_a_poison_event_is_found_and_parked(board: Board) -> None:
    app = TestApp("shop")
    declared = board.declare(app, max_retries=0)
    inner = declared._function

    async def picky(events: list[RecordedEvent], checkpoint: Checkpoint) -> None:
        if any(recorded.event == placed(2) for recorded in events):
            raise ValueError("two")
        await inner(events, checkpoint)

    declared._function = picky
    async with app:
        position = await append(app, 1, 2, 3)
        await app.caught_up("board", position)
        assert await board.rows() == wanted(1, 3)
        page = await app.dead_letters.list()
        letter = page.items[0]
        assert (letter.handler, letter.reason) == ("shop.board", "retries_exhausted")
        assert letter.requeueable is False
        assert app.buried[0].id == letter.id


async def test_poison_can_be_skipped_or_stop_the_projection() -> None:
    app = TestApp("shop")
    seen: list[int] = []

    @app.projection("skips", events=OrderPlaced, poison="skip", max_retries=0)
    async def skips(events: list[RecordedEvent], _checkpoint: Checkpoint) -> None:
        if any(recorded.event == placed(1) for recorded in events):
            raise ValueError
        seen.extend(recorded.event.quantity for recorded in events)

    @app.projection("stops", events=OrderPlaced, poison="stop", max_retries=0)
    async def stops(events: list[RecordedEvent], _checkpoint: Checkpoint) -> None:
        if any(recorded.event == placed(1) for recorded in events):
            raise ValueError

    async with app:
        position = await append(app, 0, 1, 2)
        await app.caught_up("skips", position)
        assert seen == [0, 2]
        # Who waits is told at once, without a limit of time that would end it.
        with pytest.raises(SubscriptionStoppedError):
            await app.caught_up("stops", position)
        with pytest.raises(SubscriptionStoppedError):
            await app.caught_up("stops", position)
        states = {state.name: state for state in await app.projections()}
        assert states["stops"].running is False
        assert "stopped at position" in str(states["stops"].stopped)
        assert states["skips"].running is True
        assert (await app.health()).ok is False


async def test_what_is_away_is_waited_for(board: Board) -> None:
    app = TestApp("shop")
    board.declare(app, max_retries=0)
    calls = 0

    def away(_checkpoint: Checkpoint) -> None:
        nonlocal calls
        calls += 1
        if calls < 6:
            raise ConnectionError("away")

    board.before_commit = away
    async with app:
        position = await append(app, 1)
        waiting = asyncio.ensure_future(app.caught_up("board", position))
        await eventually(lambda: app.clock.next_wake() is not None)
        [state] = await app.projections()
        assert (state.error, state.running) == ("away", True)

        def is_over() -> bool:
            if app.clock.next_wake() is not None:
                app.advance(0.1)
            return waiting.done()

        await eventually(is_over)
        await waiting
        [state] = await app.projections()
        assert state.error is None
        assert await board.rows() == wanted(1)
        assert (await app.dead_letters.list()).total == 0
    assert calls == 6


async def test_states_tell_how_far_it_is(board: Board, sqlite: str) -> None:
    app = Orkestra("shop", store=sqlite)
    board.declare(app)
    [state] = await app.projections()
    assert (state.name, state.position, state.head, state.lag) == (
        "board",
        None,
        None,
        0,
    )
    assert (state.running, state.rebuilding, state.stopped) == (False, False, None)
    position = await append(app, 1, 2)
    [state] = await app.projections()
    assert (state.head, state.lag) == (position, position)
    async with app:
        await app.caught_up("board", position)
        [state] = await app.projections()
        assert (state.position, state.lag, state.running) == (position, 0, True)
        assert state.replaying is True
        health = await app.health()
        assert health.ok is True
        assert [found.name for found in health.projections] == ["board"]
        position = await append(app, 3)
        await app.caught_up("board", position)
        [state] = await app.projections()
        assert state.replaying is False
    assert board.replayed == [True, False]


def test_a_function_that_is_not_async_runs_on_a_thread(url: str) -> None:
    app = Orkestra("shop", store="memory:")
    threads: list[threading.Thread] = []

    @app.projection("board", events=[OrderPlaced])
    def board(events: list[RecordedEvent], checkpoint: Checkpoint) -> None:
        threads.append(threading.current_thread())
        with closing(sqlite3.connect(url)) as connection, connection:
            for recorded in events:
                connection.execute(
                    f"INSERT INTO board{checkpoint.suffix} VALUES (?, ?)",
                    (recorded.event.order_id, recorded.event.quantity),
                )
            checkpoint.save(connection)

    @board.prepare
    def prepare(checkpoint: Checkpoint) -> None:
        with closing(sqlite3.connect(url)) as connection, connection:
            table = f"board{checkpoint.suffix}"
            connection.execute(f"DROP TABLE IF EXISTS {table}")
            connection.execute(f"CREATE TABLE {table} (id text, quantity integer)")

    @board.switch
    def switch(checkpoint: Checkpoint) -> None:
        with closing(sqlite3.connect(url)) as connection, connection:
            connection.execute("DROP TABLE board")
            connection.execute("ALTER TABLE board_rebuild RENAME TO board")
            checkpoint.switch(connection)

    with app:
        done = app.store.append("orders", [placed(1), placed(2)]).wait()
        assert done.position is not None
        app.caught_up("board", done.position).wait()
        with closing(sqlite3.connect(url)) as connection:
            found = connection.execute("SELECT * FROM board").fetchall()
        assert found == wanted(1, 2)
        progress = app.rebuild("board").wait(20)
        assert progress.handled == 2
        with closing(sqlite3.connect(url)) as connection:
            found = connection.execute("SELECT * FROM board").fetchall()
        assert found == wanted(1, 2)
    assert threading.main_thread() not in threads


async def test_an_object_with_an_async_call_is_awaited(tmp_path: Path) -> None:
    path = str(tmp_path / "view.db")
    app = Orkestra("shop", store="memory:")
    threads: list[threading.Thread] = []

    class Reports:
        async def __call__(
            self, _events: list[RecordedEvent], checkpoint: Checkpoint
        ) -> None:
            threads.append(threading.current_thread())
            async with _ASYNC.transaction(path) as connection:
                await checkpoint.save(connection)

    app.projection("reports", events=[OrderPlaced], max_retries=0)(Reports())
    async with app:
        await app.caught_up("reports", await append(app, 1))
        assert (await app.dead_letters.list()).total == 0
    assert threads == [threading.current_thread()]


async def test_who_waits_for_a_projection_that_stops_is_told() -> None:
    app = Orkestra("shop", store="memory:")
    go_on = asyncio.Event()

    @app.projection("stops", events=OrderPlaced, poison="stop", max_retries=0)
    async def stops(_events: list[RecordedEvent], _checkpoint: Checkpoint) -> None:
        await go_on.wait()
        raise ValueError("no")

    async with app:
        position = await append(app, 1)
        waiting = asyncio.ensure_future(app.caught_up("stops", position, timeout=1e6))
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(SubscriptionStoppedError, match="no"):
            await waiting


async def test_a_function_that_saves_nothing_gets_each_event_at_least_once(
    sqlite: str,
) -> None:
    async def once(numbers: list[int]) -> list[int]:
        seen: list[int] = []
        app = Orkestra("shop", store=sqlite)

        @app.projection("index", events=[OrderPlaced])
        async def index(events: list[RecordedEvent], checkpoint: Checkpoint) -> None:
            # A search engine takes the position as the version of its document.
            assert checkpoint.position is not None
            seen.extend(recorded.event.quantity for recorded in events)

        async with app:
            await app.caught_up("index", await append(app, *numbers))
        return seen

    assert await once([1, 2]) == [1, 2]
    assert await once([3]) == [3]


async def test_events_topics_and_streams_choose(sqlite: str) -> None:
    app = Orkestra("shop", store=sqlite)
    seen: dict[str, list[str]] = {}

    def remember(name: str, **options: Any) -> None:
        @app.projection(name, **options)
        async def view(events: list[RecordedEvent], _checkpoint: Checkpoint) -> None:
            seen.setdefault(name, []).extend(recorded.type for recorded in events)

    remember("all", topics="#")
    remember("placed", events=[OrderPlaced])
    remember("cancelled", topics="order_cancelled")
    remember("both", events=OrderPlaced, topics=["order_cancelled"])
    remember("a", topics="#", stream_prefix="a-")
    async with app:
        await app.store.append("a-1", [placed(1)])
        done = await app.store.append("b-1", [OrderCancelled(order_id="o")])
        assert done.position is not None
        for name in ("all", "placed", "cancelled", "both", "a"):
            await app.caught_up(name, done.position)
    one, two = "Shop.OrderPlaced", "Shop.OrderCancelled"
    assert seen == {
        "all": [one, two],
        "placed": [one],
        "cancelled": [two],
        "both": [one, two],
        "a": [one],
    }


async def test_a_group_declares_projections(board: Board) -> None:
    group = Handlers()
    board.declare(group)
    assert "board" in repr(group)
    async with Orkestra("shop", store="memory:").include(group) as app:
        await app.caught_up("board", await append(app, 1))
    assert await board.rows() == wanted(1)


async def test_the_stores_own_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    app = Orkestra("shop", store=f"sqlite:{path}")
    refused: list[StoreFileError] = []
    done = asyncio.Event()

    @app.projection("board", events=[OrderPlaced], max_retries=0, poison="skip")
    async def board(_events: list[RecordedEvent], checkpoint: Checkpoint) -> None:
        with seems_open_on(path) as connection:
            try:
                await checkpoint.save(connection)
            except StoreFileError as error:
                refused.append(error)
        done.set()

    async with app:
        await append(app, 1)
        await done.wait()
    assert [error.path.rpartition("/")[2] for error in refused] == ["elsewhere.db"]


async def test_mistakes_are_named(board: Board, url: str) -> None:
    app = TestApp("shop")

    @app.projection("forgets", events=[OrderPlaced], max_retries=0)
    async def forgets(_events: list[RecordedEvent], checkpoint: Checkpoint) -> None:
        async with Board(_ASYNC, url).driver.transaction(url) as connection:
            unawaited = checkpoint.save(connection)
        unawaited.close()  # type: ignore[attr-defined]

    @app.projection("blocks", events=[OrderPlaced], max_retries=0)
    def blocks(_events: list[RecordedEvent], checkpoint: Checkpoint) -> None:
        async def connect() -> Any:
            async with _ASYNC.transaction(url) as connection:
                return connection

        checkpoint.save(asyncio.run(connect()))

    async with app:
        position = await append(app, 1)
        await app.caught_up("forgets", position)
        await app.caught_up("blocks", position)
        letters = {x.handler: x.errors[0] for x in app.buried}
    assert "not awaited" in letters["shop.forgets"]["message"]
    assert letters["shop.blocks"]["type"].endswith(InvalidConnectionError.__name__)
    assert "not async" in letters["shop.blocks"]["message"]

    app = TestApp("shop")
    board.declare(app)
    with pytest.raises(DuplicateHandlerNameError):
        board.declare(app)
    with pytest.raises(DuplicateHandlerNameError):

        @app.event_handler(OrderPlaced, name="board")
        async def other(event: OrderPlaced) -> None: ...

    wrong: list[dict[str, Any]] = [
        {"batch_size": 0},
        {"poison": "ignore"},
        {"topics": "#"},
    ]
    for options in wrong:
        with pytest.raises(InvalidHandlerError) as invalid:
            app.projection("x", **options)(lambda _events: None)
        assert invalid.value.handler == "x"
    for name, reason in (("", "a name"), ("a_rebuild", "end in"), ("x", "no event")):
        with pytest.raises(InvalidHandlerError, match=reason):
            app.projection(name)(forgets._function)
    with pytest.raises(UnknownProjectionError):
        app.rebuild("nothing")

    app.projection("plain", topics="#")(forgets._function)
    with pytest.raises(NoSwitchError) as no_switch:
        await app.rebuild("plain")
    assert no_switch.value.name == "shop.plain"
    checkpoint = Checkpoint("x", "", replaying=False, is_async=True, store_files=[])
    with pytest.raises(InvalidHandlerError, match="nothing to save"):
        await checkpoint.save(None)
    with pytest.raises(InvalidHandlerError, match="nothing to switch"):
        await checkpoint.switch(None)
    await app.close()


_ASYNC = next(driver for driver in SQLITE if driver.name == "aiosqlite")


async def test_a_switch_function_that_forgets_the_checkpoint_is_told(
    board: Board,
) -> None:
    app = Orkestra("shop", store="memory:")
    declared = board.declare(app)

    @declared.switch
    async def switch(_checkpoint: Checkpoint) -> None: ...

    async with app:
        await app.caught_up("board", await append(app, 1))
        with pytest.raises(InvalidHandlerError, match=r"checkpoint\.switch"):
            await app.rebuild("board")


async def test_a_view_ahead_of_its_mirror_is_not_written_twice(
    board: Board, sqlite: str
) -> None:
    """As after a crash between the view's commit and the mirror's."""
    app = Orkestra("shop", store=sqlite)
    board.declare(app)
    async with app:
        position = await append(app, 1, 2)
        await app.caught_up("board", position)

    again = Orkestra("shop", store="memory:")
    seen: list[BaseException] = []
    declared = board.declare(again)
    inner = declared._function

    async def watched(events: list[RecordedEvent], checkpoint: Checkpoint) -> None:
        try:
            await inner(events, checkpoint)
        except BaseException as error:
            seen.append(error)
            raise

    declared._function = watched
    async with again:
        # The same log, and a state store that knows nothing.
        await append(again, 1, 2)
        position = await append(again, 3)
        await board.reaches(position)
        assert await board.rows() == wanted(1, 2, 3)
    assert any(isinstance(error, CheckpointMismatchError) for error in seen)
