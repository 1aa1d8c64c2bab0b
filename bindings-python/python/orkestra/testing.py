"""Testing apps: an app in memory with a manual clock, and given / when / then.

app = TestApp("shop")
app.include(orders)
async with app:
    await app.dispatch(PlaceOrder(product_id="sku_42", quantity=3))
    assert app.published == [OrderPlaced(order_id="o-1", quantity=3)]

given(Order, OrderPlaced(order_id="o-1")).when(CancelOrder(order_id="o-1")).then(
    OrderCancelled(order_id="o-1")
)
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from orkestra._orkestra import ManualClock, ManualIds
from orkestra.app import Orkestra
from orkestra.envelopes import CommandEnvelope
from orkestra.messages import Event
from orkestra.retry import Reject

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import timedelta

    from typing_extensions import Self

    from orkestra._orkestra import DeadLetter, EventEnvelope
    from orkestra.aggregate import Aggregate
    from orkestra.messages import Command

__all__ = ["START", "Given", "ManualClock", "ManualIds", "Outcome", "TestApp", "given"]

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
"""The time that a test begins at."""

StateT = TypeVar("StateT")


class TestApp(Orkestra):
    """An app in memory that remembers what went through it.

    Its clock stands still until ``advance``; its ids count 1, 2, 3, …; every random
    draw is ``draw``.

    Attributes:
        commands: The envelopes of the commands that were dispatched or sent.
        events: The envelopes of the events that were published.
        buried: The dead letters.
    """

    __test__ = False  # Not for pytest to collect.

    def __init__(
        self,
        name: str = "test",
        *,
        store: str = "memory:",
        start: datetime = START,
        draw: float = 0.5,
        **settings: Any,
    ) -> None:
        self.clock = ManualClock(start)
        super().__init__(
            name,
            bus="memory:",
            store=store,
            clock=self.clock,
            ids=ManualIds(draw),
            **settings,
        )
        self.commands: list[CommandEnvelope] = []
        self.events: list[EventEnvelope] = []
        self.buried: list[DeadLetter] = []
        self.around_send(self._remember)
        self.on_dead_letter(self.buried.append)

    async def _remember(
        self,
        envelope: CommandEnvelope | EventEnvelope,
        following: Callable[[], Awaitable[Any]],
    ) -> Any:
        if isinstance(envelope, CommandEnvelope):
            self.commands.append(envelope)
        else:
            self.events.append(envelope)
        return await following()

    @property
    def dispatched(self) -> list[Command[Any]]:
        """The commands that were dispatched or sent, in order."""
        return [envelope.command for envelope in self.commands]

    @property
    def published(self) -> list[Any]:
        """The events that were published, in order."""
        return [envelope.event for envelope in self.events]

    def advance(self, duration: float | timedelta) -> None:
        """Moves the time on and wakes what is due."""
        self.clock.advance(duration)

    async def advance_to_next(self) -> float:
        """Waits until something sleeps, then moves the time to its end.

        Returns:
            The seconds that the time moved.
        """
        # Whoever sleeps says so to the clock alone.
        while (left := self.clock.next_wake()) is None:  # noqa: ASYNC110
            await asyncio.sleep(0)
        self.clock.advance(left)
        return left


def given(
    aggregate: type[Aggregate[StateT]], *events: Event, state: StateT | None = None
) -> Given[StateT]:
    """Begins a test of an aggregate: what has happened, or the state itself."""
    return Given(aggregate, events, state)


class Given(Generic[StateT]):
    """What has happened to an aggregate."""

    def __init__(
        self,
        aggregate: type[Aggregate[StateT]],
        events: tuple[Event, ...],
        state: StateT | None,
    ) -> None:
        self._aggregate = aggregate()
        self.state: Any = self._aggregate.initial() if state is None else state
        for event in events:
            self.state = self._aggregate.evolve(self.state, event)

    def when(self, command: Command[Any]) -> Outcome[StateT]:
        """Decides `command`."""
        try:
            decision = self._aggregate.decide(self.state, command)
        except Reject as reject:
            return Outcome(self.state, [], reject)
        if isinstance(decision, Reject):
            return Outcome(self.state, [], decision)
        if decision is None:
            events = []
        elif isinstance(decision, Event):
            events = [decision]
        else:
            events = list(decision)
        state = self.state
        for event in events:
            state = self._aggregate.evolve(state, event)
        return Outcome(state, events, None)


class Outcome(Generic[StateT]):
    """What an aggregate decided.

    Attributes:
        state: The state after it.
        events: The events.
        rejection: The refusal, if it was refused.
    """

    def __init__(
        self, state: StateT, events: list[Event], rejection: Reject | None
    ) -> None:
        self.state = state
        self.events = events
        self.rejection = rejection

    def then(self, *events: Event) -> Self:
        """Asserts that exactly these events were decided."""
        if self.rejection is not None:
            message = f"expected {list(events)}, was rejected: {self.rejection.reason}"
            raise AssertionError(message)
        if self.events != list(events):
            message = f"expected {list(events)}, found {self.events}"
            raise AssertionError(message)
        return self

    def then_state(self, state: StateT) -> Self:
        """Asserts the state after it."""
        if self.state != state:
            message = f"expected {state!r}, found {self.state!r}"
            raise AssertionError(message)
        return self

    def then_rejected(self, reason: str | None = None) -> Self:
        """Asserts that the command was refused, for `reason` if it is given."""
        if self.rejection is None:
            message = f"expected a rejection, found {self.events}"
            raise AssertionError(message)
        if reason is not None and self.rejection.reason != reason:
            message = f"expected {reason!r}, found {self.rejection.reason!r}"
            raise AssertionError(message)
        return self
