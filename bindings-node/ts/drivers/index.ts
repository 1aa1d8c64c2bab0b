/**
 * The user's own connections: statements of ours inside their open transactions. No driver is imported here: whoever gives a connection of
 * one has imported it.
 *
 * @packageDocumentation
 */
import { InvalidConnectionError } from "../errors.js";
import type { Link } from "./link.js";
import { deadPgClient, isPgClient, pgLink } from "./pg.js";
import { betterLink, isBetterDatabase, isNodeDatabase, nodeLink } from "./sqlite.js";

export type { Cells, Dialect, Link, Parameter, Statement, Steps, Work } from "./link.js";
export { isTrue } from "./link.js";

/** A connection with an open transaction: a `Client` or `PoolClient` of pg, a `Database` of better-sqlite3, a `DatabaseSync` of node:sqlite. */
export type Connection = object;

/** What can be given, for people. */
const EXPECTED = "a client of pg, or a database of better-sqlite3 or node:sqlite";

/**
 * The way to execute statements on the connection that a user gave.
 *
 * @throws {InvalidConnectionError} if it is none that we know.
 */
export function linkOf(given: Connection): Link {
  if (typeof given === "object" && given !== null) {
    if (isBetterDatabase(given)) return betterLink(given);
    if (isNodeDatabase(given)) return nodeLink(given);
    if (isPgClient(given) && deadPgClient(given) === undefined) return pgLink(given);
  }
  const found = describe(given);
  throw new InvalidConnectionError(`expected ${EXPECTED}, found ${found}`, {
    expected: EXPECTED,
    found,
  });
}

function describe(given: unknown): string {
  if (given === null || typeof given !== "object") return given === null ? "null" : typeof given;
  const dead = isPgClient(given) ? deadPgClient(given) : undefined;
  if (dead !== undefined) return dead;
  const name = given.constructor?.name || "an object";
  return "totalCount" in given && "query" in given ? `${name}, a pool: connect a client` : name;
}
