"""What happens to flights. Delays are minutes, negative when early."""

from __future__ import annotations

from orkestra import Event


class FlightScheduled(Event):
    flight: str
    carrier: str
    origin: str
    dest: str


class FlightDeparted(Event):
    flight: str
    carrier: str
    origin: str
    delay: int


class FlightArrived(Event):
    flight: str
    carrier: str
    origin: str
    delay: int


class FlightDiverted(Event):
    """It came down, but not where it was going."""

    flight: str
    carrier: str
    origin: str


class FlightCancelled(Event):
    flight: str
    carrier: str
    origin: str


FlightEvent = (
    FlightScheduled | FlightDeparted | FlightArrived | FlightDiverted | FlightCancelled
)
FLIGHT_EVENTS = (
    FlightScheduled,
    FlightDeparted,
    FlightArrived,
    FlightDiverted,
    FlightCancelled,
)
