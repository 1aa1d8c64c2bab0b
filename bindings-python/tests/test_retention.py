"""Letting go of what is old, from Python."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from orkestra.errors import CannotOpenStoreError
from orkestra.testing import TestApp
from shop import OrderPlaced
from waiting import gone

if TYPE_CHECKING:
    from pathlib import Path

DAY = timedelta(days=1)


async def test_idle_streams_are_archived_and_deleted(
    store: str, tmp_path: Path
) -> None:
    archive = tmp_path / "old.jsonl"
    app = TestApp("shop", store=store)
    async with app:
        await app.store.append("order-1", [OrderPlaced(order_id="1", quantity=7)] * 1)
        await app.store.append("order-2", [OrderPlaced(order_id="2")])
        await app.store.append("cart-1", [OrderPlaced(order_id="3")])
        app.advance(2 * DAY)
        await app.store.append("order-2", [OrderPlaced(order_id="2")])

        gone = await app.retention.purge_streams(
            older_than=DAY, streams="order-*", archive=archive
        )

        assert (gone.streams, gone.events) == (1, 1)
        assert (gone.went_on, gone.hidden) == (0, 0)
        names = {recorded.stream async for recorded in app.store.read_all()}
        assert names == {"order-2", "cart-1"}
        lines = archive.read_text(encoding="utf-8").splitlines()
        [line] = [json.loads(line) for line in lines]
        assert line["stream"] == "order-1"
        assert '"quantity":7' in lines[0].replace(" ", "")
        assert (await app.retention.purge_streams(older_than=86400)).streams == 1


async def test_an_archive_that_cannot_be_written_deletes_nothing(sqlite: str) -> None:
    app = TestApp("shop", store=sqlite)
    async with app:
        await app.store.append("order-1", [OrderPlaced(order_id="1")])
        app.advance(2 * DAY)
        with pytest.raises(CannotOpenStoreError):
            await app.retention.purge_streams(older_than=DAY, archive="/no/where.jsonl")
        assert await app.store.stream_exists("order-1")
        with pytest.raises(ValueError, match="older_than"):
            await app.retention.purge_outbox(older_than=-1)


async def test_rows_go_by_their_age(store: str) -> None:
    app = TestApp("shop", store=store)

    @app.event_handler(OrderPlaced, max_retries=0)
    async def fails(_event: OrderPlaced) -> None:
        raise ValueError

    @app.event_handler(OrderPlaced, inbox=True)
    async def handles(_event: OrderPlaced) -> None: ...

    await app.outbox.add(OrderPlaced(order_id="1"))
    await app.publish(OrderPlaced(order_id="2"))
    app.advance(2 * DAY)
    assert await app.retention.purge_outbox(older_than=3 * DAY) == 0
    assert await app.retention.purge_outbox(older_than=DAY) == 1
    assert (await app.outbox.pending()).messages == 0
    assert await app.retention.purge_dead_letters(older_than=DAY, handler="x") == 0
    assert await app.retention.purge_dead_letters(older_than=DAY) == 1
    assert await app.retention.purge_inbox(older_than=DAY) == 0
    async with app:
        await app.outbox.add(OrderPlaced(order_id="3"))
        await gone(app)
        assert await app.retention.purge_inbox(older_than=DAY) == 0
        app.advance(2 * DAY)
        assert await app.retention.purge_inbox(older_than=DAY) == 1
        assert await app.retention.purge_inbox(older_than=DAY) == 0
