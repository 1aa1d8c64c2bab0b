/** What the demo notes about itself in the store, beside the flights. */
import { event } from "orkestra";
import { z } from "zod";

export const STREAM = "replay";

/** A store is about to be filled: by whom, with how many rows (none: all). */
export const ReplayStarted = event(
  "Flights.Replays.ReplayStarted",
  z.object({ runtime: z.string(), limit: z.int().nullable() }),
);
/** Every row was replayed. */
export const ReplayFinished = event("Flights.Replays.ReplayFinished", z.object({ rows: z.int() }));
