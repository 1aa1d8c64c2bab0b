"""What a row of the file asks of an aircraft."""

from __future__ import annotations

from orkestra import AggregateAnswer, Command


class ScheduleFlight(Command[AggregateAnswer]):
    flight: str
    carrier: str
    tailnum: str | None
    origin: str
    dest: str


class DepartFlight(Command[AggregateAnswer]):
    flight: str
    carrier: str
    tailnum: str | None
    delay: int


class ArriveFlight(Command[AggregateAnswer]):
    """The aircraft came down; without a delay it did so at another airport."""

    flight: str
    carrier: str
    tailnum: str | None
    delay: int | None


class CancelFlight(Command[AggregateAnswer]):
    flight: str
    carrier: str
    tailnum: str | None


FlightCommand = ScheduleFlight | DepartFlight | ArriveFlight | CancelFlight


def stream_of(command: FlightCommand) -> str:
    """Each aircraft has a stream; flights without one have their carrier's."""
    if command.tailnum is None:
        return f"carrier-{command.carrier}"
    return f"aircraft-{command.tailnum}"
