import { readFileSync } from "node:fs";
import * as orkestra from "orkestra";
import { OrkestraError, patternMatches, type RetryPolicy, retryDelay, topicOf } from "orkestra";
import * as testing from "orkestra/testing";
import { describe, expect, test } from "vitest";
import { attempt, native } from "../dist/esm/native.js";

type Json = Record<string, unknown>;

function vectors<T>(name: string): T {
  const file = new URL(`../../tests/vectors/${name}.json`, import.meta.url);
  return JSON.parse(readFileSync(file, "utf8")) as T;
}

function thrown(call: () => unknown): OrkestraError {
  try {
    call();
  } catch (error) {
    if (error instanceof OrkestraError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

const micros = (time: string): number => {
  const digits = /\.\d{3}(\d{1,3})/.exec(time)?.[1] ?? "0";
  return Date.parse(time) * 1000 + Number(digits.padEnd(3, "0"));
};

describe("topics.json", () => {
  const rows = vectors<Array<{ type: string; app_prefix: string | null; topic: string }>>("topics");
  test.each(rows)("$type without $app_prefix is $topic", ({ type, app_prefix, topic }) => {
    const call = () => topicOf(type, app_prefix ?? "");
    if (topic === "") expect(thrown(call)).toBeInstanceOf(OrkestraError);
    else expect(call()).toBe(topic);
  });
});

describe("patterns.json", () => {
  test("every pattern matches what it has to", () => {
    const rows = vectors<Array<{ pattern: string; topic: string; matches: boolean }>>("patterns");
    expect(rows.length).toBeGreaterThan(100);
    for (const { pattern, topic, matches } of rows) {
      expect(patternMatches(pattern, topic), `${pattern} ${topic}`).toBe(matches);
    }
  });
});

interface WirePolicy {
  readonly max_retries?: number;
  readonly initial?: number;
  readonly multiplier?: number;
  readonly max_delay?: number;
  readonly jitter?: number;
  readonly retry_on?: string[];
  readonly give_up_on?: string[];
}

function policyOf(wire: WirePolicy): RetryPolicy {
  const policy = {
    maxRetries: wire.max_retries,
    initialMs: wire.initial === undefined ? undefined : wire.initial * 1000,
    multiplier: wire.multiplier,
    maxDelayMs: wire.max_delay === undefined ? undefined : wire.max_delay * 1000,
    jitter: wire.jitter,
    retryOn: wire.retry_on,
    giveUpOn: wire.give_up_on,
  };
  return Object.fromEntries(Object.entries(policy).filter(([, value]) => value !== undefined));
}

describe("retry.json", () => {
  const retry = vectors<{
    delays: Array<{ policy: WirePolicy; retry: number; draw: number; delay_us: number }>;
    wants: Array<{ policy: WirePolicy; error_types: string[]; wants: boolean }>;
    invalid: Array<{ policy: WirePolicy; field: string }>;
  }>("retry");

  test("delays", () => {
    for (const { policy, retry: number, draw, delay_us } of retry.delays) {
      const delay = Math.round(retryDelay(policyOf(policy), number, draw) * 1000);
      expect(delay, JSON.stringify({ policy, number, draw })).toBe(delay_us);
    }
  });

  test("what is retried", () => {
    for (const { policy, error_types, wants } of retry.wants) {
      const registry = new native.Registry("shop", undefined);
      const name = "handler";
      const spec = { name, types: [], patterns: ["#"], policy: { ...policy, max_retries: 5 } };
      const handler = registry.addEventHandler(
        JSON.stringify({ ...spec, concurrency: null, timeout_ms: null }),
      );
      const delivery = new native.Delivery(registry, handler, undefined);
      delivery.begin();
      const next = delivery.failed(error_types, "[]", 0, 0.5);
      expect(typeof next, JSON.stringify({ policy, error_types })).toBe(
        wants ? "number" : "string",
      );
    }
  });

  test("policies that are refused", () => {
    for (const { policy, field } of retry.invalid) {
      const error = thrown(() => retryDelay(policyOf(policy), 1, 0.5));
      expect(error.code).toBe("ORK_RETRY_INVALID_POLICY");
      expect(error.details.field).toBe(field);
    }
  });
});

describe("ids.json", () => {
  const ids = vectors<{
    derived: Array<{ command_id: string; index: number; event_id: string }>;
    valid: Array<{ text: string; id: string }>;
    invalid: Array<{ text: string }>;
  }>("ids");

  test("ids of events made while handling a command", () => {
    for (const { command_id, index, event_id } of ids.derived) {
      expect(native.eventIdOf(command_id, index)).toBe(event_id);
    }
  });

  test("what is an id", () => {
    for (const { text, id } of ids.valid) expect(attempt(() => native.messageId(text))).toBe(id);
    for (const { text } of ids.invalid) {
      expect(thrown(() => attempt(() => native.messageId(text))).code).toBe(
        "ORK_MESSAGE_INVALID_ID",
      );
    }
  });
});

interface Envelope {
  readonly type: string;
  readonly id: string;
  readonly version?: number;
  readonly params?: Json;
  readonly data?: Json;
  readonly metadata: Json & { issued_at: string };
  readonly occurred_at?: string;
  readonly [key: string]: unknown;
}

describe("envelopes.json", () => {
  const envelopes = vectors<{
    write: Array<{ name: string; command?: Envelope; event?: Envelope; body: string }>;
    read: Array<{
      name: string;
      body: string;
      received_at: string;
      command?: Envelope;
      event?: Envelope;
      error?: { code: string; field?: string };
    }>;
  }>("envelopes");

  test.each(envelopes.write)("write: $name", ({ command, event, body }) => {
    const { params, data, metadata, occurred_at, ...facts } = (command ?? event) as Envelope;
    const { issued_at, ...fields } = metadata;
    const message = {
      ...facts,
      metadata: { fields, issued_at: micros(issued_at) },
      occurred_at: micros(occurred_at ?? issued_at),
      data: params ?? data,
    };
    const kind = command === undefined ? "event" : "command";
    expect(native.encodeMessage(kind, JSON.stringify(message))).toBe(body);
  });

  test.each(envelopes.read)("read: $name", ({ body, received_at, command, event, error }) => {
    const call = () => attempt(() => native.decodeMessage(body, micros(received_at ?? "")));
    if (error !== undefined) {
      const refused = thrown(call);
      expect(refused.code).toBe(error.code);
      if (error.field !== undefined) expect(refused.details.field).toBe(error.field);
      return;
    }
    const { kind, data, ...decoded } = JSON.parse(call()) as Json;
    const expected = (command ?? event) as Envelope;
    expect(kind).toBe(command === undefined ? "event" : "command");
    const payload = command === undefined ? { data } : { params: data };
    expect({ ...decoded, ...payload }).toEqual(expected);
  });
});

interface Line {
  readonly code: string;
  readonly layer: string;
  readonly class: string;
  readonly transient: boolean;
  readonly details: string[];
}

describe("errors.json", () => {
  const lines = vectors<Line[]>("errors");
  const classes = orkestra as unknown as Record<string, typeof OrkestraError>;

  test("is what the addon knows", () => {
    expect(JSON.parse(native.errorCatalogue())).toEqual(lines);
  });

  test.each(lines)("$code is $class", ({ code, layer, class: name, transient, details }) => {
    const reason = JSON.stringify({ code, message: "m", details: { [details[0] ?? "x"]: 1 } });
    const error = thrown(() =>
      attempt(() => {
        throw new Error(reason);
      }),
    );
    const base = `${layer.charAt(0)}${layer.slice(1).toLowerCase()}Error`;
    expect(error).toBeInstanceOf(classes[name]);
    expect(error).toBeInstanceOf(classes[base]);
    expect(error).toBeInstanceOf(Error);
    expect(error.name).toBe(name);
    expect(error.code).toBe(code);
    expect(error.transient).toBe(transient);
    expect(error.message).toBe("m");
  });

  test("there is no class without a line", () => {
    const known = new Set(lines.map((line) => line.class));
    const layers = new Set(Object.values(classes).map((type) => Object.getPrototypeOf(type)));
    for (const [name, type] of Object.entries(classes)) {
      if (typeof type !== "function" || !(type.prototype instanceof OrkestraError)) continue;
      expect(known.has(name) || layers.has(type), name).toBe(true);
    }
  });

  test("a code of a newer addon stays an OrkestraError", () => {
    const reason = JSON.stringify({ code: "ORK_NEW_THING", message: "m", details: {} });
    const error = thrown(() =>
      attempt(() => {
        throw new Error(reason);
      }),
    );
    expect(error.code).toBe("ORK_NEW_THING");
  });
});

describe("surface.json", () => {
  interface Row {
    readonly name: string;
    readonly node: string | null;
    readonly why?: string;
  }
  const rows = vectors<Row[]>("surface");
  const packages: Record<string, unknown> = { ...orkestra, testing };

  test.each(rows.filter(({ node }) => node !== null && !node.startsWith("type ")))(
    "$node is there",
    ({ node }) => {
      const path = (node as string).split(".");
      const last = path.pop() as string;
      const owner = path.reduce<unknown>((at, name) => (at as Json)[name], packages);
      if (path.length === 0 || owner === testing) {
        expect((owner as Json)[last]).toBeDefined();
        return;
      }
      const type = owner as { prototype: object };
      const fields = fieldsOf(path.at(-1) as string);
      expect(last in type.prototype || last in type || fields.has(last), node ?? "").toBe(true);
    },
  );

  test.each(rows.filter(({ node }) => node === null))("$name says why Node has none", ({ why }) => {
    expect(why).toMatch(/node/);
  });

  test("every public class is in a row", () => {
    const named = new Set(rows.flatMap(({ node }) => (node === null ? [] : [node.split(".")[0]])));
    for (const [name, value] of Object.entries(orkestra)) {
      if (typeof value !== "function" || !/^class\b/.test(value.toString())) continue;
      const isError = value === OrkestraError || value.prototype instanceof OrkestraError;
      expect(isError || named.has(name), name).toBe(true);
    }
  });
});

/** The fields that a new object of a class has. */
function fieldsOf(name: string): Set<string> {
  if (name === "Orkestra") {
    return new Set(Object.keys(new orkestra.Orkestra("shop", { store: "memory:", env: {} })));
  }
  if (name === "CommandEnvelope") {
    return new Set(Object.keys(new orkestra.CommandEnvelope({} as orkestra.Command)));
  }
  if (name === "EventEnvelope") {
    return new Set(Object.keys(new orkestra.EventEnvelope({} as orkestra.Event, [], [], 0, [])));
  }
  return new Set();
}
