"""Letting go of what is old, while the system runs."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike, fspath
from typing import TYPE_CHECKING, TypeVar

from orkestra import _orkestra
from orkestra._times import checked_seconds

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from orkestra._orkestra import Call, Op
    from orkestra.app import Orkestra

__all__ = ["PurgedStreams", "Retention"]

T = TypeVar("T")


@dataclass(frozen=True)
class PurgedStreams:
    """What became of the idle streams.

    Attributes:
        streams: Streams that are gone.
        events: Events that they had.
        went_on: Streams to which something was appended meanwhile: they stay whole.
        hidden: Streams with softly deleted events, which no archive can have: they
            stay. Without an archive there are none of these.
    """

    streams: int
    events: int
    went_on: int
    hidden: int


class Retention:
    """Lets go of what is old: in small steps, so that nobody waits for long.

        await app.retention.purge_streams(
            older_than=timedelta(days=365), streams="order-*", archive="old.jsonl"
        )

    What is left when it ends in the middle is done by the next call. Run it from a
    scheduler, in one process.
    """

    def __init__(self, app: Orkestra) -> None:
        self._app = app

    def purge_streams(
        self,
        *,
        older_than: float | timedelta,
        streams: str = "*",
        archive: str | PathLike[str] | None = None,
    ) -> Call[PurgedStreams]:
        """Deletes whole streams for good, so that no aggregate loses its beginning.

        Readers that have not come to their events yet never will: choose an age that
        every reader keeps up with.

        Args:
            older_than: Those whose last event happened longer ago, in seconds.
            streams: Those whose names match; ``*`` is any text.
            archive: A file to which the events are appended first, one JSON object in
                each line; they are on the disk before their stream is deleted. Default:
                they are gone.

        Raises:
            CannotOpenStoreError: The archive cannot be written.
            DiskFullError: There is no room for it.
        """
        seconds = checked_seconds("older_than", older_than)
        file = None if archive is None else fspath(archive)

        async def purge() -> PurgedStreams:
            return PurgedStreams(*await native.purge_streams(seconds, streams, file))

        native = self._native()
        return _orkestra.wrap_coroutine(self._app, "purge_streams", purge(), False)

    def purge_dead_letters(
        self, *, older_than: float | timedelta, handler: str | None = None
    ) -> Call[int]:
        """Removes dead letters that last failed longer ago; returns how many.

        Args:
            older_than: Their age, in seconds.
            handler: Only those of the handler of this full name.
        """
        seconds = checked_seconds("older_than", older_than)
        return self._count(lambda n: n.purge_dead_letters(seconds, handler))

    def purge_outbox(self, *, older_than: float | timedelta) -> Call[int]:
        """Removes messages put in longer ago, which never leave then; how many."""
        seconds = checked_seconds("older_than", older_than)
        return self._count(lambda n: n.purge_outbox(seconds))

    def purge_inbox(self, *, older_than: float | timedelta) -> Call[int]:
        """Forgets what was handled longer ago; returns how many records.

        A message that comes again after that is handled again.
        """
        seconds = checked_seconds("older_than", older_than)
        return self._count(lambda n: n.purge_inbox(seconds))

    def _count(self, purge: Callable[[_orkestra.Retention], Op[int]]) -> Call[int]:
        native = self._native()

        async def count() -> int:
            return await purge(native)

        return _orkestra.wrap_coroutine(self._app, "purge", count(), False)

    def _native(self) -> _orkestra.Retention:
        return _orkestra.Retention(self._app._services_or_refuse())

    def __repr__(self) -> str:
        return f"Retention({self._app.name!r})"
