/** What a row of the file asks of an aircraft. */
import { command, type } from "orkestra";
import { z } from "zod";

/** @type {import("orkestra").Schema<import("orkestra").AggregateAnswer, import("orkestra").AggregateAnswer>} */
const result = type();

const of = { flight: z.string(), carrier: z.string(), tailnum: z.string().nullable() };

export const ScheduleFlight = command(
  "Flights.Commands.ScheduleFlight",
  z.object({ ...of, origin: z.string(), dest: z.string() }),
  { result },
);
export const DepartFlight = command(
  "Flights.Commands.DepartFlight",
  z.object({ ...of, delay: z.int() }),
  { result },
);
/** The aircraft came down; without a delay it did so at another airport. */
export const ArriveFlight = command(
  "Flights.Commands.ArriveFlight",
  z.object({ ...of, delay: z.int().nullable() }),
  { result },
);
export const CancelFlight = command("Flights.Commands.CancelFlight", z.object(of), { result });

/**
 * @typedef {import("orkestra").CommandOf<typeof ScheduleFlight>
 *   | import("orkestra").CommandOf<typeof DepartFlight>
 *   | import("orkestra").CommandOf<typeof ArriveFlight>
 *   | import("orkestra").CommandOf<typeof CancelFlight>} FlightCommand
 */

/**
 * Each aircraft has a stream; flights without one have their carrier's.
 *
 * @param {FlightCommand} command
 */
export const streamOf = ({ tailnum, carrier }) =>
  tailnum === null ? `carrier-${carrier}` : `aircraft-${tailnum}`;
