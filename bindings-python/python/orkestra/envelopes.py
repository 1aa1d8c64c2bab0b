"""What becomes of a message, as middleware and callers see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from orkestra._orkestra import EventEnvelope
from orkestra.messages import id_of, metadata_of

if TYPE_CHECKING:
    from datetime import datetime

    from orkestra._orkestra import Metadata
    from orkestra.messages import Command

__all__ = ["CommandEnvelope", "CommandStatus", "EventEnvelope"]

CommandStatus = Literal["pending", "dispatched", "succeeded", "failed", "rejected"]


@dataclass
class CommandEnvelope:
    """A command and what becomes of it.

    Attributes:
        command: The command.
        max_retries: Retries that the sender wants; ``None`` leaves it to the handler.
        status: Where it stands.
        attempts: Attempts so far.
        dispatched_at: When it was first sent, UTC.
        completed_at: When it was handled, refused or given up, UTC.
        result: The handler's result.
        error: What the last attempt failed with.
        context: For middleware: what one leaves here the next one finds.
    """

    command: Command[Any]
    max_retries: int | None = None
    status: CommandStatus = "pending"
    attempts: int = 0
    dispatched_at: datetime | None = None
    completed_at: datetime | None = None
    result: Any = None
    error: BaseException | None = None
    context: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The command's id."""
        return id_of(self.command)

    @property
    def metadata(self) -> Metadata:
        """The command's metadata."""
        return metadata_of(self.command)

    @property
    def retryable(self) -> bool:
        """Whether another attempt is allowed: failed, attempts <= max_retries."""
        return self.status == "failed" and self.attempts <= (self.max_retries or 0)
