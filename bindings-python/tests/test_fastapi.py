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

from drivers import POSTGRES, Driver
from orkestra import Checkpoint, Orkestra, RecordedEvent
from orkestra._drivers import Dialect, Statement, Steps, run
from orkestra.errors import CannotOpenStoreError, ClosedError, NotStartedError
from orkestra.fastapi import get_app, lifespan
from service import serving
from shop import AddStock, OrderPlaced, PlaceOrder, StockAdded, StockItem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from postgres import Database

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


@pytest.mark.parametrize(
    "driver",
    [d for d in POSTGRES if d.name in ("psycopg-async", "asyncpg")],
    ids=lambda d: d.name,
)
async def test_what_was_done_is_read_in_the_view_over_http(
    driver: Driver, database: Database
) -> None:
    database.sql("CREATE TABLE stock (position bigint, quantity bigint)")

    def build() -> Orkestra:
        app = shop(database.url)

        @app.projection("stock", events=[StockAdded])
        async def view(events: list[RecordedEvent], checkpoint: Checkpoint) -> None:
            async with driver.transaction(database.url) as connection:
                for recorded in events:
                    row = f"({recorded.position}, {recorded.event.quantity})"
                    await execute(connection, f"INSERT INTO stock VALUES {row}")
                await checkpoint.save(connection)

        return app

    api = service(lifespan=lifespan(build))

    @api.post("/stock/{sku}")
    async def add(sku: str, quantity: int, app: TheApp) -> dict[str, int | None]:
        done = await app.execute(StockItem, AddStock(sku=sku, quantity=quantity))
        return {"revision": done.revision, "position": done.position}

    @api.get("/stock")
    async def stock(app: TheApp, after: int) -> Any:
        await app.caught_up("stock", after, timeout=20)
        return database.sql("SELECT sum(quantity)::bigint FROM stock")

    total = 0
    revision = None
    # Started twice: what the first one did is there for the second.
    for _ in range(2):
        async with serving(api) as client:
            for quantity in (2, 3):
                added = await client.post("/stock/a", params={"quantity": quantity})
                assert added.status_code == 200, added.text
                total += quantity
                revision = added.json()["revision"]
                after = {"after": added.json()["position"]}
                assert (await client.get("/stock", params=after)).json() == [[total]]
            health = (await client.get("/health")).json()
            assert health == {"ok": True, "status": "running"}
    assert revision == 3


async def execute(connection: Any, sql: str) -> None:
    """A statement on the user's connection."""

    def work(_dialect: Dialect) -> Steps[None]:
        yield Statement(sql)

    await run(connection, work)


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
