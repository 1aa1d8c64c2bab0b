/**
 * What a handler throws to say more than that it failed, and what is kept of what it threw.
 *
 * @packageDocumentation
 */
import { describe } from "./schema.js";

/**
 * A business refusal, thrown by a handler or thrown or returned by `decide`: no retry, no dead letter; the caller gets a `RejectedError`.
 *
 * @example
 * ```ts
 * if (stock < command.quantity) throw new Reject("out of stock", { stock });
 * ```
 */
export class Reject extends Error {
  /** More facts for the caller, JSON. */
  readonly data: unknown;

  constructor(reason: string, data: unknown = null) {
    super(reason);
    this.data = data;
  }

  override get name(): string {
    return "Reject";
  }
}

/** Thrown by a handler to be called again later. This is an attempt but uses up no retry. */
export class RetryAfter extends Error {
  /** Milliseconds to wait. */
  readonly delayMs: number;

  constructor(delayMs: number, reason = `retry after ${delayMs} ms`) {
    super(reason);
    this.delayMs = delayMs;
  }

  override get name(): string {
    return "RetryAfter";
  }
}

/** An error as data. */
export interface ErrorRecord {
  /** The error's class. */
  readonly type: string;
  /** Its message. */
  readonly message: string;
  /** Its stack, empty when there is none. */
  readonly trace: string;
}

/** The names of an error's class and its bases, its own first; `throw 1` counts as `number`. */
export function errorTypes(error: unknown): string[] {
  if (typeof error !== "object" || error === null) return [describe(error)];
  const names: string[] = [];
  let type: unknown = Object.getPrototypeOf(error);
  while (typeof type === "object" && type !== null && type !== Object.prototype) {
    names.push((type as { constructor?: { name?: string } }).constructor?.name ?? "");
    type = Object.getPrototypeOf(type);
  }
  const { name } = error as { name?: unknown };
  // Many libraries name their errors without a class of that name.
  if (typeof name === "string" && !names.includes(name)) names.unshift(name);
  return names.length === 0 ? ["object"] : names;
}

/** The error and its causes as data, latest first. */
export function errorRecords(error: unknown): ErrorRecord[] {
  const records: ErrorRecord[] = [];
  let next = error;
  do {
    records.push(recordOf(next));
    next = next instanceof Error ? next.cause : undefined;
  } while (next !== undefined && records.length < 10);
  return records;
}

function recordOf(error: unknown): ErrorRecord {
  const [type = "unknown"] = errorTypes(error);
  if (error instanceof Error) return { type, message: error.message, trace: error.stack ?? "" };
  return { type, message: text(error), trace: "" };
}

function text(value: unknown): string {
  try {
    return typeof value === "object" ? (JSON.stringify(value) ?? String(value)) : String(value);
  } catch {
    return describe(value);
  }
}
