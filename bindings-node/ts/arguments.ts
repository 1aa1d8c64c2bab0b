/**
 * What callers gave, checked before it crosses: the native side reads numbers and JSON, and would take what is neither for something else.
 *
 * @packageDocumentation
 */
import { InvalidArgumentError } from "./errors.js";
import type { Start } from "./handlers.js";

/** Half a surrogate pair, which no other language can hold. */
const HALVED = /\p{Surrogate}/u;

/** What was found, for people. */
export function shown(value: unknown): string {
  if (typeof value === "string") return value.length > 100 ? `${value.slice(0, 100)}…` : value;
  if (typeof value === "function") return "a function";
  if (typeof value !== "object" || value === null) return String(value);
  return value.constructor?.name || "an object";
}

/** The error for an argument that cannot be used. */
export function invalid(argument: string, expected: string, found: unknown): InvalidArgumentError {
  const reason = `expected ${expected}, found ${shown(found)}`;
  return new InvalidArgumentError(`${argument}: ${reason}`, { argument, reason });
}

/** Throws unless it is an object with options. */
export function checkOptions(options: unknown, argument = "options"): void {
  if (typeof options === "object" && options !== null && !Array.isArray(options)) return;
  throw invalid(argument, "an object", options);
}

/** Why it is no text that can be stored; nothing if it is one. */
export function flawOf(value: unknown): string | undefined {
  if (typeof value !== "string") return `expected text, found ${shown(value)}`;
  return HALVED.test(value) ? "it is no well-formed text" : undefined;
}

/** Throws unless each is text, or not given. */
export function checkTexts(texts: Readonly<Record<string, unknown>>): void {
  for (const [argument, value] of Object.entries(texts)) {
    const reason = value === undefined || value === null ? undefined : flawOf(value);
    if (reason === undefined) continue;
    throw new InvalidArgumentError(`${argument}: ${reason}`, { argument, reason });
  }
}

/** Throws unless it is a list of texts, or not given. */
export function checkList(argument: string, list: unknown): void {
  if (list === undefined || list === null) return;
  if (!Array.isArray(list)) throw invalid(argument, "a list of texts", list);
  for (const [i, value] of list.entries()) {
    const reason = flawOf(value);
    if (reason === undefined) continue;
    const place = `${argument}[${i}]`;
    throw new InvalidArgumentError(`${place}: ${reason}`, { argument: place, reason });
  }
}

/** Throws unless each is a whole number from `least`. */
export function checkCounts(counts: Readonly<Record<string, unknown>>, least = 0): void {
  for (const [argument, value] of Object.entries(counts)) {
    if (Number.isSafeInteger(value) && (value as number) >= least) continue;
    throw invalid(argument, `a whole number from ${least}`, value);
  }
}

/** Throws unless it is a number of milliseconds. */
export function checkMillis(argument: string, value: unknown): void {
  if (typeof value === "number" && value >= 0) return;
  throw invalid(argument, "a number from 0", value);
}

/** Why it is no place in the log to start at; nothing if it is one. */
export function notAStart(start: Start): string | undefined {
  if (start === "origin" || start === "now") return undefined;
  if (Number.isSafeInteger(start) && (start as number) >= 0) return undefined;
  return `expected origin, now or a position, found ${shown(start)}`;
}
