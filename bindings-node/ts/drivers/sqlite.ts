/**
 * Databases of `better-sqlite3` and `node:sqlite`, both of which block.
 *
 * @packageDocumentation
 */
import {
  type Cells,
  noTransaction,
  runNow,
  type Statement,
  type SyncLink,
  type Work,
} from "./link.js";

/** What we use of a `Database` of better-sqlite3. */
export interface BetterDatabase {
  readonly inTransaction: boolean;
  prepare(sql: string): {
    readonly reader: boolean;
    raw(): { all(...parameters: unknown[]): Cells[] };
    run(...parameters: unknown[]): unknown;
  };
}

/** What we use of a `DatabaseSync` of node:sqlite. */
export interface NodeDatabase {
  /** From Node 22.16 and 24 on. */
  readonly isTransaction?: boolean;
  exec(sql: string): void;
  prepare(sql: string): { all(...parameters: unknown[]): Record<string, unknown>[] };
}

export function isBetterDatabase(given: object): given is BetterDatabase {
  return "inTransaction" in given && "pragma" in given && "prepare" in given;
}

export function isNodeDatabase(given: object): given is NodeDatabase {
  return "prepare" in given && "exec" in given && isNamed(Object.getPrototypeOf(given));
}

/** Whether it is of the class `DatabaseSync`, or of one that extends it. */
function isNamed(prototype: object | null): boolean {
  if (prototype === null) return false;
  if (prototype.constructor?.name === "DatabaseSync") return true;
  return isNamed(Object.getPrototypeOf(prototype) as object | null);
}

/** The link to a database of better-sqlite3. */
export function betterLink(database: BetterDatabase): SyncLink {
  return {
    kind: "sync",
    run<T>(work: Work<T>): T {
      if (!database.inTransaction) throw noTransaction("better-sqlite3 Database");
      return runNow(work("sqlite"), (statement) => {
        const { sql, parameters } = unnumbered(statement);
        const prepared = database.prepare(sql);
        if (prepared.reader) return prepared.raw().all(...parameters);
        prepared.run(...parameters);
        return [];
      });
    },
  };
}

/** The link to a database of node:sqlite. */
export function nodeLink(database: NodeDatabase): SyncLink {
  return {
    kind: "sync",
    run<T>(work: Work<T>): T {
      if (!inTransaction(database)) throw noTransaction("node:sqlite DatabaseSync");
      return runNow(work("sqlite"), (statement) => {
        const { sql, parameters } = unnumbered(statement);
        // Rows are objects: our statements give each column a name of its own.
        return database
          .prepare(sql)
          .all(...parameters)
          .map((row) => Object.values(row));
      });
    },
  };
}

function inTransaction(database: NodeDatabase): boolean {
  if (database.isTransaction !== undefined) return database.isTransaction;
  // Older ones do not say. A transaction inside a transaction is refused.
  try {
    database.exec("BEGIN");
  } catch {
    return true;
  }
  database.exec("ROLLBACK");
  return false;
}

/** With `?` for each use of a numbered parameter: the two libraries bind by order. */
function unnumbered({ sql, parameters }: Statement): Statement {
  const used: Statement["parameters"][number][] = [];
  const text = sql.replace(/\?(\d+)/g, (_, number: string) => {
    used.push(parameters[Number(number) - 1] ?? null);
    return "?";
  });
  return { sql: text, parameters: used };
}
