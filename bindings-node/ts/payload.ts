/**
 * Payloads as JSON: checked before they leave the process, encoded once.
 *
 * @packageDocumentation
 */
import { NotJsonError, TooDeepError, TooLargeError } from "./errors.js";
import { describe } from "./schema.js";

/** Bytes that a payload may have unless the app says otherwise: 1 MiB. */
export const DEFAULT_MAX_PAYLOAD_BYTES = 1024 * 1024;

/** Levels of arrays and objects that a payload may have. */
export const MAX_DEPTH = 128;

/**
 * The JSON text of a payload.
 *
 * `undefined` fields are left out, dates are written in ISO 8601, an object with `toJSON` is what that returns.
 *
 * @throws {NotJsonError} with the path of a value that JSON cannot hold.
 * @throws {TooDeepError} if it is nested deeper than 128 levels.
 * @throws {TooLargeError} if the text has more than `maxBytes` bytes.
 */
export function encodePayload(typeName: string, payload: object, maxBytes: number): string {
  walk(typeName, payload, 1, []);
  const text = JSON.stringify(payload);
  // One UTF-16 unit is at most three bytes.
  if (text.length * 3 > maxBytes) {
    const size = Buffer.byteLength(text);
    if (size > maxBytes) {
      throw new TooLargeError(`${typeName}: expected at most ${maxBytes} bytes, found ${size}`, {
        type_name: typeName,
        size,
        limit: maxBytes,
      });
    }
  }
  return text;
}

/**
 * The JSON text of any value, for results and states.
 *
 * @throws {NotJsonError} with the path of a value that JSON cannot hold.
 */
export function encodeValue(typeName: string, value: unknown): string {
  visit(typeName, value, 0, [], "$");
  return JSON.stringify(value) ?? "null";
}

function walk(typeName: string, value: object, depth: number, above: object[]): void {
  if (depth > MAX_DEPTH) {
    const again = above.findIndex((other, index) => above.indexOf(other) < index);
    if (again >= 0) throw notJson(typeName, above.slice(0, again + 1), "a cycle");
    throw new TooDeepError(`${typeName}: expected at most ${MAX_DEPTH} levels of nesting`, {
      type_name: typeName,
      limit: MAX_DEPTH,
    });
  }
  above.push(value);
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index++) {
      const item: unknown = value[index];
      if (item === undefined) throw notJson(typeName, above, "undefined", index);
      visit(typeName, item, depth, above, index);
    }
  } else {
    for (const key in value)
      visit(typeName, (value as Record<string, unknown>)[key], depth, above, key);
  }
  above.pop();
}

function visit(
  typeName: string,
  value: unknown,
  depth: number,
  above: object[],
  key: string | number,
): void {
  switch (typeof value) {
    case "string":
    case "boolean":
    case "undefined":
      return;
    case "number":
      if (Number.isFinite(value)) return;
      throw notJson(typeName, above, String(value), key);
    case "object":
      if (value === null) return;
      if (!holdable(value)) throw notJson(typeName, above, describe(value), key);
      if ("toJSON" in value) return;
      walk(typeName, value, depth + 1, above);
      return;
    default:
      throw notJson(typeName, above, describe(value), key);
  }
}

/** Whether JSON holds what this object holds: not for maps, sets, bytes, errors and the like, of which JSON keeps nothing. */
function holdable(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype === Object.prototype || prototype === null || Array.isArray(value)) return true;
  if (value instanceof Date) return !Number.isNaN(value.getTime());
  return !ArrayBuffer.isView(value) && Object.prototype.toString.call(value) === "[object Object]";
}

function notJson(
  typeName: string,
  above: readonly object[],
  found: string,
  last?: string | number,
): NotJsonError {
  const keys = above.slice(1).map((value, index) => keyOf(above[index] as object, value));
  if (last !== undefined && last !== "$") keys.push(last);
  const path = keys.reduce<string>(
    (path, key) => (typeof key === "number" ? `${path}[${key}]` : `${path}.${key}`),
    "$",
  );
  const reason = `JSON cannot hold ${found}`;
  return new NotJsonError(`${typeName}: ${path}: ${reason}`, { type_name: typeName, path, reason });
}

function keyOf(parent: object, child: object): string | number {
  if (Array.isArray(parent)) return parent.indexOf(child);
  return Object.entries(parent).find(([, value]) => value === child)?.[0] ?? "?";
}
