"""Building a view anew beside the live one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orkestra import _orkestra
from orkestra._bus import logger
from orkestra._projecting import Listed, View
from orkestra.errors import NoSwitchError, OrkestraError
from orkestra.projections import Progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator
    from datetime import timedelta

    from orkestra._orkestra import Call
    from orkestra.app import Orkestra

__all__ = ["Rebuild"]


class Rebuild:
    """A rebuild: iterate to follow its progress, or await its end.

        async for progress in app.rebuild("board"):
            print(progress.position, "of", progress.head)

        await app.rebuild("board")

    It begins with the first of these, and leaving the iteration ends it. The live view
    goes on until the rebuilt one takes its place, which is what the end is.
    """

    def __init__(self, app: Orkestra, listed: Listed, *, resume: bool) -> None:
        self._app = app
        self._listed = listed
        self._resume = resume

    def __aiter__(self) -> AsyncIterator[Progress]:
        return self._steps()

    def __await__(self) -> Generator[Any, Any, Progress]:
        return self._call().__await__()

    def wait(self, timeout: float | timedelta | None = None) -> Progress:
        """Waits for its end, in synchronous code."""
        return self._call().wait(timeout)

    def _call(self) -> Call[Progress]:
        return _orkestra.wrap_coroutine(self._app, "rebuild", self._run(), True)

    async def _run(self) -> Progress:
        last = Progress(None, None, 0, caught_up=False)
        async for progress in self._steps():
            last = progress
        return last

    async def _steps(self) -> AsyncIterator[Progress]:
        name = self._listed.full_name
        if self._listed.projection._switch is None:
            message = (
                f"projection {name} has no switch function and cannot be rebuilt "
                "beside the live view"
            )
            raise NoSwitchError(message, {"name": name})
        view = View(self._app, self._listed, rebuild=self._resume)
        reader = view.reader
        try:
            await reader.open()
            await view.prepare()
            paused = False
            while True:
                found = await reader.try_next()
                if found is not None:
                    page, replaying = found
                    await view.handle(page, replaying=replaying)
                    yield Progress(*await reader.progress())
                elif not paused:
                    # What comes in until the live one waits is read after it.
                    await reader.pause_live()
                    paused = True
                else:
                    break
            end = Progress(*await reader.progress())
            await self._switch(view)
            yield end
        finally:
            view.running = False
            try:
                await reader.release()
            except OrkestraError as error:
                logger.debug("%s: the lease was not given back: %s", name, error)

    async def _switch(self, view: View) -> None:
        function = self._listed.projection._switch
        assert function is not None
        checkpoint = view.switching(await view.reader.switch())
        try:
            await view.call(function, checkpoint)
            checkpoint._require_switched(moves=view.has_saved)
        except BaseException:
            await view.reader.not_switched()
            raise
        await view.reader.switched()
