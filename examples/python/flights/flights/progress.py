"""One line that says how far it is; on a terminal it is drawn anew."""

from __future__ import annotations

import sys
import time
from typing import TextIO

WIDTH = 30
DRAWN_EVERY = 0.2
"""Seconds between two drawings on a terminal."""
PRINTED_EVERY = 5.0
"""Seconds between two lines elsewhere, such as in a log."""


class Progress:
    """Counts to `total`; draws on stderr."""

    def __init__(self, label: str, total: int, out: TextIO = sys.stderr) -> None:
        self.done = 0
        self._label = label
        self._total = max(total, 1)
        self._out = out
        self._live = out.isatty()
        self._every = DRAWN_EVERY if self._live else PRINTED_EVERY
        self._started = self._shown = time.perf_counter()

    def step(self) -> None:
        self.done += 1
        # The clock is looked at now and then: most steps are an addition.
        if self.done % 64 == 0:
            now = time.perf_counter()
            if now - self._shown >= self._every:
                self._show(now)

    def reach(self, done: int, total: int) -> None:
        """As somebody else counts."""
        self.done, self._total = done, max(total, 1)
        now = time.perf_counter()
        if now - self._shown >= self._every:
            self._show(now)

    def end(self) -> None:
        self._show(time.perf_counter())
        if self._live:
            self._out.write("\n")

    def _show(self, now: float) -> None:
        self._shown = now
        seconds = max(now - self._started, 1e-9)
        share = min(self.done / self._total, 1.0)
        rate = self.done / seconds
        left = (self._total - self.done) / rate if rate else 0.0
        bar = ("#" * round(share * WIDTH)).ljust(WIDTH, ".")
        line = (
            f"{self._label} [{bar}] {share:4.0%}  {self.done:,} of {self._total:,}"
            f"  {rate:,.0f}/s  {max(left, 0):.0f} s left"
        )
        self._out.write(f"\r\x1b[2K{line}" if self._live else f"{line}\n")
        self._out.flush()
