from __future__ import annotations

from flights.aircraft import Aircraft, AircraftState, Leg
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
from orkestra.testing import given

FLIGHT, NEXT = "2013-01-01 UA1545 EWR 0515", "2013-01-01 UA1078 EWR 1200"


def scheduled(flight: str = FLIGHT) -> FlightScheduled:
    return FlightScheduled(flight=flight, carrier="UA", origin="EWR", dest="IAH")


def departed(flight: str = FLIGHT) -> FlightDeparted:
    return FlightDeparted(flight=flight, carrier="UA", origin="EWR", delay=2)


def diverted(flight: str = FLIGHT) -> FlightDiverted:
    return FlightDiverted(flight=flight, carrier="UA", origin="EWR")


def depart(flight: str = FLIGHT) -> DepartFlight:
    return DepartFlight(flight=flight, carrier="UA", tailnum="N14228", delay=2)


def arrive(flight: str = FLIGHT, delay: int | None = 11) -> ArriveFlight:
    return ArriveFlight(flight=flight, carrier="UA", tailnum="N14228", delay=delay)


def cancel(tailnum: str | None = "N14228") -> CancelFlight:
    return CancelFlight(flight=FLIGHT, carrier="UA", tailnum=tailnum)


def test_a_flight_is_scheduled_once() -> None:
    again = ScheduleFlight(
        flight=FLIGHT, carrier="UA", tailnum="N14228", origin="EWR", dest="IAH"
    )

    given(Aircraft).when(again).then(scheduled())
    given(Aircraft, scheduled()).when(again).then_rejected()
    given(Aircraft, scheduled(), departed()).when(again).then_rejected()


def test_only_a_scheduled_flight_departs() -> None:
    waiting = {NEXT: Leg(NEXT, "UA", "EWR")}
    flying = AircraftState(waiting, Leg(FLIGHT, "UA", "EWR"))

    given(Aircraft, scheduled(), scheduled(NEXT)).when(depart()).then(
        departed()
    ).then_state(flying)
    given(Aircraft).when(depart()).then_rejected(f"{FLIGHT} is not waiting to depart")


def test_only_the_flight_in_the_air_arrives() -> None:
    arrived = FlightArrived(flight=FLIGHT, carrier="UA", origin="EWR", delay=11)
    in_the_air = (scheduled(), departed())

    given(Aircraft, *in_the_air).when(arrive()).then(arrived).then_state(
        AircraftState()
    )
    given(Aircraft, scheduled()).when(arrive()).then_rejected()
    given(Aircraft, *in_the_air).when(arrive(NEXT)).then_rejected(
        f"{NEXT} is not in the air"
    )


def test_an_arrival_without_a_delay_was_at_another_airport() -> None:
    given(Aircraft, scheduled(), departed()).when(arrive(delay=None)).then(diverted())


def test_an_aircraft_that_departs_again_had_come_down_elsewhere() -> None:
    before = (scheduled(), departed(), scheduled(NEXT))

    given(Aircraft, *before).when(depart(NEXT)).then(diverted(), departed(NEXT))


def test_a_flight_that_departed_cannot_be_cancelled() -> None:
    cancelled = FlightCancelled(flight=FLIGHT, carrier="UA", origin="EWR")

    given(Aircraft, scheduled()).when(cancel()).then(cancelled).then_state(
        AircraftState()
    )
    given(Aircraft, scheduled(), departed()).when(cancel()).then_rejected()


def test_flights_without_an_aircraft_are_their_carriers() -> None:
    assert stream_of(cancel()) == "aircraft-N14228"
    assert stream_of(cancel(tailnum=None)) == "carrier-UA"
