"""Running an app as a program: until it is done, or until a signal says so."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from orkestra._bus import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from orkestra.app import Orkestra

T = TypeVar("T")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


async def run(
    app: Orkestra, main: Callable[[], Coroutine[Any, Any, T]] | None
) -> T | None:
    """Runs `app` until `main` is done; without it until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[int] = loop.create_future()

    # Whether a signal has to cut short what goes on: not waiting, and not closing.
    busy = True

    async def work() -> T | None:
        nonlocal busy
        try:
            await app.start()
            if main is not None:
                return await main()
            busy = False
            await told
            return None
        finally:
            busy = False
            await app.close()

    def on_signal(number: int) -> None:
        if told.done():
            _end(number)
        logger.info("%s stops, as signal %d says", app.name, number)
        told.set_result(number)
        if busy:
            task.cancel()

    with _signals(loop, on_signal):
        task = loop.create_task(work())
        try:
            return await task
        except asyncio.CancelledError:
            if not told.done():
                raise
        number = told.result()
        if main is None:
            return None
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)


@contextlib.contextmanager
def _signals(
    loop: asyncio.AbstractEventLoop, tell: Callable[[int], None]
) -> Iterator[None]:
    taken: list[signal.Signals] = []
    for number in _SIGNALS:
        # Not the main thread, or not Unix: signals do then what they did before.
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, tell, number)
            taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)


def _end(number: int) -> NoReturn:
    """Ends the process, whatever its threads do."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(128 + number)
