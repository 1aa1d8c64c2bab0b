"""Apps inside FastAPI and Starlette services, over real HTTP."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from fastapi import Depends, FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.requests import Request  # noqa: TC002 - FastAPI reads annotations
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from orkestra import Orkestra
from orkestra.errors import CannotOpenStoreError, ClosedError, NotStartedError
from orkestra.fastapi import get_app, lifespan
from service import serving
from shop import AddStock, OrderPlaced, PlaceOrder, StockItem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TheApp = Annotated[Orkestra, Depends(get_app)]


def shop(store: str = "memory:") -> Orkestra:
    app = Orkestra("shop", store=store)
    app.add_aggregate(StockItem)

    @app.command_handler(PlaceOrder)
    async def place_order(command: PlaceOrder) -> dict[str, Any]:
        await app.publish(OrderPlaced(order_id="o-1", quantity=command.quantity))
        return {"order_id": "o-1"}

    return app


def service(**options: Any) -> FastAPI:
    api = FastAPI(**options)

    @api.post("/orders")
    async def place(app: TheApp) -> Any:
        return await app.dispatch(PlaceOrder(product_id="sku", quantity=3))

    @api.post("/blocking")
    def place_blocking(app: TheApp) -> Any:
        # FastAPI runs this in a thread.
        return app.dispatch(PlaceOrder(product_id="sku", quantity=3)).wait()

    @api.get("/health")
    async def health(app: TheApp) -> dict[str, Any]:
        found = await app.health()
        return {"ok": found.ok, "status": found.status}

    return api


async def test_the_app_starts_and_closes_with_the_service() -> None:
    app = shop()

    async with serving(service(lifespan=lifespan(app))) as client:
        health = await client.get("/health")
        assert health.json() == {"ok": True, "status": "running"}
        for path in ("/orders", "/blocking"):
            placed = await client.post(path)
            assert (placed.status_code, placed.json()) == (200, {"order_id": "o-1"})

    assert app.is_closed
    with pytest.raises(ClosedError):
        await app.store.head()


async def test_a_function_builds_a_new_app_for_each_start() -> None:
    built: list[Orkestra] = []

    def build() -> Orkestra:
        built.append(shop())
        return built[-1]

    api = service(lifespan=lifespan(build))
    for n in (1, 2):
        async with serving(api) as client:
            assert (await client.post("/orders")).status_code == 200
        assert len(built) == n
    assert all(app.is_closed for app in built)


async def test_a_lifespan_of_ones_own_goes_around_it() -> None:
    app = shop()
    seen: list[str] = []

    @asynccontextmanager
    async def running(api: FastAPI) -> AsyncIterator[dict[str, Any]]:
        seen.append("pool open")
        async with lifespan(app)(api) as state:
            yield {**state, "pool": "a pool"}
        assert app.is_closed
        seen.append("pool closed")

    api = service(lifespan=running)

    @api.get("/pool")
    async def pool(request: Request, app: TheApp) -> list[str]:
        return [request.state.pool, app.name]

    async with serving(api) as client:
        assert (await client.get("/pool")).json() == ["a pool", "shop"]
    assert seen == ["pool open", "pool closed"]


async def test_starlette_and_mounted_services_have_it_too() -> None:
    app = shop()

    async def add(request: Request) -> JSONResponse:
        command = AddStock(sku=request.path_params["sku"], quantity=2)
        done = await get_app(request).execute(StockItem, command)
        return JSONResponse({"revision": done.revision, "total": done.state.total})

    api = Starlette(
        routes=[
            Route("/stock/{sku}", add, methods=["POST"]),
            Mount("/inner", service()),
        ],
        lifespan=lifespan(app),
    )
    async with serving(api) as client:
        assert (await client.post("/stock/a")).json() == {"revision": 0, "total": 2}
        assert (await client.post("/stock/a")).json() == {"revision": 1, "total": 4}
        assert (await client.post("/inner/orders")).json() == {"order_id": "o-1"}


async def test_a_socket_has_it_too() -> None:
    names: list[str] = []
    api = FastAPI()

    @api.websocket("/live")
    async def live(socket: WebSocket, app: TheApp) -> None:
        await socket.accept()
        names.append(app.name)
        await socket.close()

    app = shop()
    sent: list[Any] = []
    scope = {
        "type": "websocket",
        "path": "/live",
        "raw_path": b"/live",
        "root_path": "",
        "scheme": "ws",
        "query_string": b"",
        "headers": [],
        "subprotocols": [],
        "state": {"orkestra": app},
    }

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await api(scope, receive, send)
    assert names == ["shop"]
    assert sent == ["websocket.accept", "websocket.close"]


async def test_without_the_lifespan_the_error_says_what_is_missing() -> None:
    api = service()

    @api.exception_handler(NotStartedError)
    async def refuse(_request: Request, error: NotStartedError) -> JSONResponse:
        return JSONResponse({"code": error.code, "message": str(error)}, 503)

    async with serving(api) as client:
        refused = await client.post("/orders")
    assert refused.status_code == 503
    assert refused.json()["code"] == "ORK_APP_NOT_STARTED"
    assert "lifespan" in refused.json()["message"]


async def test_a_store_that_cannot_be_opened_ends_the_start() -> None:
    app = shop("sqlite:/nowhere/at/all.db")
    with pytest.raises(CannotOpenStoreError):
        async with lifespan(app)(None):
            raise AssertionError("started")
