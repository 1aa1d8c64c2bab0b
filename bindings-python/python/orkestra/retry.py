"""When to try again, and how a handler ends when not with success."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from orkestra import _orkestra
from orkestra._times import to_seconds

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = ["Reject", "RetryAfter", "RetryPolicy"]


class Reject(Exception):  # noqa: N818 - not an error but an answer
    """A business refusal: no retry, no dead letter, the caller gets ``RejectedError``.

    Args:
        reason: Why, for people.
        data: More facts, a JSON value.
    """

    def __init__(self, reason: str, data: Any = None) -> None:
        super().__init__(reason, data)
        self.reason = reason
        self.data = data

    def __str__(self) -> str:
        return self.reason


class RetryAfter(Exception):  # noqa: N818 - as above
    """The handler wants to be called again after ``delay``.

    This is an attempt, but it uses up no retry: the handler knows what it waits for.

    Args:
        delay: Seconds, or a ``timedelta``.
    """

    def __init__(self, delay: float | timedelta) -> None:
        super().__init__(delay)
        self.delay = to_seconds(delay)
        if not 0 <= self.delay < float("inf"):
            message = f"delay: expected 0 or more seconds, found {self.delay}"
            raise ValueError(message)

    def __str__(self) -> str:
        return f"retry after {self.delay:g} s"


def type_names(error: type[BaseException]) -> list[str]:
    """The names of an error's type and its bases, its own first."""
    return [
        f"{kind.__module__}.{kind.__qualname__}"
        for kind in error.__mro__
        if issubclass(kind, BaseException)
    ]


@dataclass(frozen=True)
class RetryPolicy:
    """When to try again.

    The delay before retry ``n`` (1-based) is ``initial * multiplier ** (n - 1)``, at
    most ``max_delay``, of which the part ``jitter`` is random: 1 (full jitter) gives
    anything from 0 to the delay, 0 the delay itself.

    Args:
        max_retries: Retries after the first attempt; ``None`` means 0 for a command
            and 3 for an event.
        initial: Delay before the first retry, in seconds.
        multiplier: Growth from one retry to the next, at least 1.
        max_delay: No delay is longer, in seconds.
        jitter: Share of the delay that is random, 0 to 1.
        retry_on: Only errors of these types are retried; empty means all. A class, or
            its name with or without its module.
        give_up_on: Errors of these types are never retried. Stronger than `retry_on`.

    Raises:
        InvalidRetryPolicyError: A number is out of its range.
    """

    max_retries: int | None = None
    initial: float | timedelta = 0.1
    multiplier: float = 2.0
    max_delay: float | timedelta = 30.0
    jitter: float = 1.0
    retry_on: tuple[type[BaseException] | str, ...] = ()
    give_up_on: tuple[type[BaseException] | str, ...] = ()
    _native: _orkestra.Policy = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.max_retries is not None and (
            isinstance(self.max_retries, bool)
            or not isinstance(self.max_retries, int)
            or not 0 <= self.max_retries < 2**32
        ):
            message = f"max_retries: expected 0 or more, found {self.max_retries!r}"
            raise ValueError(message)
        native = _orkestra.Policy(
            max_retries=self.max_retries,
            initial=to_seconds(self.initial),
            multiplier=float(self.multiplier),
            max_delay=to_seconds(self.max_delay),
            jitter=float(self.jitter),
            retry_on=[_name(kind) for kind in self.retry_on],
            give_up_on=[_name(kind) for kind in self.give_up_on],
        )
        object.__setattr__(self, "_native", native)

    def delay(self, retry: int, draw: float) -> float:
        """Seconds before retry `retry` (1-based) for a `draw` from [0, 1)."""
        return self._native.delay(retry, draw)

    def wants(self, error: BaseException) -> bool:
        """Whether `error` may be retried at all."""
        return self._native.wants(type_names(type(error)))

    def with_max_retries(self, max_retries: int | None) -> RetryPolicy:
        """The same policy with another number of retries; ``None`` changes nothing."""
        if max_retries is None:
            return self
        return replace(self, max_retries=max_retries)


def _name(kind: type[BaseException] | str) -> str:
    return kind if isinstance(kind, str) else type_names(kind)[0]
