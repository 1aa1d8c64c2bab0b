/**
 * Clients of `pg`.
 *
 * @packageDocumentation
 */
import {
  type AsyncLink,
  type Cells,
  noTransaction,
  runSoon,
  type Statement,
  type Work,
} from "./link.js";

/** What we use of a `Client` or a `PoolClient`. */
export interface PgClient {
  query(config: { text: string; values: unknown[]; rowMode: "array" }): Promise<{ rows: Cells[] }>;
  /** `I` idle, `T` in a transaction, `E` in a failed one; from pg 8.17 on. */
  getTransactionStatus?(): string | null;
}

export function isPgClient(given: object): given is PgClient {
  // A pool has `query` too, but each call of it may go to another connection.
  return (
    "query" in given &&
    typeof given.query === "function" &&
    "processID" in given &&
    "escapeIdentifier" in given
  );
}

/** The link to a client. */
export function pgLink(client: PgClient): AsyncLink {
  return {
    kind: "async",
    async run<T>(work: Work<T>): Promise<T> {
      await requireTransaction(client);
      return runSoon(work("postgres"), (statement) => rows(client, statement));
    },
  };
}

async function rows(client: PgClient, { sql, parameters }: Statement): Promise<readonly Cells[]> {
  const result = await client.query({ text: sql, values: [...parameters], rowMode: "array" });
  return result.rows;
}

/** Statements may be queued on the client, so its status counts only after they have been answered. */
async function requireTransaction(client: PgClient): Promise<void> {
  const text = "SELECT statement_timestamp() > transaction_timestamp()";
  const [row] = (await client.query({ text, values: [], rowMode: "array" })).rows;
  // A transaction that one statement opens for itself has the time of that statement.
  const open = client.getTransactionStatus?.() ?? (row?.[0] === true ? "T" : "I");
  if (open === "I") throw noTransaction("pg.Client");
}
