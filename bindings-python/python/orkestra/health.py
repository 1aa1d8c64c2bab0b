"""How an app is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from orkestra.errors import OrkestraError
from orkestra.outbox import OutboxBacklog

if TYPE_CHECKING:
    from orkestra.app import Orkestra
    from orkestra.projections import ProjectionState

__all__ = ["Health"]


@dataclass(frozen=True)
class Health:
    """How an app is.

    Attributes:
        ok: Whether it runs, its store answers, every reader reads and every consumer
            consumes.
        app: Its name.
        status: ``new``, ``running`` or ``closed``.
        error: What the store says when it does not answer.
        head: The position of the last event in the store.
        readers: The event handlers' readers of the log: name, position, running and
            why it stopped.
        projections: The projections, see ``ProjectionState``.
        dead_letters: Dead letters that wait for somebody.
        bus: With a broker: whether it is connected, why it is blocked, its error, and
            of each consumer its handler, queue, whether it is consuming, its error.
        relay: With a broker: how far this process has published the log, and why it
            does not go on.
        outbox: Messages that wait in the outbox, and since when the oldest does.
    """

    ok: bool
    app: str
    status: Literal["new", "running", "closed"]
    error: str | None
    head: int | None
    readers: list[dict[str, Any]]
    dead_letters: int
    projections: list[ProjectionState] = field(default_factory=list)
    bus: dict[str, Any] | None = None
    relay: dict[str, Any] | None = None
    outbox: OutboxBacklog = field(default=OutboxBacklog(0, None))


async def health_of(app: Orkestra) -> Health:
    """How `app` is."""
    head, dead, error = None, 0, None
    bus: dict[str, Any] | None = None
    relay: dict[str, Any] | None = None
    projections: list[ProjectionState] = []
    outbox = OutboxBacklog(0, None)
    try:
        services = app._services_or_refuse()
        bus = services.bus_health()
        published = services.relay_health()
        if published is not None:
            relay = {"position": published[0], "error": published[1]}
        head = await services.head()
        projections = await app._projection_states()
        outbox = OutboxBacklog(*await services.outbox_backlog())
        _, dead = await services.list_dead_letters(
            handler=None,
            topic=None,
            since=None,
            until=None,
            text=None,
            status="dead",
            limit=1,
            offset=0,
        )
    except OrkestraError as failure:
        error = str(failure)
    readers = [follower.state for follower in app._followers]
    running = app._status == "running" and all(r["running"] for r in readers)
    running = running and all(p.running for p in projections)
    if bus is not None:
        running = running and all(c["consuming"] for c in bus["consumers"])
    return Health(
        ok=running and error is None,
        app=app.name,
        status=app._status,
        error=error,
        head=head,
        readers=readers,
        dead_letters=dead,
        projections=projections,
        bus=bus,
        relay=relay,
        outbox=outbox,
    )
