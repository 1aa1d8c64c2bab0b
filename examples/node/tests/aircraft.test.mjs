import { given } from "orkestra/testing";
import { expect, test } from "vitest";
import { Aircraft } from "../flights/flights/aircraft.mjs";
import {
  ArriveFlight,
  CancelFlight,
  DepartFlight,
  ScheduleFlight,
  streamOf,
} from "../flights/flights/commands.mjs";
import {
  FlightArrived,
  FlightCancelled,
  FlightDeparted,
  FlightDiverted,
  FlightScheduled,
} from "../flights/flights/events.mjs";

const flight = "2013-01-01 UA1545 EWR 0515";
const next = "2013-01-01 UA1078 EWR 1200";
const leg = { flight, carrier: "UA", origin: "EWR" };
const of = { flight, carrier: "UA", tailnum: "N14228" };

const scheduled = FlightScheduled({ ...leg, dest: "IAH" });
const departed = FlightDeparted({ ...leg, delay: 2 });
const scheduledNext = FlightScheduled({ ...leg, flight: next, dest: "IAH" });

test("a flight is scheduled once", () => {
  const again = ScheduleFlight({ ...of, origin: "EWR", dest: "IAH" });

  given(Aircraft).when(again).then(scheduled);
  given(Aircraft, scheduled).when(again).thenRejects();
  given(Aircraft, scheduled, departed).when(again).thenRejects();
});

test("only a scheduled flight departs", () => {
  const depart = DepartFlight({ ...of, delay: 2 });
  const { flight: _, ...rest } = leg;
  const waiting = { [next]: { flight: next, ...rest } };

  const taken = given(Aircraft, scheduled, scheduledNext).when(depart);

  taken.then(departed);
  taken.thenState({ scheduled: waiting, flying: leg });
  given(Aircraft).when(depart).thenRejects(`${flight} is not waiting to depart`);
});

test("only the flight in the air arrives", () => {
  const arrive = ArriveFlight({ ...of, delay: 11 });

  const taken = given(Aircraft, scheduled, departed).when(arrive);

  taken.then(FlightArrived({ ...leg, delay: 11 }));
  taken.thenState({ scheduled: {}, flying: null });
  given(Aircraft, scheduled).when(arrive).thenRejects();
  given(Aircraft, scheduled, departed)
    .when(ArriveFlight({ ...of, flight: next, delay: 11 }))
    .thenRejects(`${next} is not in the air`);
});

test("an arrival without a delay was at another airport", () => {
  given(Aircraft, scheduled, departed)
    .when(ArriveFlight({ ...of, delay: null }))
    .then(FlightDiverted(leg));
});

test("an aircraft that departs again had come down elsewhere", () => {
  given(Aircraft, scheduled, departed, scheduledNext)
    .when(DepartFlight({ ...of, flight: next, delay: 2 }))
    .then(FlightDiverted(leg), FlightDeparted({ ...leg, flight: next, delay: 2 }));
});

test("a flight that departed cannot be cancelled", () => {
  const cancel = CancelFlight(of);

  given(Aircraft, scheduled).when(cancel).then(FlightCancelled(leg));
  given(Aircraft, scheduled, departed).when(cancel).thenRejects();
});

test("flights without an aircraft are their carrier's", () => {
  expect(streamOf(CancelFlight(of))).toBe("aircraft-N14228");
  expect(streamOf(CancelFlight({ ...of, tailnum: null }))).toBe("carrier-UA");
});
