/**
 * Validation by any Standard Schema: zod, valibot, arktype and others.
 *
 * @packageDocumentation
 */
import type { StandardSchemaV1 } from "@standard-schema/spec";
import { type InvalidField, InvalidPayloadError } from "./errors.js";

/** Any schema that a library with Standard Schema made. */
export type Schema<Input = unknown, Output = unknown> = StandardSchemaV1<Input, Output>;

/** What a schema takes. */
export type InputOf<S extends Schema> = StandardSchemaV1.InferInput<S>;

/** What a schema gives. */
export type OutputOf<S extends Schema> = StandardSchemaV1.InferOutput<S>;

/**
 * A schema that checks nothing and only names a type: for payloads that are checked elsewhere, and for results.
 *
 * @example
 * ```ts
 * const OrderPlaced = event("Shop.OrderPlaced", type<{ order_id: string }>());
 * ```
 */
export function type<T>(): Schema<T, T> {
  return {
    "~standard": { version: 1, vendor: "orkestra", validate: (value) => ({ value: value as T }) },
  };
}

/** A payload: a JSON object. */
export type PayloadObject = Record<string, unknown>;

/**
 * What `schema` makes of `input`; fields that it does not know are errors.
 *
 * Unknown fields are those that the schema refuses (a strict object) or drops (zod's and valibot's `object`). A schema that lets them
 * through (arktype's default, a loose object) has allowed them.
 *
 * @throws {InvalidPayloadError} with one entry for each field that is wrong.
 */
export function construct(typeName: string, schema: Schema, input: unknown): PayloadObject {
  const output = outputOf(typeName, validate(typeName, schema, input));
  if (output !== input) {
    for (const key in input as PayloadObject) {
      if (!(key in output) && (input as PayloadObject)[key] !== undefined) {
        throw unknownFields(typeName, input as PayloadObject, output);
      }
    }
  }
  return output;
}

/**
 * What `schema` makes of a payload that was encoded before; fields that it does not know are left out.
 *
 * @throws {InvalidPayloadError} with one entry for each field that is wrong.
 */
export function decode(typeName: string, schema: Schema, input: PayloadObject): PayloadObject {
  const result = run(typeName, schema, input);
  if (result.issues === undefined) return outputOf(typeName, result);
  const unknown = unknownKeys(result.issues);
  if (unknown.length === 0) throw invalid(typeName, result.issues);
  const known = Object.fromEntries(Object.entries(input).filter(([key]) => !unknown.includes(key)));
  return outputOf(typeName, validate(typeName, schema, known));
}

type Result = StandardSchemaV1.Result<unknown>;
type Success = StandardSchemaV1.SuccessResult<unknown>;
type Issue = StandardSchemaV1.Issue;

function run(typeName: string, schema: Schema, input: unknown): Result {
  const result = schema["~standard"].validate(input);
  if (result instanceof Promise) {
    // Nobody waits for it any more; what it may reject with is not ours to report.
    result.catch(() => undefined);
    throw problem(typeName, "", "the schema is asynchronous: expected one that validates at once");
  }
  return result;
}

function validate(typeName: string, schema: Schema, input: unknown): Success {
  const result = run(typeName, schema, input);
  if (result.issues !== undefined) throw invalid(typeName, result.issues);
  return result;
}

function outputOf(typeName: string, result: Success): PayloadObject {
  const { value } = result;
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw problem(typeName, "", `expected an object, found ${describe(value)}`);
  }
  return value as PayloadObject;
}

/** What a strict object of zod, valibot or arktype says about top-level keys that it does not know. */
function unknownKeys(issues: readonly Issue[]): PropertyKey[] {
  return issues.flatMap((issue) => {
    const facts = issue as Issue & { code?: string; keys?: PropertyKey[]; type?: string };
    const path = issue.path ?? [];
    if (facts.code === "unrecognized_keys" && path.length === 0) return facts.keys ?? [];
    const undeclared = facts.type === "strict_object" || issue.message.endsWith("must be removed");
    const [key] = path;
    if (!undeclared || path.length !== 1 || key === undefined) return [];
    return [typeof key === "object" ? key.key : key];
  });
}

function unknownFields(
  typeName: string,
  input: PayloadObject,
  output: PayloadObject,
): InvalidPayloadError {
  const errors = Object.keys(input)
    .filter((key) => !(key in output))
    .map((key) => ({ path: key, message: "unknown field" }));
  return failure(typeName, errors);
}

function invalid(typeName: string, issues: readonly Issue[]): InvalidPayloadError {
  return failure(
    typeName,
    issues.map((issue) => ({ path: pathOf(issue), message: issue.message })),
  );
}

function problem(typeName: string, path: string, message: string): InvalidPayloadError {
  return failure(typeName, [{ path, message }]);
}

function failure(typeName: string, errors: readonly InvalidField[]): InvalidPayloadError {
  const reason = errors
    .map(({ path, message }) => (path === "" ? message : `${path}: ${message}`))
    .join("; ");
  return new InvalidPayloadError(`${typeName}: ${reason}`, { type_name: typeName, reason, errors });
}

function pathOf(issue: Issue): string {
  return (issue.path ?? [])
    .map((part) => String(typeof part === "object" ? part.key : part))
    .join(".");
}

/** A value's kind, for messages. */
export function describe(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "object") return value.constructor?.name ?? "an object";
  if (typeof value === "function") return value.name === "" ? "a function" : value.name;
  return typeof value;
}
