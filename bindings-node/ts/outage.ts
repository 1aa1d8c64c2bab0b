/**
 * What databases and the network call an error: names by which the core tells a database that is away from an event that cannot be handled.
 *
 * @packageDocumentation
 */

/** What pg and its pool say without a code when the connection is lost or cannot be had. */
const LOST =
  /^(Connection terminated|timeout expired$|timeout exceeded when trying to connect|Query read timeout$|Client has encountered a connection error)/;

/** Primary result codes, https://sqlite.org/rescode.html: node:sqlite gives numbers. */
const SQLITE: Readonly<Record<number, string>> = {
  5: "SQLITE_BUSY",
  6: "SQLITE_LOCKED",
  13: "SQLITE_FULL",
};

/** The codes of an error and its causes: SQLSTATEs, names of SQLite and of the system. */
export function knownAs(error: unknown): string[] {
  const names = new Set<string>();
  let next = error;
  for (let depth = 0; depth < 10 && next instanceof Error; depth++) {
    const { code, errcode } = next as { code?: unknown; errcode?: unknown };
    if (typeof code === "string") {
      names.add(code);
      // SQLITE_BUSY_SNAPSHOT and others say more than their primary code.
      const primary = /^SQLITE_[A-Z]+/.exec(code)?.[0];
      if (primary !== undefined) names.add(primary);
    }
    if (typeof errcode === "number") {
      const name = SQLITE[errcode & 0xff];
      if (name !== undefined) names.add(name);
    }
    if (LOST.test(next.message)) names.add("ECONNRESET");
    next = next.cause;
  }
  return [...names];
}
