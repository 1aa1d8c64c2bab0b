"""Messages given up on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from orkestra import _orkestra
from orkestra._bus import logger
from orkestra._failures import invalid_handler
from orkestra._orkestra import DeadLetter
from orkestra.errors import (
    InvalidHandlerError,
    MessageError,
    NoDeadLetterError,
    OrkestraError,
    TopologyMissingError,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from datetime import datetime

    from orkestra._orkestra import Call
    from orkestra.app import Orkestra

__all__ = ["DeadLetter", "DeadLetterPage", "DeadLetters"]

T = TypeVar("T")
Letters = list[DeadLetter]


@dataclass(frozen=True)
class DeadLetterPage:
    """A page of dead letters, the last failed first.

    Attributes:
        items: The entries.
        total: How many the filter finds in all.
    """

    items: list[DeadLetter]
    total: int


class DeadLetters:
    """The dead letters of an app: list, show, requeue, edit, discard."""

    def __init__(self, app: Orkestra) -> None:
        self._app = app

    def _call(self, name: str, work: Coroutine[Any, Any, T], *, loop: bool) -> Call[T]:
        return _orkestra.wrap_coroutine(self._app, name, work, loop)

    def _services(self) -> _orkestra.Services:
        return self._app._services_or_refuse()

    def list(
        self,
        *,
        handler: str | None = None,
        topic: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        text: str | None = None,
        status: Literal["dead", "requeued"] | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> Call[DeadLetterPage]:
        """The entries that match everything given.

        Args:
            handler: Full name of the handler, ``<app>.<handler>``.
            topic: A topic pattern.
            since: Last failed then or later.
            until: Last failed before.
            text: In the body, type, topic or error; case does not matter.
            status: ``"dead"`` or ``"requeued"``.
            limit: At most this many, from 1.
            offset: Passing over this many.
        """

        async def list_() -> DeadLetterPage:
            items, total = await self._services().list_dead_letters(
                handler=handler,
                topic=topic,
                since=since,
                until=until,
                text=text,
                status=status,
                limit=limit,
                offset=offset,
            )
            return DeadLetterPage(items, total)

        return self._call("list", list_(), loop=False)

    def show(self, id: str) -> Call[DeadLetter]:
        """One entry.

        Raises:
            NoDeadLetterError: There is none of that id.
        """

        async def show() -> DeadLetter:
            return await self._services().get_dead_letter(id)

        return self._call("show", show(), loop=False)

    def requeue(self, id: str) -> Call[bool]:
        """Hands the message to its handler alone once more, with the same id.

        Waits for the handler, retries included. Returns whether the entry is gone, as
        the handler succeeded or refused; else it is the same entry, with one more round
        in its history.

        With a broker the message is put into the queue of its handler, which may be
        another app's, and nobody waits: the entry is marked as ``requeued``, so this is
        ``False``, and it is gone when the handler succeeds. Where the state store is in
        memory it is gone at once, and a message that fails again lies at the broker.
        What could not be published from the log is published.

        Raises:
            NoDeadLetterError: There is none of that id.
            InvalidHandlerError: Its handler is not in this app (without a broker), or
                its body was never encoded.
            TopologyMissingError: Its handler has no queue at the broker.
        """
        return self._call("requeue", self._is_gone(id, None), loop=True)

    def edit(
        self,
        id: str,
        payload: dict[str, Any],
    ) -> Call[bool]:
        """Puts another payload into the message, checks it, and requeues it.

        Raises:
            InvalidPayloadError: The payload does not fit the message's class; one that
                this app does not know is not checked.
        """
        return self._call("edit", self._is_gone(id, payload), loop=True)

    def requeue_all(
        self,
        *,
        handler: str | None = None,
        topic: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        text: str | None = None,
    ) -> Call[int]:
        """Requeues every dead entry that matches; returns how many are gone.

        With a broker: how many are on their way. One that cannot be handed over, such
        as that of a handler that is not here or has no queue, stays as it is.
        """

        async def requeue_all() -> int:
            # Found first, as an entry that fails again is at another place of the list.
            found: dict[str, None] = {}
            offset = 0
            while True:
                items, _ = await self._services().list_dead_letters(
                    handler=handler,
                    topic=topic,
                    since=since,
                    until=until,
                    text=text,
                    status="dead",
                    limit=100,
                    offset=offset,
                )
                if not items:
                    break
                offset += len(items)
                found.update((item.id, None) for item in items if item.requeueable)
            gone = 0
            for id in found:
                gone += await self._goes(id)
            return gone

        return self._call("requeue_all", requeue_all(), loop=True)

    def discard(self, id: str) -> Call[bool]:
        """Removes an entry; returns whether there was one."""

        async def discard() -> bool:
            return await self._services().discard_dead_letter(id)

        return self._call("discard", discard(), loop=False)

    def broker(self, *, limit: int = 100) -> Call[Letters]:
        """The app's dead letters that lie at the broker, oldest first.

        There are some when the state store does not outlive the process, when it did
        not take them, and when the broker itself gave a message up: then the reason is
        ``broker``. Other apps' are not among them. They stay where they are; each has
        the same id whenever it is looked at. Without a broker there are none.

        Args:
            limit: At most this many.
        """

        async def broker() -> Letters:
            if not self._app._plan.has_broker:
                return []
            return await self._services().broker_letters(limit)

        return self._call("broker", broker(), loop=False)

    def drain(self, *, limit: int | None = None) -> Call[int]:
        """Moves the app's dead letters from the broker into the state store.

        Returns how many. They can then be listed and requeued as any other. Other apps'
        stay where they are.

        Args:
            limit: At most this many. Default: all that are there now.
        """

        async def drain() -> int:
            if not self._app._plan.has_broker:
                return 0
            return await self._services().drain_letters(limit)

        return self._call("drain", drain(), loop=False)

    async def _is_gone(self, id: str, payload: dict[str, Any] | None) -> bool:
        return await self._requeue(id, payload) == "gone"

    async def _goes(self, id: str) -> bool:
        try:
            return await self._requeue(id, None) != "kept"
        except NoDeadLetterError:
            return False
        except (TopologyMissingError, InvalidHandlerError, MessageError) as error:
            logger.warning("the dead letter %s stays as it is: %s", id, error)
            return False

    async def _requeue(
        self, id: str, payload: dict[str, Any] | None
    ) -> Literal["gone", "sent", "kept"]:
        letter = await self._services().get_dead_letter(id)
        if not letter.requeueable:
            reason = "its message was never encoded, or a projection is rebuilt instead"
            raise invalid_handler(letter.handler, reason)
        body = None
        if payload is not None:
            envelope = json.loads(letter.body)
            envelope["params" if letter.kind == "command" else "data"] = payload
            body = json.dumps(envelope, allow_nan=False).encode()
        if self._app._plan.has_broker:
            await self._to_broker(letter, body)
            return "sent"
        message, route, max_retries = self._app._revive(letter, body)
        await self._services().requeue_dead_letter(id, body)
        if not await self._app._redeliver(message, route, max_retries):
            return "kept"
        await self._services().discard_dead_letter(id)
        return "gone"

    async def _to_broker(self, letter: DeadLetter, body: bytes | None) -> None:
        """Puts the message into its handler's queue."""
        if body is not None:
            decoded = _orkestra.decode_envelope(body, None)
            version = decoded.get("version")
            # Fails if it does not fit.
            self._app._registry.decode(decoded["type"], version, decoded["payload"])
        # Before the message: its handler removes the entry, maybe at once.
        await self._services().requeue_dead_letter(letter.id, body)
        try:
            await self._services().requeue_to_broker(letter, body)
        except OrkestraError:
            await self._services().take_back_dead_letter(letter)
            raise
