"""The board: what the event handlers know of all flights, in whole numbers."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from flights.events import (
    FlightArrived,
    FlightCancelled,
    FlightDeparted,
    FlightDiverted,
    FlightScheduled,
)

if TYPE_CHECKING:
    from flights.events import FlightEvent


@dataclass
class Tally:
    """Sums and counts, so that two boards are equal or not, never nearly."""

    flights: int = 0
    cancelled: int = 0
    diverted: int = 0
    departures: int = 0
    departure_minutes: int = 0
    arrivals: int = 0
    arrival_minutes: int = 0

    def count(self, event: FlightEvent) -> None:
        if isinstance(event, FlightScheduled):
            self.flights += 1
        elif isinstance(event, FlightDeparted):
            self.departures += 1
            self.departure_minutes += event.delay
        elif isinstance(event, FlightArrived):
            self.arrivals += 1
            self.arrival_minutes += event.delay
        elif isinstance(event, FlightDiverted):
            self.diverted += 1
        elif isinstance(event, FlightCancelled):
            self.cancelled += 1

    def add(self, other: Tally) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


class Board:
    """Flights, cancellations and delays, per carrier and per airport of origin."""

    def __init__(self) -> None:
        self.events = 0
        self.carriers: defaultdict[str, Tally] = defaultdict(Tally)
        self.airports: defaultdict[str, Tally] = defaultdict(Tally)

    def count(self, event: FlightEvent) -> None:
        self.events += 1
        self.carriers[event.carrier].count(event)
        self.airports[event.origin].count(event)

    def total(self) -> Tally:
        total = Tally()
        for tally in self.carriers.values():
            total.add(tally)
        return total

    def lines(self) -> list[str]:
        """As examples/flights.awk prints it, sorted."""
        named = [(f"carrier {name}", tally) for name, tally in self.carriers.items()]
        named += [(f"airport {name}", tally) for name, tally in self.airports.items()]
        return sorted(" ".join(map(str, (name, *astuple(t)))) for name, t in named)
