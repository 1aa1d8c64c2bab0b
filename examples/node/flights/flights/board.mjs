/** The board: what is known of all flights, in whole numbers. */
import {
  FlightArrived,
  FlightCancelled,
  FlightDeparted,
  FlightDiverted,
  FlightScheduled,
} from "./events.mjs";

/** Sums and counts, so that two boards are equal or not, never nearly. */
export class Tally {
  flights = 0;
  cancelled = 0;
  diverted = 0;
  departures = 0;
  departureMinutes = 0;
  arrivals = 0;
  arrivalMinutes = 0;

  /** @param {import("./events.mjs").FlightEvent} event */
  count(event) {
    if (FlightScheduled.is(event)) {
      this.flights += 1;
    } else if (FlightDeparted.is(event)) {
      this.departures += 1;
      this.departureMinutes += event.delay;
    } else if (FlightArrived.is(event)) {
      this.arrivals += 1;
      this.arrivalMinutes += event.delay;
    } else if (FlightDiverted.is(event)) {
      this.diverted += 1;
    } else if (FlightCancelled.is(event)) {
      this.cancelled += 1;
    }
  }

  /** Each event was counted as one of these. */
  get events() {
    return this.flights + this.cancelled + this.diverted + this.departures + this.arrivals;
  }

  /** @param {Tally} other */
  add(other) {
    this.flights += other.flights;
    this.cancelled += other.cancelled;
    this.diverted += other.diverted;
    this.departures += other.departures;
    this.departureMinutes += other.departureMinutes;
    this.arrivals += other.arrivals;
    this.arrivalMinutes += other.arrivalMinutes;
  }

  toString() {
    return [
      this.flights,
      this.cancelled,
      this.diverted,
      this.departures,
      this.departureMinutes,
      this.arrivals,
      this.arrivalMinutes,
    ].join(" ");
  }
}

/** Flights, cancellations and delays, per carrier and per airport of origin. */
export class Board {
  /** @type {Map<string, Tally>} */
  carriers = new Map();
  /** @type {Map<string, Tally>} */
  airports = new Map();

  /** @param {import("./events.mjs").FlightEvent} event */
  count(event) {
    tallyOf(this.carriers, event.carrier).count(event);
    tallyOf(this.airports, event.origin).count(event);
  }

  /** How many were counted. */
  get events() {
    return this.total().events;
  }

  /**
   * Puts in what was counted before.
   *
   * @param {string} kind
   * @param {string} name
   * @param {Tally} tally
   */
  take(kind, name, tally) {
    (kind === "carrier" ? this.carriers : this.airports).set(name, tally);
  }

  /**
   * Each with its kind and name.
   *
   * @returns {Generator<[string, string, Tally]>}
   */
  *tallies() {
    for (const [name, tally] of this.carriers) yield ["carrier", name, tally];
    for (const [name, tally] of this.airports) yield ["airport", name, tally];
  }

  total() {
    const total = new Tally();
    for (const tally of this.carriers.values()) total.add(tally);
    return total;
  }

  /** As examples/flights.awk prints it, sorted. */
  lines() {
    return [...this.tallies()].map(([kind, name, tally]) => `${kind} ${name} ${tally}`).sort();
  }
}

/** @param {Map<string, Tally>} tallies @param {string} name */
function tallyOf(tallies, name) {
  let tally = tallies.get(name);
  if (tally === undefined) {
    tally = new Tally();
    tallies.set(name, tally);
  }
  return tally;
}
