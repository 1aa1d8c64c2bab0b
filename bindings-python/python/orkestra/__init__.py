"""Orkestra: commands, events and aggregates on one core shared with Node and Rust.

from orkestra import Command, Event, Orkestra

class PlaceOrder(Command[str]):
    product_id: str

app = Orkestra("my_app", store="memory:")

@app.command_handler(PlaceOrder)
async def place_order(command: PlaceOrder) -> str:
    return "order for " + command.product_id

assert app.dispatch(PlaceOrder(product_id="sku_42")).wait() == "order for sku_42"
"""

from orkestra import errors
from orkestra._orkestra import (
    Call,
    DeadLetter,
    EventEnvelope,
    Metadata,
    RecordedEvent,
    __version__,
)
from orkestra.aggregate import Aggregate, AggregateAnswer, Executed
from orkestra.app import Orkestra
from orkestra.checkpoint import Checkpoint
from orkestra.dead_letters import DeadLetterPage, DeadLetters
from orkestra.envelopes import CommandEnvelope
from orkestra.errors import *  # noqa: F403 - every class of the catalogue
from orkestra.handlers import Handlers
from orkestra.health import Health
from orkestra.inbox import Inbox
from orkestra.messages import Command, Event, RawEvent, id_of, metadata_of
from orkestra.outbox import Outbox, OutboxBacklog
from orkestra.projections import Progress, Projection, ProjectionState
from orkestra.retention import PurgedStreams, Retention
from orkestra.retry import Reject, RetryAfter, RetryPolicy
from orkestra.store import Appended, Store
from orkestra.subscriptions import Batch, Subscription

__all__ = [
    "Aggregate",
    "AggregateAnswer",
    "Appended",
    "Batch",
    "Call",
    "Checkpoint",
    "Command",
    "CommandEnvelope",
    "DeadLetter",
    "DeadLetterPage",
    "DeadLetters",
    "Event",
    "EventEnvelope",
    "Executed",
    "Handlers",
    "Health",
    "Inbox",
    "Metadata",
    "Orkestra",
    "Outbox",
    "OutboxBacklog",
    "Progress",
    "Projection",
    "ProjectionState",
    "PurgedStreams",
    "RawEvent",
    "RecordedEvent",
    "Reject",
    "Retention",
    "RetryAfter",
    "RetryPolicy",
    "Store",
    "Subscription",
    "__version__",
    "id_of",
    "metadata_of",
]
__all__ += errors.__all__
