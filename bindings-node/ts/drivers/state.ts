/**
 * The state store's own functions, called in the user's transaction.
 *
 * @packageDocumentation
 */
import { InvalidConnectionError } from "../errors.js";
import { type Connection, linkOf } from "./index.js";
import type { Parameter, Steps } from "./link.js";

/** A function of the state store's schema. */
export interface StateCall {
  /** The schema; nothing if the state is not kept in PostgreSQL. */
  readonly schema: string | null;
  readonly name: string;
  /** The types of its parameters. */
  readonly types: readonly string[];
  readonly parameters: readonly Parameter[];
}

/**
 * What a function of the state store returns, called on the user's connection.
 *
 * @throws {InvalidConnectionError} if the state is not kept in PostgreSQL, or the connection is to something else.
 * @throws {NoTransactionError} if the connection would commit each statement by itself.
 */
export async function callState(connection: Connection, call: StateCall): Promise<unknown> {
  const { schema, name, types, parameters } = call;
  const link = linkOf(connection);
  if (schema === null || link.kind !== "async") {
    const elsewhere = schema === null ? ", and the state is kept elsewhere" : "";
    throw refusal(`${connection.constructor.name}${elsewhere}`);
  }
  const casts = types.map((type, i) => `CAST($${i + 1} AS ${type})`).join(", ");
  const sql = `SELECT "${schema.replaceAll('"', '""')}".${name}(${casts})`;
  return link.run(function* work(): Steps<unknown> {
    try {
      const [row] = yield { sql, parameters };
      return row?.[0];
    } catch (error) {
      const { code, message } = error as { readonly code?: string; readonly message: string };
      if (!code || !NOT_THERE.includes(code)) throw error;
      const refused = refusal(`a connection to another database: ${message}`);
      refused.cause = error;
      throw refused;
    }
  });
}

/** SQLSTATEs: no such schema, no such function. */
const NOT_THERE = ["3F000", "42883"];

function refusal(found: string): InvalidConnectionError {
  const expected = "a connection to the PostgreSQL database that keeps the app's state";
  return new InvalidConnectionError(`expected ${expected}, found ${found}`, { expected, found });
}
