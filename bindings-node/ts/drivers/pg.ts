/**
 * Clients of `pg`.
 *
 * @packageDocumentation
 */
import {
  type AsyncLink,
  type Cells,
  isTrue,
  noTransaction,
  runSoon,
  type Statement,
} from "./link.js";

interface Query {
  readonly text: string;
  readonly values: unknown[];
  readonly rowMode: "array";
  readonly types: { getTypeParser(): (value: string | Buffer) => unknown };
}

/** What we use of a `Client` or a `PoolClient`. */
export interface PgClient {
  query(query: Query): Promise<{ rows: Cells[] }>;
  /** `I` idle, `T` in a transaction, `E` in a failed one, as the last answer said; from pg 8.17 on. */
  getTransactionStatus?(): string | null;
  /** Whether nothing is under way. */
  readonly readyForQuery?: unknown;
  /** What waits to be sent. */
  readonly _queryQueue?: unknown;
  /** Whether it was ended by the user. */
  readonly _ending?: unknown;
  /** Whether it is connected, or is about to be: statements wait for that. */
  readonly _connected?: unknown;
  readonly _connecting?: unknown;
  /** What was sent and not answered, where the client sends ahead. */
  readonly _sentQueryQueue?: unknown;
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

/** Why nothing will ever come back from this client; nothing while something may. */
export function deadPgClient(client: PgClient): string | undefined {
  if (client._ending === true) return "a pg.Client that was ended";
  // Its statements would wait for a connection that nobody makes.
  const isNew = client._connected === false && client._connecting === false;
  return isNew ? "a pg.Client that is not connected" : undefined;
}

/** The link to a client. */
export function pgLink(client: PgClient): AsyncLink {
  return {
    kind: "async",
    // Where the client knows, the first statement is sent before this call returns: whatever the caller sends next comes after it.
    run: (work) =>
      runSoon(work("postgres"), async ({ sql, parameters }) => {
        const open = transactionOf(client) ?? (await asked(client));
        if (open === "I") throw noTransaction("pg.Client");
        return rows(client, sql, parameters);
      }),
  };
}

/** Values as text, whatever parsers the user has set; a client with `binary` gets booleans and bigints of ours as bytes. */
const TEXT: Query["types"] = {
  getTypeParser: () => (value) => {
    if (typeof value === "string") return value;
    return value.length === 8 ? String(value.readBigInt64BE()) : value[0] === 1 ? "t" : "f";
  },
};

async function rows(
  client: PgClient,
  text: string,
  parameters: Statement["parameters"] = [],
): Promise<readonly Cells[]> {
  const values = [...parameters];
  return (await client.query({ text, values, rowMode: "array", types: TEXT })).rows;
}

/** `I`, `T` or `E`, without asking the server; nothing while statements are under way that may change it, and from an older pg. */
function transactionOf(client: PgClient): string | undefined {
  const { readyForQuery, _queryQueue: waiting, _sentQueryQueue: sent = [] } = client;
  const isIdle = readyForQuery === true && isEmpty(waiting) && isEmpty(sent);
  return isIdle ? (client.getTransactionStatus?.() ?? undefined) : undefined;
}

const isEmpty = (queue: unknown): boolean => Array.isArray(queue) && queue.length === 0;

/** As {@link transactionOf}, asked behind what is under way. */
async function asked(client: PgClient): Promise<string> {
  // A transaction that one statement opens for itself has the time of that statement.
  const [row] = await rows(client, "SELECT statement_timestamp() <> transaction_timestamp()");
  return client.getTransactionStatus?.() ?? (isTrue(row?.[0]) ? "T" : "I");
}
