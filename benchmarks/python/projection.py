"""Events per second that a projection takes into an SQL view: `projection.py SIDE`.

Batches of 1,000, and for each one transaction of the view's own with the view's
rows and the checkpoint. `eventsourcing-runner` is that library's documented way,
a transaction for each event; `eventsourcing` reads its log in sections and writes
rows and tracking itself, through its own recorder.
"""

from __future__ import annotations

import asyncio
import sys

from _timing import emit

EVENTS = 200_000
RUNNER_EVENTS = 2_000
BATCH = 1_000


def main(side: str) -> None:
    """Runs one side and prints its figure."""
    if side == "orkestra":
        from _board_ours import project

        emit(asyncio.run(project(EVENTS, BATCH)), "events/s")
        return
    from _board_eventsourcing import in_sections, with_runner

    by_hand = side == "eventsourcing"
    rate = in_sections(EVENTS, BATCH) if by_hand else with_runner(RUNNER_EVENTS)
    emit(rate, "events/s")


if __name__ == "__main__":
    main(sys.argv[1])
