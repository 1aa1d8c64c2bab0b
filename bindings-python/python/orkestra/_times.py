"""Times between the core (microseconds) and Python (aware ``datetime``)."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_LONGEST = 2**1000
"""More seconds than this are no ``float`` any more."""


def from_micros(micros: int) -> datetime:
    """The moment so many microseconds after 1970-01-01T00:00:00 UTC."""
    return _EPOCH + timedelta(microseconds=micros)


def to_micros(time: datetime) -> int:
    """The reverse.

    Raises:
        ValueError: The time has no time zone.
    """
    if time.tzinfo is None:
        message = f"expected a time with a time zone, found {time}"
        raise ValueError(message)
    return (time - _EPOCH) // _MICROSECOND


def to_seconds(duration: float | timedelta) -> float:
    """A duration in seconds."""
    if isinstance(duration, timedelta):
        return duration.total_seconds()
    return float(duration)


def checked_seconds(name: str, duration: float | timedelta) -> float:
    """A duration in seconds, of the argument `name`.

    Raises:
        TypeError: It is neither a number nor a ``timedelta``.
        ValueError: It is negative or no number.
    """
    if not isinstance(duration, (int, float, timedelta)) or isinstance(duration, bool):
        found = type(duration).__qualname__
        message = f"{name}: expected seconds or a timedelta, found {found}"
        raise TypeError(message)
    if isinstance(duration, int) and duration > _LONGEST:
        return float("inf")
    seconds = to_seconds(duration)
    if not seconds >= 0:
        message = f"{name}: expected 0 or more seconds, found {duration}"
        raise ValueError(message)
    return seconds
