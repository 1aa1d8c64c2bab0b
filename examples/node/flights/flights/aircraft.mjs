/** One aircraft: what may happen to it follows from what happened before. */
import { aggregate, Reject } from "orkestra";
import { ArriveFlight, CancelFlight, DepartFlight, ScheduleFlight, streamOf } from "./commands.mjs";
import {
  FLIGHT_EVENTS,
  FlightArrived,
  FlightCancelled,
  FlightDeparted,
  FlightDiverted,
  FlightScheduled,
} from "./events.mjs";

/** How many aircraft are kept folded: all of them. */
const CACHE = 10_000;

/** @typedef {{ flight: string, carrier: string, origin: string }} Leg */
/**
 * The flights that it is to fly, and the one that it is flying.
 *
 * @typedef {{ scheduled: Readonly<Record<string, Leg>>, flying: Leg | null }} AircraftState
 */

/** @returns {AircraftState} */
const initial = () => ({ scheduled: {}, flying: null });

/**
 * @param {AircraftState} state
 * @param {import("./commands.mjs").FlightCommand} command
 * @returns {import("./events.mjs").FlightEvent[]}
 */
function decide({ scheduled, flying }, command) {
  const { flight } = command;
  if (ScheduleFlight.is(command)) {
    if (flight in scheduled || flying?.flight === flight) {
      throw new Reject(`${flight} is scheduled already`);
    }
    const { carrier, origin, dest } = command;
    return [FlightScheduled({ flight, carrier, origin, dest })];
  }
  if (ArriveFlight.is(command)) {
    if (flying?.flight !== flight) throw new Reject(`${flight} is not in the air`);
    if (command.delay === null) return [FlightDiverted(flying)];
    return [FlightArrived({ ...flying, delay: command.delay })];
  }
  const leg = scheduled[flight];
  if (leg === undefined) throw new Reject(`${flight} is not waiting to depart`);
  if (!DepartFlight.is(command)) return [FlightCancelled(leg)];
  const departed = FlightDeparted({ ...leg, delay: command.delay });
  // It departs again, so its last flight came down somewhere.
  return flying === null ? [departed] : [FlightDiverted(flying), departed];
}

/**
 * @param {AircraftState} state
 * @param {import("./events.mjs").FlightEvent} event
 * @returns {AircraftState}
 */
function evolve({ scheduled, flying }, event) {
  const { flight, carrier, origin } = event;
  if (FlightScheduled.is(event)) {
    return { scheduled: { ...scheduled, [flight]: { flight, carrier, origin } }, flying };
  }
  if (FlightArrived.is(event) || FlightDiverted.is(event)) return { scheduled, flying: null };
  const { [flight]: leg = null, ...waiting } = scheduled;
  return { scheduled: waiting, flying: FlightCancelled.is(event) ? flying : leg };
}

export const Aircraft = aggregate({
  name: "aircraft",
  commands: [ScheduleFlight, DepartFlight, ArriveFlight, CancelFlight],
  events: FLIGHT_EVENTS,
  cache: CACHE,
  initial,
  streamId: streamOf,
  decide,
  evolve,
});
