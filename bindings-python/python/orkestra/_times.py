"""Times between the core (microseconds) and Python (aware ``datetime``)."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


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
