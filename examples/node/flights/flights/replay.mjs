/** Every row as commands to its aircraft, and a board kept by a projection. */
import { Orkestra } from "orkestra";
import { Aircraft } from "./aircraft.mjs";
import { streamOf } from "./commands.mjs";
import { Progress } from "./progress.mjs";
import { keepBoard, readBoard } from "./projection.mjs";
import { ReplayFinished, ReplayStarted, STREAM } from "./replays.mjs";
import { ROWS, rows } from "./rows.mjs";
import { openView } from "./view.mjs";

/**
 * Fills an empty store; `inFlight` rows at once share transactions. The seconds are from the first command to the board's last event.
 *
 * @param {string} data
 * @param {string} store
 * @param {{ limit: number | null, inFlight: number }} options
 */
export async function replay(data, store, { limit, inFlight }) {
  const view = await openView(store);
  const app = new Orkestra("flights", { store });
  app.addAggregate(Aircraft, { concurrency: inFlight });
  keepBoard(app, view);
  try {
    await app.start();
    await app.store.append(STREAM, [ReplayStarted({ runtime: "node", limit })], {
      expected: "no_stream",
    });
    const begun = performance.now();
    const progress = new Progress("replay", Math.min(limit ?? ROWS, ROWS));
    const events = await all(app, rows(data, limit), inFlight, progress);
    progress.end();
    await app.caughtUp("board", (await app.store.head()) ?? 0);
    const seconds = (performance.now() - begun) / 1000;
    await app.store.append(STREAM, [ReplayFinished({ rows: progress.done })], { expected: 0 });
    const board = await readBoard(view);
    return { board, rows: progress.done, events, seconds };
  } finally {
    await app.close();
    await view.close();
  }
}

/**
 * Dispatches what each row asks for; returns how many events the streams hold then.
 *
 * @param {Orkestra} app
 * @param {AsyncGenerator<import("./commands.mjs").FlightCommand[]>} source
 * @param {number} workers
 * @param {Progress} progress
 */
async function all(app, source, workers, progress) {
  /** The last row of each aircraft: the next one waits for it. @type {Map<string, Promise<void>>} */
  const last = new Map();
  /** @type {Map<string, number>} */
  const revisions = new Map();
  /** @param {string} stream @param {import("./commands.mjs").FlightCommand[]} wanted @param {Promise<void> | undefined} before */
  const perform = async (stream, wanted, before) => {
    await before;
    for (const command of wanted) {
      const { revision } = await app.dispatch(command);
      if (revision !== null) revisions.set(stream, revision);
    }
    progress.step();
  };
  const work = async () => {
    for (let next = await source.next(); !next.done; next = await source.next()) {
      const [first] = next.value;
      if (first === undefined) continue;
      const stream = streamOf(first);
      const row = perform(stream, next.value, last.get(stream));
      last.set(stream, row);
      await row;
    }
  };
  await Promise.all(Array.from({ length: workers }, work));
  return [...revisions.values()].reduce((sum, revision) => sum + revision + 1, 0);
}
