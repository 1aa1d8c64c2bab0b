/**
 * Recorded events: read by their definitions, older schemas brought up to date.
 *
 * @packageDocumentation
 */
import { CorruptError, NoUpcasterError } from "./errors.js";
import { type Event, type Message, type Model, payloadOf, rawEvent, stampOf } from "./message.js";
import { Metadata, millisOf, type WireMetadata } from "./metadata.js";
import { encodePayload } from "./payload.js";
import type { PayloadObject } from "./schema.js";

/** An event as it was recorded, with its place. */
export interface RecordedEvent<E extends Event = Event> {
  /** The event; of a type that the app does not know, a `RawEvent`. */
  readonly event: E;
  /** The event's id. */
  readonly id: string;
  /** The type name that was recorded. */
  readonly type: string;
  /** The schema version that was recorded. */
  readonly version: number;
  /** The stream. */
  readonly stream: string;
  /** 0-based place in the stream. */
  readonly revision: number;
  /** Place in the whole store: compare it, never add to it. */
  readonly position: number;
  /** When it happened. */
  readonly occurredAt: Date;
  /** Who and why. */
  readonly metadata: Metadata;
}

/** A recorded event as the core writes it. */
export interface Row {
  readonly id: string;
  readonly type: string;
  readonly version: number;
  readonly stream: string;
  readonly revision: number;
  readonly position: number;
  readonly occurred_at: string;
  readonly metadata: WireMetadata;
  readonly data: PayloadObject;
}

/** What the core's JSON says of an event that is folded: the rest is in a tail behind it. */
type FoldedFacts = Pick<Row, "type" | "version" | "data">;

/** An event that is folded. */
export type FoldedRow = FoldedFacts & Pick<Row, "id" | "revision" | "metadata">;

/** Before each part of a tail, and between events on their way to the store: JSON has it escaped only. See `src/pages.rs`. */
export const BREAK = "\u001e";
/** Between the fields of a part. */
export const FIELD = "\u001f";

/** What follows the JSON, taken apart when somebody asks. */
class Tail {
  readonly #text: string;
  #parts: readonly string[] | undefined;

  constructor(text: string) {
    this.#text = text;
  }

  at(index: number): string {
    this.#parts ??= this.#text.split(BREAK);
    return this.#parts[index] ?? "";
  }
}

/** A row whose id, revision and metadata are taken out of the tail when somebody asks. */
class Folded implements FoldedRow {
  readonly type: string;
  readonly version: number;
  readonly data: PayloadObject;
  readonly #tail: Tail;
  readonly #index: number;

  constructor({ type, version, data }: FoldedFacts, tail: Tail, index: number) {
    this.type = type;
    this.version = version;
    this.data = data;
    this.#tail = tail;
    this.#index = index;
  }

  get id(): string {
    return this.#field(0);
  }

  get revision(): number {
    return Number(this.#field(1));
  }

  get metadata(): WireMetadata {
    return JSON.parse(this.#field(2)) as WireMetadata;
  }

  #field(number: 0 | 1 | 2): string {
    return this.#tail.at(this.#index).split(FIELD)[number] ?? "";
  }
}

/** A step of an aggregate's execution as the core writes it: JSON, under whose keys `keys` there may be events, and their tail. */
export function stepOf<Step extends object, Key extends keyof Step>(
  text: string,
  keys: readonly Key[],
): Step {
  const end = text.indexOf(BREAK);
  if (end < 0) return JSON.parse(text) as Step;
  const step = JSON.parse(text.slice(0, end)) as Step;
  const tail = new Tail(text.slice(end + 1));
  for (const key of keys) {
    const rows = step[key] as FoldedFacts[] | undefined;
    if (rows === undefined) continue;
    step[key] = rows.map((facts, index) => new Folded(facts, tail, index)) as Step[Key];
  }
  return step;
}

/** Finds the model of a type name or alias. */
export type Lookup = (typeName: string) => Model | undefined;

/**
 * The event of a row.
 *
 * @throws {NoUpcasterError} {@link InvalidPayloadError} if it does not fit its definition.
 */
export function eventOf(row: FoldedRow, lookup: Lookup): Event {
  const stamp = row instanceof Folded ? row : Metadata.read(row.id, row.metadata);
  const model = lookup(row.type);
  if (model === undefined || model.kind !== "event") {
    return rawEvent(row.type, row.version, row.data, stamp);
  }
  return model.decode(upcast(model, row.version, row.data), stamp) as Event;
}

/** The recorded event of a row. */
export function recordedOf(row: Row, lookup: Lookup): RecordedEvent {
  const event = eventOf(row, lookup);
  return {
    event,
    id: row.id,
    type: row.type,
    version: row.version,
    stream: row.stream,
    revision: safe(row.revision),
    position: safe(row.position),
    occurredAt: new Date(millisOf(row.occurred_at)),
    metadata: stampOf(event) as Metadata,
  };
}

function upcast(model: Model, version: number, data: PayloadObject): PayloadObject {
  if (version === model.version) return data;
  let current = data;
  for (let at = version; at !== model.version; at++) {
    const step = at < model.version ? model.upcasters[at] : undefined;
    if (step === undefined) throw noUpcaster(model, at);
    current = step(current);
  }
  return current;
}

function noUpcaster(model: Model, from: number): NoUpcasterError {
  const { typeName, version } = model;
  return new NoUpcasterError(`${typeName}: no upcaster from version ${from} to ${version}`, {
    type_name: typeName,
    from,
    to: version,
  });
}

/** A position or revision, which has to be exact. */
export function safe(number: number): number {
  if (Number.isSafeInteger(number)) return number;
  const reason = `${number} is beyond the safe integers`;
  throw new CorruptError(`a position is damaged: ${reason}`, { what: "a position", reason });
}

/** What goes to the store for an event that has its stamp. */
export function encodeEvent(event: Event, model: Model, stamp: Metadata, maxBytes: number): string {
  const data = encodePayload(model.typeName, payloadOf(event), maxBytes);
  const { typeName, version } = model;
  return `${Metadata.idOf(stamp)}${FIELD}${typeName}${FIELD}${version}${FIELD}${Metadata.micros(stamp)}${FIELD}${Metadata.stored(stamp)}${FIELD}${data}`;
}

/** What goes to the core for a message that has its stamp. */
export function encodeMessage(
  message: Message,
  model: Model,
  stamp: Metadata,
  maxBytes: number,
): string {
  const data = encodePayload(model.typeName, payloadOf(message), maxBytes);
  const id = Metadata.idOf(stamp);
  const micros = Metadata.micros(stamp);
  return `{"id":"${id}","type":"${model.typeName}","version":${model.version},"data":${data},"metadata":${Metadata.encode(stamp)},"occurred_at":${micros}}`;
}
