"""The board: what is known of all flights, in whole numbers."""

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
    from collections.abc import Iterator

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

    @property
    def events(self) -> int:
        """Each event was counted as one of these."""
        happened = self.departures + self.arrivals
        return self.flights + self.cancelled + self.diverted + happened

    def add(self, other: Tally) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


class Board:
    """Flights, cancellations and delays, per carrier and per airport of origin."""

    def __init__(self) -> None:
        self.carriers: defaultdict[str, Tally] = defaultdict(Tally)
        self.airports: defaultdict[str, Tally] = defaultdict(Tally)

    def count(self, event: FlightEvent) -> None:
        self.carriers[event.carrier].count(event)
        self.airports[event.origin].count(event)

    @property
    def events(self) -> int:
        """How many were counted."""
        return self.total().events

    def take(self, kind: str, name: str, tally: Tally) -> None:
        """Puts in what was counted before."""
        (self.carriers if kind == "carrier" else self.airports)[name] = tally

    def tallies(self) -> Iterator[tuple[str, str, Tally]]:
        """Each with its kind and name."""
        for kind, named in (("carrier", self.carriers), ("airport", self.airports)):
            for name, tally in named.items():
                yield kind, name, tally

    def total(self) -> Tally:
        total = Tally()
        for tally in self.carriers.values():
            total.add(tally)
        return total

    def lines(self) -> list[str]:
        """As examples/flights.awk prints it, sorted."""
        return sorted(
            " ".join(map(str, (kind, name, *astuple(tally))))
            for kind, name, tally in self.tallies()
        )
