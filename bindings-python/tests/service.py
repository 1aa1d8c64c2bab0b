"""An ASGI service under a real server, asked over real HTTP."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn

from waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def serving(service: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service, which runs until the end."""
    config = uvicorn.Config(service, port=0, lifespan="on", log_level="warning")
    server = uvicorn.Server(config)
    # Not `serve`, which takes the signals of the process.
    task = asyncio.create_task(server._serve())
    try:
        await eventually(lambda: server.started or task.done())
        assert server.started, "the service did not start"
        port = server.servers[0].sockets[0].getsockname()[1]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        server.should_exit = True
        await asyncio.wait([task])
