/** The board from the log alone, as a second start finds it. */
import { Orkestra } from "orkestra";
import { Board } from "./board.mjs";
import { FLIGHT_EVENTS } from "./events.mjs";
import { ReplayFinished, ReplayStarted, STREAM } from "./replays.mjs";

/**
 * Reads the whole log; nothing if no replay was begun in the store.
 *
 * @param {string} store
 */
export async function rebuild(store) {
  const board = new Board();
  const app = new Orkestra("flights", { store });
  app.addTypes(...FLIGHT_EVENTS, ReplayStarted, ReplayFinished);
  await app.start();
  try {
    const notes = [];
    for await (const { event } of app.store.readStream(STREAM)) notes.push(event);
    const [started] = notes;
    if (!ReplayStarted.is(started)) return undefined;
    const begun = performance.now();
    for await (const { event } of app.store.readAll({ topics: ["events.*"] })) {
      board.count(/** @type {import("./events.mjs").FlightEvent} */ (event));
    }
    const seconds = (performance.now() - begun) / 1000;
    const finished = ReplayFinished.is(notes.at(-1));
    return { board, seconds, runtime: started.runtime, limit: started.limit, finished };
  } finally {
    await app.close();
  }
}
