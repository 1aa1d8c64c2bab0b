/** The board from the log alone, and the view built anew beside the live one. */
import { Orkestra } from "orkestra";
import { Board } from "./board.mjs";
import { FLIGHT_EVENTS } from "./events.mjs";
import { Progress } from "./progress.mjs";
import { keepBoard, readBoard } from "./projection.mjs";
import { ReplayFinished, ReplayStarted, STREAM } from "./replays.mjs";
import { openView } from "./view.mjs";

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

/**
 * Builds the view anew and switches to it; nothing if no replay was begun in the store.
 *
 * @param {string} store
 */
export async function rebuildView(store) {
  const view = await openView(store);
  const app = new Orkestra("flights", { store });
  app.addTypes(ReplayStarted, ReplayFinished);
  keepBoard(app, view);
  try {
    await app.start();
    const notes = [];
    for await (const { event } of app.store.readStream(STREAM)) notes.push(event);
    const [started] = notes;
    if (!ReplayStarted.is(started)) return undefined;
    const begun = performance.now();
    const bar = new Progress("rebuild", 1);
    for await (const { position, head } of app.rebuild("board"))
      bar.reach(position ?? 0, head ?? 0);
    bar.end();
    const seconds = (performance.now() - begun) / 1000;
    const finished = ReplayFinished.is(notes.at(-1));
    const board = await readBoard(view);
    return { board, seconds, runtime: started.runtime, limit: started.limit, finished };
  } finally {
    await app.close();
    await view.close();
  }
}
