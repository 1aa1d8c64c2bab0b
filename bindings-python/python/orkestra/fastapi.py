"""An app inside a FastAPI or Starlette service.

api = FastAPI(lifespan=lifespan(app))

@api.post("/orders")
async def place(order: NewOrder, app: Annotated[Orkestra, Depends(get_app)]) -> Placed:
    return await app.dispatch(PlaceOrder(product_id=order.product_id))

This module alone imports Starlette. Services of other frameworks need no module: they
enter ``async with app`` where they start.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from starlette.requests import HTTPConnection  # noqa: TC002 - FastAPI reads it

from orkestra.app import Orkestra
from orkestra.errors import NotStartedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

__all__ = ["get_app", "lifespan"]

_KEY = "orkestra"


def lifespan(
    app: Orkestra | Callable[[], Orkestra],
) -> Callable[[Any], AbstractAsyncContextManager[dict[str, Any]]]:
    """Starts `app` before the first request and closes it after the last one.

        api = FastAPI(lifespan=lifespan(app))

    A service with a lifespan of its own enters this one inside it, after what the
    app's handlers use and before it yields; what this one gives belongs into the state:

        @asynccontextmanager
        async def running(api: FastAPI) -> AsyncIterator[dict[str, Any]]:
            async with create_pool() as pool, lifespan(app)(api) as state:
                yield {**state, "pool": pool}

    Args:
        app: The app, or a function that builds one: an app starts once, so a service
            that is started several times in one process, as in tests, needs a new one
            each time.
    """

    @asynccontextmanager
    async def running(_service: object) -> AsyncIterator[dict[str, Any]]:
        built = app if isinstance(app, Orkestra) else app()
        async with built:
            yield {_KEY: built}

    return running


def get_app(connection: HTTPConnection) -> Orkestra:
    """The app of the service: a dependency for FastAPI; Starlette calls it.

    Takes a request or a WebSocket.

    Raises:
        NotStartedError: The service does not run with ``lifespan``.
    """
    found = connection.scope.get("state", {}).get(_KEY)
    if isinstance(found, Orkestra):
        return found
    name = type(connection.scope.get("app")).__qualname__
    message = f"the app of {name} has not been started: give it orkestra's lifespan"
    raise NotStartedError(message, {"app": name})
