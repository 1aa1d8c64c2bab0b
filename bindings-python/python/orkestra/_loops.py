"""Threads that an app starts when it needs them: a loop, and workers."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


class LoopThread:
    """One event loop on a thread of its own."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self.loop.run_until_complete(
                    asyncio.gather(*tasks, return_exceptions=True)
                )
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    @property
    def is_current(self) -> bool:
        """Whether this is the thread that runs now."""
        return threading.current_thread() is self._thread

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Runs `coroutine` on the loop, in a copy of the caller's context."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def stop(self) -> None:
        """Cancels what still runs and ends the thread."""
        if self.is_current:
            # After the one who asks has its answer.
            self.loop.call_later(0.01, self.loop.stop)
        elif self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()


class Workers:
    """Threads for synchronous handlers that asynchronous code calls."""

    def __init__(self, name: str, size: int | None) -> None:
        self._executor = concurrent.futures.ThreadPoolExecutor(
            max_workers=size, thread_name_prefix=name
        )

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Calls `function` on a worker, in a copy of the caller's context."""
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        call = partial(context.run, function, *arguments)
        return await loop.run_in_executor(self._executor, call)

    def close(self, *, wait: bool) -> None:
        """Takes no more work."""
        self._executor.shutdown(wait=wait, cancel_futures=False)
