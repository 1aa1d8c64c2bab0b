"""One aircraft: what may happen to it follows from what happened before."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flights.commands import (
    ArriveFlight,
    CancelFlight,
    DepartFlight,
    ScheduleFlight,
    stream_of,
)
from flights.events import (
    FlightArrived,
    FlightCancelled,
    FlightDeparted,
    FlightDiverted,
    FlightScheduled,
)
from orkestra import Aggregate, Reject

if TYPE_CHECKING:
    from flights.commands import FlightCommand
    from flights.events import FlightEvent


@dataclass(frozen=True)
class Leg:
    flight: str
    carrier: str
    origin: str


@dataclass(frozen=True)
class AircraftState:
    """The flights that it is to fly, and the one that it is flying."""

    scheduled: dict[str, Leg] = field(default_factory=dict)
    flying: Leg | None = None


class Aircraft(Aggregate[AircraftState]):
    """Its streams stay folded in memory: there are 4,050 of them in the file."""

    commands = (ScheduleFlight, DepartFlight, ArriveFlight, CancelFlight)
    events = (
        FlightScheduled,
        FlightDeparted,
        FlightArrived,
        FlightDiverted,
        FlightCancelled,
    )
    cache = 10_000

    def initial(self) -> AircraftState:
        return AircraftState()

    def stream_id(self, command: FlightCommand) -> str:
        return stream_of(command)

    def decide(self, state: AircraftState, command: FlightCommand) -> list[FlightEvent]:
        flight, flying = command.flight, state.flying
        if isinstance(command, ScheduleFlight):
            if flight in state.scheduled or (flying and flying.flight == flight):
                raise Reject(f"{flight} is scheduled already")
            return [
                FlightScheduled(
                    flight=flight,
                    carrier=command.carrier,
                    origin=command.origin,
                    dest=command.dest,
                )
            ]
        if isinstance(command, ArriveFlight):
            if flying is None or flying.flight != flight:
                raise Reject(f"{flight} is not in the air")
            if command.delay is None:
                return [diverted(flying)]
            return [
                FlightArrived(
                    flight=flight,
                    carrier=flying.carrier,
                    origin=flying.origin,
                    delay=command.delay,
                )
            ]
        leg = state.scheduled.get(flight)
        if leg is None:
            raise Reject(f"{flight} is not waiting to depart")
        if isinstance(command, CancelFlight):
            return [
                FlightCancelled(flight=flight, carrier=leg.carrier, origin=leg.origin)
            ]
        departed = FlightDeparted(
            flight=flight, carrier=leg.carrier, origin=leg.origin, delay=command.delay
        )
        # It departs again, so its last flight came down somewhere.
        return [departed] if flying is None else [diverted(flying), departed]

    def evolve(self, state: AircraftState, event: FlightEvent) -> AircraftState:
        if isinstance(event, FlightScheduled):
            leg = Leg(event.flight, event.carrier, event.origin)
            return AircraftState({**state.scheduled, event.flight: leg}, state.flying)
        if isinstance(event, (FlightArrived, FlightDiverted)):
            return AircraftState(state.scheduled, None)
        waiting = dict(state.scheduled)
        leg = waiting.pop(event.flight)
        if isinstance(event, FlightCancelled):
            return AircraftState(waiting, state.flying)
        return AircraftState(waiting, leg)


def diverted(leg: Leg) -> FlightDiverted:
    return FlightDiverted(flight=leg.flight, carrier=leg.carrier, origin=leg.origin)
