"""The user's own connections: statements of ours inside their open transactions.

What has to happen is a generator of statements that knows no driver. A synchronous
connection runs it at once; an asynchronous one runs it when the result is awaited. No
driver is imported here: whoever gives a connection of one has imported it.
"""

from __future__ import annotations

from orkestra._drivers.link import (
    Answer,
    Dialect,
    Done,
    Row,
    Statement,
    Steps,
    Work,
    answer,
)
from orkestra._drivers.links import SUPPORTED, is_async, link, run

__all__ = [
    "SUPPORTED",
    "Answer",
    "Dialect",
    "Done",
    "Row",
    "Statement",
    "Steps",
    "Work",
    "answer",
    "is_async",
    "link",
    "run",
]
