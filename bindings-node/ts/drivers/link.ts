/**
 * What all drivers have in common. What has to happen is a generator of statements that knows no driver: a synchronous connection runs it
 * at once, an asynchronous one statement by statement.
 *
 * @packageDocumentation
 */
import { NoTransactionError } from "../errors.js";

/** Whose SQL a connection speaks. */
export type Dialect = "postgres" | "sqlite";

/** What a parameter may be. */
export type Parameter = string | number | null | Buffer;

/** A statement of ours, with `$1` for PostgreSQL and `?1` for SQLite, and its parameters in order. */
export interface Statement {
  readonly sql: string;
  readonly parameters: readonly Parameter[];
}

/** A row: the values in the order of the columns. PostgreSQL's are text, SQLite's may be bigints. */
export type Cells = readonly unknown[];

/** Whether a database says yes. */
export const isTrue = (value: unknown): boolean => value === "t" || Number(value) === 1;

/** Gives statements, takes their rows, returns a result. */
export type Steps<T> = Generator<Statement, T, readonly Cells[]>;

/** The steps in a dialect. */
export type Work<T> = (dialect: Dialect) => Steps<T>;

/** A connection that blocks: what it does is done when the call returns. */
export interface SyncLink {
  readonly kind: "sync";
  run<T>(work: Work<T>): T;
}

/** A connection that is awaited. */
export interface AsyncLink {
  readonly kind: "async";
  run<T>(work: Work<T>): Promise<T>;
}

export type Link = SyncLink | AsyncLink;

/** Runs `steps` on a connection that blocks. */
export function runNow<T>(steps: Steps<T>, rows: (statement: Statement) => readonly Cells[]): T {
  let next = steps.next();
  while (!next.done) {
    let found: readonly Cells[];
    try {
      found = rows(next.value);
    } catch (error) {
      next = steps.throw(error);
      continue;
    }
    next = steps.next(found);
  }
  return next.value;
}

/** Runs `steps` on a connection that is awaited. */
export async function runSoon<T>(
  steps: Steps<T>,
  rows: (statement: Statement) => Promise<readonly Cells[]>,
): Promise<T> {
  let next = steps.next();
  while (!next.done) {
    let found: readonly Cells[];
    try {
      found = await rows(next.value);
    } catch (error) {
      next = steps.throw(error);
      continue;
    }
    next = steps.next(found);
  }
  return next.value;
}

/** The error for a connection on which nothing would be atomic. */
export function noTransaction(connection: string): NoTransactionError {
  const reason = "found a connection that commits each statement by itself";
  return new NoTransactionError(`${connection}: expected an open transaction, ${reason}`, {
    connection,
  });
}
