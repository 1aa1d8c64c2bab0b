"""The HTTP side: commands go to the aggregate, reads to the view."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel, Field

from orkestra import Orkestra, RejectedError
from orkestra.errors import NotCaughtUpError
from orkestra.fastapi import get_app, lifespan
from stock.aggregate import ReceiveStock, ShipStock, Stock
from stock.view import keep_stock, levels

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LIBPQ = ("host", "sslmode", "sslrootcert", "sslcert", "sslkey", "connect_timeout")

TheApp = Annotated[Orkestra, Depends(get_app)]


class Amount(BaseModel):
    quantity: int = Field(gt=0)


class Done(BaseModel):
    quantity: int
    position: int | None
    """Read with ``?after=`` this, to see what was done."""


def get_pool(request: Request) -> AsyncConnectionPool:
    pool: AsyncConnectionPool = request.state.pool
    return pool


ThePool = Annotated[AsyncConnectionPool, Depends(get_pool)]


def libpq_url(store: str) -> str:
    """The URL of the store for a driver: with what libpq knows, such as ``sslmode``."""
    parts = urlsplit(store)
    known = [(name, value) for name, value in parse_qsl(parts.query) if name in LIBPQ]
    return parts._replace(query=urlencode(known)).geturl()


def build(store: str) -> FastAPI:
    """The service over a store in PostgreSQL, whose database holds the view, too."""

    @asynccontextmanager
    async def running(api: FastAPI) -> AsyncIterator[dict[str, Any]]:
        pool: AsyncConnectionPool = AsyncConnectionPool(libpq_url(store), open=False)
        async with pool:
            app = Orkestra("shop", store=store)
            app.add_aggregate(Stock)
            keep_stock(app, pool)
            async with lifespan(app)(api) as state:
                yield {**state, "pool": pool}

    api = FastAPI(title="Stock", lifespan=running)

    @api.post("/stock/{sku}/received")
    async def receive(sku: str, amount: Amount, app: TheApp) -> Done:
        command = ReceiveStock(sku=sku, quantity=amount.quantity)
        done = await app.execute(Stock, command, source="http")
        return Done(quantity=done.state.quantity, position=done.position)

    @api.post("/stock/{sku}/shipped")
    async def ship(sku: str, amount: Amount, app: TheApp) -> Done:
        command = ShipStock(sku=sku, quantity=amount.quantity)
        done = await app.execute(Stock, command, source="http")
        return Done(quantity=done.state.quantity, position=done.position)

    @api.get("/stock")
    async def stock(
        app: TheApp, pool: ThePool, after: int | None = None
    ) -> dict[str, int]:
        if after is not None:
            await app.caught_up("stock", after, timeout=5)
        return await levels(pool)

    @api.get("/stock/{sku}/history")
    async def history(sku: str, app: TheApp) -> list[dict[str, Any]]:
        reading = app.store.read_stream(f"stock-{sku}")
        return [
            {"type": r.type, "revision": r.revision, "quantity": r.event.quantity}
            async for r in reading
        ]

    @api.get("/health")
    async def health(app: TheApp) -> JSONResponse:
        found = await app.health()
        lag = {state.name: state.lag for state in found.projections}
        return JSONResponse({"ok": found.ok, "lag": lag}, 200 if found.ok else 503)

    @api.exception_handler(RejectedError)
    async def refuse(_request: Request, error: RejectedError) -> JSONResponse:
        facts = {"error": error.details["reason"], "data": error.details["data"]}
        return JSONResponse(facts, 409)

    @api.exception_handler(NotCaughtUpError)
    async def too_early(_request: Request, error: NotCaughtUpError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 503, {"retry-after": "1"})

    return api
