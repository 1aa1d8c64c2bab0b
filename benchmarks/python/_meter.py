"""Counting what handlers handled."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Meter:
    """Counts handled messages, and says when the last of `count` came."""

    def __init__(self, count: int, done: Callable[[], object] | None = None) -> None:
        """Starts the clock at the first `tick`; calls `done` at the last."""
        self.count = count
        self.seen = 0
        self.start = self.end = 0.0
        self._done = done

    def tick(self) -> None:
        """Counts one message."""
        if not self.seen:
            self.start = perf_counter()
        self.seen += 1
        if self.seen == self.count:
            self.end = perf_counter()
            if self._done is not None:
                self._done()

    @property
    def rate(self) -> float:
        """Messages per second between the first and the last."""
        return (self.count - 1) / (self.end - self.start)
