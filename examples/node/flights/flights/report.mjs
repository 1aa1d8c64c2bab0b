/** The table of the board, and what a process and a store take. */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { Tally } from "./board.mjs";

const HEADER = ["", "flights", "cancelled", "diverted", "late departing", "late arriving"];
export const MIB = 2 ** 20;

const whole = new Intl.NumberFormat("en");

/**
 * Mean delays in minutes, per carrier, per airport of origin, and in all.
 *
 * @param {import("./board.mjs").Board} board
 */
export function table(board) {
  const parts = [[...board.carriers].sort(byName), [...board.airports].sort(byName), [all(board)]];
  const rows = parts.map((part) => part.map(([name, tally]) => cells(name, tally)));
  const every = [HEADER, ...rows.flat()];
  const widths = HEADER.map((_, column) =>
    Math.max(...every.map((row) => row[column]?.length ?? 0)),
  );
  const rule = widths.map((width) => "-".repeat(width)).join("  ");
  /** @param {readonly string[]} row */
  const line = (row) =>
    row
      .map((cell, column) => {
        const width = widths[column] ?? 0;
        return column === 0 ? cell.padEnd(width) : cell.padStart(width);
      })
      .join("  ")
      .trimEnd();
  return [line(HEADER), ...rows.flatMap((part) => [rule, ...part.map(line)])].join("\n");
}

/** @param {[string, unknown]} a @param {[string, unknown]} b */
const byName = ([a], [b]) => (a < b ? -1 : 1);

/**
 * @param {import("./board.mjs").Board} board
 * @returns {[string, Tally]}
 */
const all = (board) => ["all", board.total()];

/** @param {string} name @param {Tally} tally */
function cells(name, tally) {
  return [
    name,
    whole.format(tally.flights),
    whole.format(tally.cancelled),
    whole.format(tally.diverted),
    mean(tally.departureMinutes, tally.departures),
    mean(tally.arrivalMinutes, tally.arrivals),
  ];
}

/** @param {number} minutes @param {number} count */
export const mean = (minutes, count) => (count === 0 ? "-" : (minutes / count).toFixed(2));

/**
 * The size of the store's and the view's files; 0 where a server has them.
 *
 * @param {string | undefined} path
 */
export function storeBytes(path) {
  if (path === undefined) return 0;
  const files = readdirSync(dirname(path)).filter((file) => file.startsWith(basename(path)));
  return files.reduce((sum, file) => sum + statSync(join(dirname(path), file)).size, 0);
}

/** The most memory that this process has had resident. */
export function peakBytes() {
  const status = "/proc/self/status";
  // What getrusage reports may be of the program that started this one.
  const line = existsSync(status)
    ? readFileSync(status, "utf8").match(/^VmHWM:\s+(\d+) kB$/m)
    : null;
  return (line === null ? process.resourceUsage().maxRSS : Number(line[1])) * 1024;
}
