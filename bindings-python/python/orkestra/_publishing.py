"""Waiting for what goes on behind a published event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orkestra import _orkestra

if TYPE_CHECKING:
    import concurrent.futures

    from orkestra._orkestra import Call, EventEnvelope


class Settling:
    """The deliveries that go on behind one envelope."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.behind: list[concurrent.futures.Future[None]] = []

    async def wait(self, envelope: EventEnvelope) -> EventEnvelope:
        """Until none goes on."""
        for future in self.behind:
            await self.app._until(future)
        return envelope


async def _at_once(envelope: EventEnvelope) -> EventEnvelope:
    return envelope


def settled(envelope: EventEnvelope) -> Call[EventEnvelope]:
    """The call of ``EventEnvelope.settled``."""
    settling = envelope._settling
    if settling is None:
        return _orkestra.wrap_coroutine(None, "settled", _at_once(envelope), False)
    return _orkestra.wrap_coroutine(
        settling.app, "settled", settling.wait(envelope), False
    )
