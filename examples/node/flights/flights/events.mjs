/** What happens to flights. Delays are minutes, negative when early. */
import { event } from "orkestra";
import { z } from "zod";

const of = { flight: z.string(), carrier: z.string(), origin: z.string() };

export const FlightScheduled = event(
  "Flights.Events.FlightScheduled",
  z.object({ ...of, dest: z.string() }),
);
export const FlightDeparted = event(
  "Flights.Events.FlightDeparted",
  z.object({ ...of, delay: z.int() }),
);
export const FlightArrived = event(
  "Flights.Events.FlightArrived",
  z.object({ ...of, delay: z.int() }),
);
/** It came down, but not where it was going. */
export const FlightDiverted = event("Flights.Events.FlightDiverted", z.object(of));
export const FlightCancelled = event("Flights.Events.FlightCancelled", z.object(of));

/** Of every flight. */
export const FLIGHT_EVENTS = [
  FlightScheduled,
  FlightDeparted,
  FlightArrived,
  FlightDiverted,
  FlightCancelled,
];

/**
 * @typedef {import("orkestra").EventOf<typeof FlightScheduled>
 *   | import("orkestra").EventOf<typeof FlightDeparted>
 *   | import("orkestra").EventOf<typeof FlightArrived>
 *   | import("orkestra").EventOf<typeof FlightDiverted>
 *   | import("orkestra").EventOf<typeof FlightCancelled>} FlightEvent
 */
