/**
 * Who and why: what travels beside a message's payload.
 *
 * @packageDocumentation
 */
import { inspect } from "node:util";
import type { Origin } from "./clock.js";
import { SYSTEM } from "./clock.js";
import { InvalidIdError, InvalidMetadataError } from "./errors.js";
import { attempt, native } from "./native.js";

/** `user`, `system`, `expert`, `scheduler` or any other lower-case word. */
export type ActorType = "user" | "system" | "expert" | "scheduler" | (string & {});

/** What a sender says about itself; what it leaves out comes from the message being handled, or from the defaults. */
export interface MetadataFields {
  /** Links a whole chain of messages; 1 to 255 characters. Default: the id of the chain's first message. */
  readonly correlationId?: string | undefined;
  /** The direct cause; 1 to 255 characters. Default: the message being handled. */
  readonly causationId?: string | undefined;
  /** Who acts; 1 to 255 characters. */
  readonly actorId?: string | undefined;
  /** Default `system`. */
  readonly actorType?: ActorType | undefined;
  /** Where it comes from, for example `web`; 1 to 255 characters. */
  readonly source?: string | undefined;
}

/** What a sender says about itself, on top of a whole metadata. */
export interface StampFields extends MetadataFields {
  /** Correlation, causation, actor and source to begin with, instead of what the handled message gives. */
  readonly metadata?: Metadata | undefined;
}

/** What a recorded or decoded message says about itself, keys as on the wire. */
export interface WireMetadata {
  readonly correlation_id: string;
  readonly causation_id: string | null;
  readonly actor_id: string | null;
  readonly actor_type: string;
  readonly source: string | null;
  readonly issued_at: string;
  /** The trace, under W3C's own names; most messages have none. */
  readonly traceparent?: string | null;
  readonly tracestate?: string | null;
  readonly baggage?: string | null;
}

/** The trace that a message belongs to, as W3C Trace Context and Baggage write it. Not checked: nonsense is passed on. */
export interface Trace {
  readonly traceparent: string | null;
  readonly tracestate: string | null;
  readonly baggage: string | null;
}

/** What a message that was read says of itself, for when somebody asks. */
export interface Unread {
  readonly id: string;
  readonly metadata: WireMetadata;
}

/** A link to another message: its id, or its stamp as long as nobody asked for the id. */
type Link = string | Metadata;

/**
 * Who sent a message, when, and what it belongs to. Immutable.
 *
 * A message's id and its chain are made when somebody asks for them, so stamping a message costs one small object.
 */
export class Metadata {
  readonly #origin: Origin;
  /** Milliseconds; of a message that was read, the text until somebody asks. */
  #time: number | string;
  #id: string | undefined;
  #correlation: Link | undefined;
  #causation: Link | undefined;
  #actorId: string | undefined;
  #actorType: string | undefined;
  #source: string | undefined;
  #trace: Trace | undefined;
  /** For an event made while handling a command: its number among those. */
  #index = -1;
  /** Set once a sending has used this stamp. */
  #sent = false;

  private constructor(origin: Origin, time: number | string, id: string | undefined) {
    this.#origin = origin;
    this.#time = time;
    this.#id = id;
  }

  /** Links a whole chain of messages. Of the chain's first message it is that message's own id. */
  get correlationId(): string {
    const link = this.#correlation;
    if (typeof link === "string") return link;
    this.#correlation = link === undefined ? Metadata.idOf(this) : link.correlationId;
    return this.#correlation;
  }

  /** The message that caused this one, `null` for the first of a chain. */
  get causationId(): string | null {
    const link = this.#causation;
    if (link === undefined) return null;
    if (typeof link === "string") return link;
    this.#causation = Metadata.idOf(link);
    return this.#causation;
  }

  /** Who acts, for example `user_123`. */
  get actorId(): string | null {
    return this.#actorId ?? null;
  }

  /** The kind of actor; `system` unless the sender said otherwise. */
  get actorType(): ActorType {
    return this.#actorType ?? "system";
  }

  /** Where it came from, for example `web`. */
  get source(): string | null {
    return this.#source ?? null;
  }

  /** When it was sent, UTC. */
  get issuedAt(): Date {
    return new Date(this.#millis());
  }

  /** Metadata for a message caused by `causationId`: correlation, actor and source stay, the time is new. */
  derive(causationId: string): Metadata {
    const derived = new Metadata(this.#origin, this.#origin.clock.now(), undefined);
    derived.#inherit(this);
    derived.#causation = check({ causationId }).causationId;
    return derived;
  }

  /** As the payload of a log line or a response: camelCase keys, the time in ISO 8601. */
  toJSON(): Record<string, string | null> {
    const { correlationId, causationId, actorId, actorType, source, issuedAt } = this;
    return {
      correlationId,
      causationId,
      actorId,
      actorType,
      source,
      issuedAt: issuedAt.toISOString(),
    };
  }

  /** Readable in `console.log`. */
  [inspect.custom](_depth: number, options: object): string {
    return `Metadata ${inspect({ ...this.toJSON() }, options)}`;
  }

  #millis(): number {
    if (typeof this.#time === "string") this.#time = millisOf(this.#time);
    return this.#time;
  }

  #inherit(from: Metadata): void {
    this.#correlation = from.#correlation ?? from;
    this.#actorId = from.#actorId;
    this.#actorType = from.#actorType;
    this.#source = from.#source;
    this.#trace = from.#trace;
  }

  #say(fields: MetadataFields): void {
    if (fields.correlationId !== undefined) this.#correlation = fields.correlationId;
    if (fields.causationId !== undefined) this.#causation = fields.causationId;
    if (fields.actorId !== undefined) this.#actorId = fields.actorId;
    if (fields.actorType !== undefined) this.#actorType = fields.actorType;
    if (fields.source !== undefined) this.#source = fields.source;
  }

  /** @internal The stamp of a new message. */
  static stamp(
    origin: Origin,
    cause: Metadata | undefined,
    id?: string | undefined,
    fields?: StampFields,
  ): Metadata {
    const stamp = new Metadata(origin, origin.clock.now(), id);
    if (fields?.metadata !== undefined) {
      stamp.#inherit(fields.metadata);
      stamp.#causation = fields.metadata.#causation;
      if (cause !== undefined) stamp.#trace ??= cause.#trace;
    } else if (cause !== undefined) {
      // Cut the chain here: whoever keeps a message must not keep all that led to it.
      if (typeof cause.#causation === "object") cause.causationId;
      stamp.#inherit(cause);
      stamp.#causation = cause;
    }
    if (fields !== undefined) stamp.#say(check(fields));
    return stamp;
  }

  /** @internal The stamp of the `index`-th event made while handling the command stamped `cause`. */
  static stampMade(origin: Origin, cause: Metadata, index: number, fields?: StampFields): Metadata {
    const stamp = Metadata.stamp(origin, cause, undefined, fields);
    stamp.#index = index;
    return stamp;
  }

  /** @internal The same message, with what its sender says on top. */
  static amend(old: Metadata, fields: StampFields): Metadata {
    const stamp = new Metadata(old.#origin, old.#time, Metadata.idOf(old));
    stamp.#inherit(fields.metadata ?? old);
    stamp.#causation = (fields.metadata ?? old).#causation;
    stamp.#sent = old.#sent;
    stamp.#say(check(fields));
    return stamp;
  }

  /** @internal The stamp of a message that was read. */
  static read(id: string, wire: WireMetadata): Metadata {
    const stamp = new Metadata(SYSTEM, wire.issued_at, id);
    stamp.#correlation = wire.correlation_id;
    stamp.#causation = wire.causation_id ?? undefined;
    stamp.#actorId = wire.actor_id ?? undefined;
    stamp.#actorType = wire.actor_type;
    stamp.#source = wire.source ?? undefined;
    if (wire.traceparent !== undefined) {
      const { traceparent, tracestate = null, baggage = null } = wire;
      stamp.#trace = { traceparent, tracestate, baggage };
    }
    stamp.#sent = true;
    return stamp;
  }

  /** @internal The message's id, made now if nobody asked before. */
  static idOf(stamp: Metadata): string {
    if (stamp.#id !== undefined) return stamp.#id;
    const cause = stamp.#causation;
    stamp.#id =
      stamp.#index >= 0 && cause !== undefined
        ? native.eventIdOf(typeof cause === "string" ? cause : Metadata.idOf(cause), stamp.#index)
        : stamp.#origin.ids.next(stamp.#millis());
    return stamp.#id;
  }

  /** @internal Whether this call is the first to use the stamp for a sending. */
  static use(stamp: Metadata): boolean {
    const first = !stamp.#sent;
    stamp.#sent = true;
    return first;
  }

  /** @internal The trace that the message belongs to, as far as one is known. */
  static traceOf(stamp: Metadata): Trace | undefined {
    return stamp.#trace;
  }

  /** @internal When the message was made: microseconds since 1970. */
  static micros(stamp: Metadata): number {
    return Math.round(stamp.#millis() * 1000);
  }

  /** @internal What is stored beside an event, JSON, its trace in it. By hand, as each event has one. */
  static stored(stamp: Metadata): string {
    const { correlationId, causationId, actorType } = stamp;
    const issued = timeOf(Metadata.micros(stamp));
    const trace = stamp.#trace === undefined ? "" : storedTrace(stamp.#trace);
    return `{"correlation_id":${quoted(correlationId)},"causation_id":${quoted(causationId)},"actor_id":${quoted(stamp.#actorId)},"actor_type":"${actorType}","source":${quoted(stamp.#source)},"issued_at":"${issued}"${trace}}`;
  }

  /** @internal What goes to the core, JSON: resolved fields, the time in microseconds, and the trace. By hand, as each message has one. */
  static encode(stamp: Metadata): string {
    const { causationId } = stamp;
    let fields = `"correlation_id":${JSON.stringify(stamp.correlationId)}`;
    if (causationId !== null) fields += `,"causation_id":${JSON.stringify(causationId)}`;
    if (stamp.#actorId !== undefined) fields += `,"actor_id":${JSON.stringify(stamp.#actorId)}`;
    if (stamp.#actorType !== undefined) fields += `,"actor_type":"${stamp.#actorType}"`;
    if (stamp.#source !== undefined) fields += `,"source":${JSON.stringify(stamp.#source)}`;
    const trace = stamp.#trace === undefined ? "" : `,"trace":${JSON.stringify(stamp.#trace)}`;
    return `{"fields":{${fields}},"issued_at":${Metadata.micros(stamp)}${trace}}`;
  }
}

/** A text as JSON, or `null`. Most need no escaping. */
function quoted(text: string | null | undefined): string {
  if (text === null || text === undefined) return "null";
  return UNESCAPED.test(text) ? `"${text}"` : JSON.stringify(text);
}

function storedTrace({ traceparent, tracestate, baggage }: Trace): string {
  const named = Object.entries({ traceparent, tracestate, baggage });
  const known = named.filter(([, value]) => value !== null);
  return known.map(([name, value]) => `,"${name}":${quoted(value)}`).join("");
}

const UNESCAPED = /^[\w .:@/+-]*$/;

/** The second of the last time that was written, as few messages as have one of their own. */
let written = { second: Number.NaN, text: "" };

/** A time as the core writes it. */
function timeOf(micros: number): string {
  const second = Math.floor(micros / 1_000_000);
  if (second !== written.second) {
    written = { second, text: new Date(second * 1000).toISOString().slice(0, 20) };
  }
  return `${written.text}${String(micros - second * 1_000_000).padStart(6, "0")}Z`;
}

/** Milliseconds, with a fraction to the microsecond, of a time as the core writes it: `2026-03-27T12:00:00.000000Z`. */
export function millisOf(time: string): number {
  if (time.length !== 27) return Date.parse(time);
  const day = Date.UTC(digits(time, 0, 4), digits(time, 5, 7) - 1, digits(time, 8, 10));
  const minutes = digits(time, 11, 13) * 60 + digits(time, 14, 16);
  return day + (minutes * 60 + digits(time, 17, 19)) * 1000 + digits(time, 20, 26) / 1000;
}

function digits(text: string, from: number, to: number): number {
  let number = 0;
  for (let at = from; at < to; at++) number = number * 10 + text.charCodeAt(at) - 48;
  return number;
}

const PLAIN = /^[^\p{Cc}\p{Surrogate}]{1,255}$/u;
/** Half a surrogate pair, which no other language can hold. */
const HALVED = /\p{Surrogate}/u;
const WORD = /^[a-z][a-z0-9_]{0,63}$/;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

const plain = (text: string | undefined): boolean =>
  text === undefined || (typeof text === "string" && PLAIN.test(text));

function check(fields: MetadataFields): MetadataFields {
  const { correlationId, causationId, actorId, actorType, source } = fields;
  if (
    plain(correlationId) &&
    plain(causationId) &&
    plain(actorId) &&
    plain(source) &&
    (actorType === undefined || WORD.test(actorType))
  ) {
    return fields;
  }
  const given = { correlationId, causationId, actorId, actorType, source };
  for (const [field, value] of Object.entries(given)) {
    let reason: string | undefined;
    if (value !== undefined && typeof value !== "string") {
      reason = `expected text, found ${typeof value}`;
    } else if (value !== undefined && HALVED.test(value)) {
      reason = "it is no well-formed text";
    }
    if (reason !== undefined) {
      throw new InvalidMetadataError(`metadata: ${field}: ${reason}`, { field, reason });
    }
  }
  // The core says what is wrong, in its own words.
  const wire = {
    correlation_id: correlationId,
    causation_id: causationId,
    actor_id: actorId,
    actor_type: actorType,
    source,
  };
  attempt(() => native.checkMetadata(JSON.stringify(wire)));
  return fields;
}

/**
 * Checks an id that the caller gave and returns it in lower case.
 *
 * @throws {InvalidIdError} if it is not a UUID with hyphens.
 */
export function checkId(id: string): string {
  if (typeof id !== "string") {
    throw new InvalidIdError(`expected a UUID, found ${typeof id}`, { value: String(id) });
  }
  if (UUID.test(id) && id !== "00000000-0000-0000-0000-000000000000") return id;
  return attempt(() => native.messageId(id));
}
