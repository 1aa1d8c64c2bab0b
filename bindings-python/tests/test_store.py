"""The store from Python: what Rust's conformance suites do not see."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import weakref
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import PrivateAttr

from orkestra import Event, Orkestra, RawEvent, id_of, metadata_of
from orkestra.errors import (
    CannotOpenStoreError,
    CheckpointMismatchError,
    DiskFullError,
    DuplicateEventError,
    InvalidPayloadError,
    InvalidStreamNameError,
    InvalidUrlError,
    NewerSchemaError,
    NotADatabaseError,
    NotCaughtUpError,
    NoUpcasterError,
    OrkestraError,
    ReadOnlyStoreError,
    RevisionConflictError,
    StoreError,
    StoreLockedError,
    WrongKindError,
)
from orkestra.testing import TestApp
from shop import OrderCancelled, OrderPlaced, PlaceOrder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def placed(n: int) -> OrderPlaced:
    return OrderPlaced(order_id=f"o-{n}", quantity=n)


async def test_a_stream_is_appended_and_read(store: str) -> None:
    async with Orkestra("shop", store=store).add_types(OrderPlaced) as app:
        assert await app.store.head() is None
        assert await app.store.stream_exists("order-1") is False
        done = await app.store.append("order-1", [placed(0), placed(1)], "no_stream")
        assert (done.revision, done.repeated) == (1, False)
        assert await app.store.head() == done.position
        assert await app.store.stream_exists("order-1") is True
        records = [r async for r in app.store.read_stream("order-1")]
        assert [r.event for r in records] == [placed(0), placed(1)]
        assert [r.revision for r in records] == [0, 1]
        assert [r.stream for r in records] == ["order-1"] * 2
        first = records[0]
        assert (first.type, first.version) == ("Shop.OrderPlaced", 1)
        assert id_of(first.event) == first.id
        assert metadata_of(first.event) == first.metadata
        assert first.metadata.issued_at == first.occurred_at
        assert "order-1" in repr(first)


async def test_reads_have_ends_and_directions(store: str) -> None:
    async with Orkestra("shop", store=store).add_types(OrderPlaced) as app:
        await app.store.append("s", [placed(n) for n in range(2500)])

        async def revisions(**options: Any) -> list[int]:
            return [r.revision async for r in app.store.read_stream("s", **options)]

        assert await revisions() == list(range(2500))
        assert await revisions(from_revision=2498) == [2498, 2499]
        assert await revisions(backwards=True, limit=1) == [2499]
        assert await revisions(backwards=True) == list(reversed(range(2500)))
        assert await revisions(limit=0) == []
        everything = [r async for r in app.store.read_all()]
        assert len(everything) == 2500
        after = everything[10].position
        some = [r.revision async for r in app.store.read_all(after=after, limit=3)]
        assert some == [11, 12, 13]
        assert [r async for r in app.store.read_stream("unknown")] == []


async def test_reading_all_is_filtered_by_topic_and_stream(store: str) -> None:
    async with Orkestra("shop", store=store) as app:
        await app.store.append("a-1", [placed(0), OrderCancelled(order_id="o")])
        await app.store.append("b-1", [placed(1)])

        async def types(**options: Any) -> list[str]:
            return [r.type async for r in app.store.read_all(**options)]

        assert await types(topics=["order_cancelled"]) == ["Shop.OrderCancelled"]
        assert len(await types(topics="#")) == 3
        assert await types(stream_prefix="b-") == ["Shop.OrderPlaced"]


async def test_a03_conflicts_say_both_sides(store: str) -> None:
    async with Orkestra("shop", store=store) as app:
        await app.store.append("s", [placed(0)])
        with pytest.raises(RevisionConflictError) as conflict:
            await app.store.append("s", [placed(1)], expected=3)
        assert (conflict.value.expected, conflict.value.actual) == (3, 0)
        assert conflict.value.stream == "s"
        with pytest.raises(RevisionConflictError) as conflict:
            await app.store.append("s", [placed(1)], expected="no_stream")
        assert conflict.value.expected == "no_stream"
        with pytest.raises(TypeError):
            await app.store.append("s", [placed(1)], expected="whatever")  # type: ignore[arg-type]


async def test_a10_the_same_objects_are_stored_once(store: str) -> None:
    async with Orkestra("shop", store=store) as app:
        events = [placed(0), placed(1)]
        first = await app.store.append("s", events, "no_stream")
        again = await app.store.append("s", events, "no_stream")
        assert (again.revision, again.repeated) == (first.revision, True)
        with pytest.raises(DuplicateEventError):
            await app.store.append("t", [placed(2), events[0]])


async def test_a12_one_of_many_writers_wins(store: str) -> None:
    async with Orkestra("shop", store=store) as app:
        results = await asyncio.gather(
            *(app.store.append("s", [placed(n)], "no_stream") for n in range(16)),
            return_exceptions=True,
        )
        conflicts = [r for r in results if isinstance(r, RevisionConflictError)]
        assert len(conflicts) == 15
        assert all(conflict.actual == 0 for conflict in conflicts)


async def test_appends_to_many_streams_are_one(store: str) -> None:
    async with Orkestra("shop", store=store) as app:
        with pytest.raises(RevisionConflictError):
            await app.store.append_many(
                [("a", [placed(0)], "any"), ("b", [placed(1)], 7)]
            )
        assert await app.store.head() is None
        one, two = await app.store.append_many(
            [("a", [placed(2)], "any"), ("b", [placed(3)], "no_stream")]
        )
        assert (one.revision, two.revision) == (0, 0)


async def test_a19_a20_streams_are_deleted_softly_and_hard(store: str) -> None:
    async with Orkestra("shop", store=store) as app:
        await app.store.append("s", [placed(0), placed(1), placed(2)])
        assert await app.store.delete_stream("s") is True
        assert await app.store.stream_exists("s") is False
        assert (await app.store.append("s", [placed(3)])).revision == 3
        assert await app.store.delete_stream("s", hard=True) is True
        assert (await app.store.append("s", [placed(4)])).revision == 0


@pytest.mark.parametrize("name", ["", " x", "x\n", "$all", "x" * 1001])
async def test_a18_bad_input_stream_names(name: str) -> None:
    app = Orkestra("shop", store="memory:")
    with pytest.raises(InvalidStreamNameError):
        await app.store.append(name, [placed(0)])
    with pytest.raises(InvalidStreamNameError):
        [r async for r in app.store.read_stream(name)]


async def test_bad_input_what_is_no_event() -> None:
    app = Orkestra("shop", store="memory:")
    for wrong in (PlaceOrder(product_id="a", quantity=1), 1, "text", None):
        with pytest.raises(WrongKindError):
            await app.store.append("s", [wrong])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        await app.store.append("s", placed)  # type: ignore[arg-type]


class Version1(Event, type_name="Shop.Priced"):
    cents: int


class Version3(Event, type_name="Shop.Priced", version=3):
    amount: float
    currency: str


@Version3.upcaster(from_version=1)
def in_units(data: dict[str, Any]) -> dict[str, Any]:
    return {"amount": data["cents"] / 100}


@Version3.upcaster(from_version=2)
def with_currency(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "currency": "EUR"}


async def test_a21_old_events_are_upcast_wherever_they_are_read(sqlite: str) -> None:
    async with Orkestra("shop", store=sqlite) as old:
        done = await old.store.append("s", [Version1(cents=250)])
    seen: list[Event] = []
    app = Orkestra("shop", store=sqlite)

    @app.event_handler(Version3, start="origin")
    async def note(event: Version3) -> None:
        seen.append(event)

    wanted = Version3(amount=2.5, currency="EUR")
    async with app:
        assert done.position is not None
        await app.caught_up("note", done.position)
        (recorded,) = [r async for r in app.store.read_stream("s")]
        assert recorded.version == 1
        assert recorded.event == wanted
        live = await anext(app.subscribe())
        assert live.event == wanted
        assert seen == [wanted]


async def test_a21_a_missing_or_newer_version_is_an_error(store: str) -> None:
    class Newer(Event, type_name="Shop.Priced", version=5):
        amount: float

    async with Orkestra("shop", store=store) as app:
        await app.store.append("s", [Version3(amount=1, currency="EUR")])
        app = Orkestra("shop", store=store) if store != "memory:" else app
        app._registry.add_type(Newer)
        (recorded,) = [r async for r in app.store.read_stream("s")]
        with pytest.raises(NoUpcasterError) as missing:
            _ = recorded.event
        assert missing.value.details == {
            "type_name": "Shop.Priced",
            "from": 3,
            "to": 5,
        }
    with pytest.raises(ValueError, match="from_version"):
        Version3.upcaster(from_version=3)


async def test_unknown_types_are_read_raw_and_aliases_as_themselves(
    sqlite: str,
) -> None:
    class Renamed(Event, aliases=["Shop.OrderPlaced"], type_name="Shop.OrderMade"):
        order_id: str

    async with Orkestra("shop", store=sqlite) as app:
        await app.store.append("s", [placed(1)])
        (recorded,) = [r async for r in app.store.read_all()]
        assert isinstance(recorded.event, RawEvent)
        assert recorded.event.data == {"order_id": "o-1", "quantity": 1}
    async with Orkestra("shop", store=sqlite).add_types(Renamed) as app:
        (recorded,) = [r async for r in app.store.read_all()]
        # Decoding ignores what the class does not know.
        assert recorded.event == Renamed(order_id="o-1")


async def test_a_recorded_event_that_does_not_fit_names_its_fields(
    sqlite: str,
) -> None:
    class Narrow(Event, type_name="Shop.OrderPlaced"):
        order_id: int
        more: int

    async with Orkestra("shop", store=sqlite) as app:
        await app.store.append("s", [placed(1)])
    async with Orkestra("shop", store=sqlite).add_types(Narrow) as app:
        (recorded,) = [r async for r in app.store.read_all()]
        with pytest.raises(InvalidPayloadError) as wrong:
            _ = recorded.event
        paths = [error["path"] for error in wrong.value.errors]
        assert paths == ["$.order_id", "$.more"]
        assert recorded.id
        assert recorded.data.startswith(b"{")


async def test_e02_a_subscription_gives_history_then_what_comes(store: str) -> None:
    async with Orkestra("shop", store=store).add_types(OrderPlaced) as app:
        await app.store.append("s", [placed(0), placed(1)])
        subscription = app.subscribe("reader")
        seen = [(await anext(subscription)).event for _ in range(2)]
        waiting = asyncio.create_task(anext(subscription))
        await asyncio.sleep(0)
        await app.store.append("s", [placed(2)])
        seen.append((await waiting).event)
        assert seen == [placed(0), placed(1), placed(2)]


async def test_a_cancelled_iteration_loses_no_event(store: str) -> None:
    async with Orkestra("shop", store=store).add_types(OrderPlaced) as app:
        events = [placed(n) for n in range(40)]
        await app.store.append("s", events)
        subscription = app.subscribe("reader", batch_size=3)
        seen = []
        for turn in range(60):
            task = asyncio.create_task(anext(subscription))
            for _ in range(turn % 5):
                await asyncio.sleep(0)
            if turn % 3 == 0:
                await asyncio.sleep(0.001 * (turn % 4))
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                seen.append((await task).event)
        while len(seen) < len(events):
            seen.append((await asyncio.wait_for(anext(subscription), 10)).event)
        assert seen == events


async def test_a_batch_that_comes_with_the_cancellation_comes_again(store: str) -> None:
    async with Orkestra("shop", store=store).add_types(OrderPlaced) as app:
        subscription = app.subscribe("reader")
        waiting = asyncio.ensure_future(anext(subscription.batches()))
        await asyncio.sleep(0.05)

        def append() -> None:
            app.store.append("s", [placed(0)]).wait()
            time.sleep(0.2)

        # The loop stands still: it hears of the event and of the cancellation at once.
        thread = threading.Thread(target=append)
        thread.start()
        thread.join()
        asyncio.get_running_loop().call_soon(waiting.cancel)
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await app.store.append("s", [placed(1)])
        seen = [(await asyncio.wait_for(anext(subscription), 10)).event for _ in "01"]
        assert seen == [placed(0), placed(1)]


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan"), timedelta(seconds=-1)])
async def test_a_timeout_that_is_over_is_not_forever(timeout: Any) -> None:
    async with Orkestra("shop", store="memory:") as app:
        with pytest.raises(ValueError, match="timeout: expected 0 or more seconds"):
            await asyncio.wait_for(app.caught_up("board", 1, timeout=timeout), 5)
        with pytest.raises(TypeError, match="timeout: expected seconds or a timedelta"):
            await app.caught_up("board", 1, timeout="1")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="older_than: expected seconds or a time"):
            await app.retention.purge_outbox(older_than="1")  # type: ignore[arg-type]
        with pytest.raises(NotCaughtUpError):
            await app.caught_up("board", 1, timeout=0)


async def test_arguments_that_cannot_be_used_are_named() -> None:
    async with Orkestra("shop", store="memory:") as app:
        wrong: Any
        for wrong in ("", 1.5, True, b"1"):
            with pytest.raises(TypeError, match="from_revision: expected a whole"):
                app.store.read_stream("s", from_revision=wrong)
            with pytest.raises(TypeError, match="after: expected a whole number"):
                app.store.read_all(after=wrong)
            with pytest.raises(TypeError, match="limit: expected a whole number"):
                app.store.read_all(limit=wrong)
            with pytest.raises(TypeError, match="batch_size: expected a whole number"):
                app.subscribe(batch_size=wrong)
            with pytest.raises(ValueError, match="start: expected 'origin', 'now' or"):
                app.subscribe(start=wrong)
        for number in (-1, 2**64):
            with pytest.raises(ValueError, match="after: expected 0 or more, found"):
                app.store.read_all(after=number)
            with pytest.raises(ValueError, match="start: expected 'origin', 'now' or"):
                app.subscribe(start=number)
        for number in (0, -1, 10_001):
            with pytest.raises(ValueError, match="batch_size: expected 1 to 10000"):
                app.subscribe(batch_size=number)


async def test_what_is_no_list_of_events_is_not_taken_for_none(store: str) -> None:
    class Closed(Event):
        """Without fields: its iterator is empty."""

    async with Orkestra("shop", store=store) as app:
        wrong: Any
        for wrong in (Closed(), placed(0), Closed, "", "text"):
            with pytest.raises(WrongKindError, match="expected a list of events"):
                await app.store.append("s", wrong)
            with pytest.raises(WrongKindError, match="expected a list of events"):
                await app.store.append_many([("s", wrong, "any")])
        for wrong in (None, 7):
            with pytest.raises(TypeError, match="events: expected a list of events"):
                await app.store.append("s", wrong)
        for wrong in (Closed, None, "text"):
            with pytest.raises(WrongKindError, match="expected an event"):
                await app.store.append("s", [placed(0), wrong])
        wrong = True
        with pytest.raises(TypeError, match="expected: expected 'any'"):
            await app.store.append("s", [placed(0)], expected=wrong)
        assert not await app.store.stream_exists("s")


async def test_a_stream_name_that_is_none_is_named(store: str) -> None:
    async with Orkestra("shop", store=store) as app:
        calls: list[Callable[[Any], Any]] = [
            lambda name: app.store.append(name, [placed(0)]),
            lambda name: app.store.append_many([(name, [placed(0)], "any")]),
            app.store.stream_exists,
            app.store.delete_stream,
            lambda name: anext(app.store.read_stream(name)),
        ]
        for call in calls:
            with pytest.raises(InvalidStreamNameError) as refused:
                await call("order-\ud800")
            assert refused.value.reason == "it has half a surrogate pair"
            for wrong in (None, 7, b"s"):
                with pytest.raises(TypeError, match="stream: expected a str, found"):
                    await call(wrong)


@pytest.mark.parametrize("store", ["sqlite", "postgres"], indirect=True)
@pytest.mark.parametrize("how", ["idle", "waiting", "dropped"])
async def test_e06_an_app_that_closes_lets_go_of_what_it_reads(
    store: str, how: str
) -> None:
    first = Orkestra("shop", store=store).add_types(OrderPlaced)
    await first.start()
    await first.store.append("s", [placed(0)])
    reader = first.subscribe("reader")
    await anext(reader)
    waiting = asyncio.ensure_future(anext(reader)) if how == "waiting" else None
    if how == "dropped":
        del reader
    await asyncio.sleep(0.05)
    await first.close()
    if waiting is not None:
        with pytest.raises(StoreError):
            await waiting
    async with Orkestra("shop", store=store).add_types(OrderPlaced) as second:
        await second.store.append("s", [placed(1)])
        # Without waiting for the end of a lease.
        again = await asyncio.wait_for(anext(second.subscribe("reader")), 5)
        assert again.event == placed(1 if how == "waiting" else 0)


async def test_e04_e05_what_was_acknowledged_is_not_given_again(store: str) -> None:
    async with Orkestra("shop", store=store).add_types(OrderPlaced) as app:
        await app.store.append("s", [placed(n) for n in range(3)])
        first = app.subscribe("reader")
        await anext(first)
        second_event = await anext(first)  # acknowledges the one before
        await first.close()
        again = app.subscribe("reader")
        assert (await anext(again)).position == second_event.position
        last = await anext(again)
        await again.ack(last.position)
        await again.close()
        fresh = app.subscribe("reader")
        assert await fresh.pending() == []
        await app.caught_up("reader", last.position)


async def test_e03_topics_filter_and_the_place_moves_on(store: str) -> None:
    async with Orkestra("shop", store=store) as app:
        done = await app.store.append("s", [placed(n) for n in range(5)])
        reader = app.subscribe("reader", topics=["order_cancelled"])
        assert await reader.pending() == []
        assert done.position is not None
        await app.caught_up("reader", done.position)


async def test_e01_from_now_gives_only_what_comes_after(store: str) -> None:
    async with Orkestra("shop", store=store).add_types(OrderPlaced) as app:
        await app.store.append("s", [placed(0)])
        subscription = await app.subscribe(start="now").open()
        await app.store.append("s", [placed(1)])
        assert (await anext(subscription)).event == placed(1)


async def test_g05_waiting_for_a_place_has_a_limit() -> None:
    app = TestApp("shop")
    task = asyncio.create_task(app.caught_up("nobody", 7))
    assert await app.advance_to_next() == 30
    with pytest.raises(NotCaughtUpError) as late:
        await task
    assert late.value.details == {"name": "nobody", "position": 7, "seconds": 30}


async def test_e09_a_poison_event_is_parked_and_the_rest_goes_on(store: str) -> None:
    app = Orkestra("shop", store=store)
    seen: list[int] = []

    @app.event_handler(OrderPlaced, max_retries=0, start="origin")
    async def note(event: OrderPlaced) -> None:
        if event.quantity == 1:
            raise ValueError
        seen.append(event.quantity)

    async with app:
        done = await app.store.append("s", [placed(n) for n in range(4)])
        assert done.position is not None
        await app.caught_up("note", done.position)
        assert seen == [0, 2, 3]
        (letter,) = (await app.dead_letters.list()).items
        assert (letter.handler, letter.kind) == ("shop.note", "event")
        health = await app.health()
        assert (health.ok, health.dead_letters) == (True, 1)


async def test_a_handler_goes_on_where_it_was(sqlite: str) -> None:
    seen: list[int] = []

    def shop() -> Orkestra:
        app = Orkestra("shop", store=sqlite)

        @app.event_handler(OrderPlaced, concurrency=4)
        def note(event: OrderPlaced) -> None:
            seen.append(event.quantity)

        return app

    for n in range(3):
        async with shop() as app:
            done = await app.store.append(f"s-{n}", [placed(n)])
            assert done.position is not None
            await app.caught_up("note", done.position)
    assert seen == [0, 1, 2]


def test_bad_input_urls_name_their_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting, url in [
        ("store", "orders.db"),
        ("store", "sqlite:"),
        ("bus", "amqq://guest:secret@localhost"),
        ("bus", "amqp://guest:secret@localhost?prefech=9"),
        ("state", "postgres://shop:secret@localhost/x?pol=9"),
    ]:
        with pytest.raises(InvalidUrlError) as refused:
            Orkestra("shop", **{setting: url})  # type: ignore[arg-type]
        assert refused.value.setting == setting
        assert "secret" not in str(refused.value)
    monkeypatch.setenv("ORKESTRA_STORE", "nonsense")
    with pytest.raises(InvalidUrlError):
        Orkestra("shop")
    Orkestra("shop", store="memory:")


async def test_the_environment_names_the_store(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ORKESTRA_STORE", f"sqlite:{tmp_path}/env.db")
    async with Orkestra("shop") as app:
        await app.store.append("s", [placed(0)])
    assert (tmp_path / "env.db").exists()


async def test_state_is_kept_apart(tmp_path: Path) -> None:
    app = Orkestra(
        "shop", store=f"sqlite:{tmp_path}/s.db", state=f"sqlite:{tmp_path}/state.db"
    )

    @app.event_handler(OrderPlaced, max_retries=0)
    async def note(event: OrderPlaced) -> None:
        raise ValueError

    async with app:
        await app.publish(placed(0))
        assert (await app.dead_letters.list()).total == 1
    assert (tmp_path / "state.db").exists()


async def opened(path: Path) -> None:
    async with Orkestra("shop", store=f"sqlite:{path}") as app:
        await app.store.append("s", [placed(0)])


async def test_bad_input_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_text("this is no database, but it is long enough to look like one" * 50)
    with pytest.raises(NotADatabaseError) as refused:
        await opened(path)
    assert str(path) in refused.value.path
    assert path.read_text().startswith("this is no database")


async def test_bad_input_a_database_of_somebody_else(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table mine (a)")
    connection.close()
    with pytest.raises(StoreError):
        await opened(path)


async def test_bad_input_a_folder_or_a_missing_one(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing" / "x.db"):
        with pytest.raises(CannotOpenStoreError):
            await opened(path)


def mounted(*arguments: str) -> bool:
    """Whether this machine lets us mount that."""
    if not shutil.which("mount"):
        return False
    command = ["mount", *arguments]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def unmount(folder: Path) -> None:
    """Takes away what `mounted` put there."""
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_bad_input_a_read_only_disk(tmp_path: Path) -> None:
    folder = tmp_path / "ro"
    folder.mkdir()
    await opened(folder / "x.db")
    # Root may write whatever the permissions say, so for root the disk itself is.
    bound = os.geteuid() == 0 and mounted("--bind", str(folder), str(folder))
    if bound:
        assert mounted("-o", "remount,ro,bind", str(folder))
    elif os.geteuid() == 0:
        pytest.skip("root may write everywhere, and cannot mount here")
    else:
        (folder / "x.db").chmod(0o400)
        folder.chmod(0o500)
    try:
        with pytest.raises((ReadOnlyStoreError, CannotOpenStoreError)):
            await opened(folder / "x.db")
    finally:
        if bound:
            unmount(folder)
        folder.chmod(0o700)


async def test_bad_input_a_database_from_the_future(tmp_path: Path) -> None:
    path = tmp_path / "future.db"
    await opened(path)
    connection = sqlite3.connect(path)
    tables = [
        row[0]
        for row in connection.execute(
            "select name from sqlite_master where type='table' and name like '%schema%'"
            " or type='table' and name like '%migration%'"
        )
    ]
    columns = {
        t: [c[1] for c in connection.execute(f"pragma table_info({t})")] for t in tables
    }
    (table, names), *_ = columns.items()
    column = next(c for c in names if "version" in c)
    connection.execute(
        f"update {table} set {column} = 999 "
        f"where {column} = (select max({column}) from {table})"
    )
    connection.commit()
    connection.close()
    with pytest.raises(NewerSchemaError) as refused:
        await opened(path)
    assert refused.value.found == 999


async def test_bad_input_the_store_is_removed_while_open(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    app = Orkestra("shop", store=f"sqlite:{folder}/x.db")
    async with app:
        await app.store.append("s", [placed(0)])
        shutil.rmtree(folder)
        try:
            await app.store.append("s", [placed(1)])
        except OrkestraError as error:
            assert error.code.startswith("ORK_STORE_")
    assert CheckpointMismatchError.code == "ORK_STORE_CHECKPOINT_MISMATCH"


LOCKER = """
import sqlite3, sys
other = sqlite3.connect(sys.argv[1], isolation_level=None)
other.execute("begin exclusive")
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.mark.timeout(60)
def test_bad_input_a_file_locked_by_another_program(tmp_path: Path) -> None:
    path = tmp_path / "locked.db"
    asyncio.run(opened(path))
    app = Orkestra("shop", store=f"sqlite:{path}")
    command = [sys.executable, "-c", LOCKER, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(StoreLockedError) as locked:
            app.store.append("s", [placed(1)]).wait()
        assert locked.value.transient is True
        other.communicate()
    assert app.store.append("s", [placed(2)]).wait().revision == 1
    app.close().wait()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An empty disk of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if not mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)):
        pytest.skip("a small disk cannot be mounted here")
    yield disk
    unmount(disk)


async def test_bad_input_a_full_disk(small_disk: Path) -> None:
    app = Orkestra("shop", store=f"sqlite:{small_disk}/x.db")
    with pytest.raises(DiskFullError):
        for n in range(1000):
            event = OrderPlaced(order_id="o" * 10_000, quantity=n)
            await app.store.append("s", [event])
    # It can be read, and nothing of the failed append is there.
    records = [r.revision async for r in app.store.read_stream("s")]
    assert records == list(range(len(records)))
    await app.close()


async def test_e06_a_handler_reads_in_one_process_at_a_time(sqlite: str) -> None:
    seen: list[tuple[str, int]] = []

    def shop(label: str) -> Orkestra:
        app = Orkestra("shop", store=sqlite)

        @app.event_handler(OrderPlaced, name="note")
        async def note(event: OrderPlaced) -> None:
            seen.append((label, event.quantity))

        return app

    one, two = shop("one"), shop("two")
    async with two:
        async with one:
            done = await one.store.append("s", [placed(n) for n in range(10)])
            assert done.position is not None
            await one.caught_up("note", done.position)
            first = {label for label, _ in seen}
            assert len(first) == 1
            assert [n for _, n in seen] == list(range(10))
        done = await two.store.append("s", [placed(10)])
        assert done.position is not None
        await two.caught_up("note", done.position)
        assert seen[10:] == [("two", 10)]


class TagsChanged(Event, type_name="Shop.TagsChanged"):
    tags: list[str]


class PriceSeen(Event, type_name="Shop.PriceSeen"):
    cents: int

    @cached_property
    def readers(self) -> list[PriceSeen]:
        return [self]


class NoteTaken(Event, type_name="Shop.NoteTaken"):
    note: str
    _readers: list[Any] = PrivateAttr(default_factory=list)


async def test_events_that_stay_together_end_without_the_garbage_collector(
    store: str,
) -> None:
    given: list[Event] = [
        OrderPlaced(order_id="o", quantity=1),
        TagsChanged(tags=["new"]),
        PriceSeen(cents=1),
        NoteTaken(note="n"),
    ]
    app = Orkestra("shop", store=store).add_types(*(type(event) for event in given))
    async with app:
        await app.store.append("s", given)
        reader = app.subscribe()
        batch = await reader.pending()
        found = [recorded.event for recorded in batch]
        assert found == given
        # What can hold a cycle is left to the collector, the rest costs it nothing.
        assert [gc.is_tracked(event) for event in found] == [False, True, True, True]
        assert not any(gc.is_tracked(recorded) for recorded in batch)
        assert found[2].readers == [found[2]]
        ends = [weakref.ref(event) for event in found[:2]]
        del batch, found
        assert [end() for end in ends] == [None, None]
        await reader.close()
