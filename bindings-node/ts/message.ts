/**
 * Messages: commands and events as frozen objects whose fields are the payload's.
 *
 * @packageDocumentation
 */
import { SYSTEM } from "./clock.js";
import {
  InvalidSettingError,
  InvalidTypeNameError,
  NotStampedError,
  WrongKindError,
} from "./errors.js";
import { Metadata, type Unread } from "./metadata.js";
import { attempt, native } from "./native.js";
import {
  construct,
  decode,
  describe,
  type InputOf,
  type OutputOf,
  type PayloadObject,
  type Schema,
} from "./schema.js";

/** Where a message's kind is kept. */
export declare const KIND: unique symbol;
/** Where a command's result type is kept; types only. */
export declare const RESULT: unique symbol;

/** Any command: an order, for exactly one handler, whose result is a `Result`. */
export interface Command<Result = unknown> {
  readonly [KIND]: "command";
  readonly [RESULT]: Result;
}

/** Any event: a fact, for any number of handlers. */
export interface Event {
  readonly [KIND]: "event";
}

/** Any message. */
export type Message = Command | Event;

/** Fields are read-only. */
export type Payload<Output> = { readonly [Key in keyof Output]: Output[Key] };

/** A command of a definition: `CommandOf<typeof PlaceOrder>`. */
export type CommandOf<D> =
  D extends CommandType<infer _, infer Output, infer Result>
    ? Payload<Output> & Command<Result>
    : never;

/** An event of a definition: `EventOf<typeof OrderPlaced>`. */
export type EventOf<D> =
  D extends EventType<infer _, infer Output> ? Payload<Output> & Event : never;

/** The result of a command: `ResultOf<typeof PlaceOrder>`. */
export type ResultOf<D> = D extends CommandType<infer _, infer __, infer Result> ? Result : never;

interface Definition<Input, Made> {
  /** The type name, for example `MyApp.Orders.Commands.PlaceOrder`. */
  readonly typeName: string;
  /** Names that are read as this type, never written. */
  readonly aliases: readonly string[];
  /** Schema version, from 1. */
  readonly version: number;
  /** Whether `value` is a message of this definition. */
  is(value: unknown): value is Made;
  /** A message caused by `command`: correlation, actor and source stay. It keeps this stamp when it is sent. */
  fromCommand(command: Command, input: Input): Made;
  /** A message caused by `event`: correlation, actor and source stay. It keeps this stamp when it is sent. */
  fromEvent(event: Event, input: Input): Made;
  /** @internal */
  readonly [MODEL]: Model;
}

/** A command's definition: call it to make a command. */
export interface CommandType<Input, Output, Result>
  extends Definition<Input, Payload<Output> & Command<Result>> {
  /**
   * Makes a command.
   *
   * @throws {InvalidPayloadError} with one entry for each field that is wrong, missing or unknown.
   */
  (input: Input): Payload<Output> & Command<Result>;
  readonly kind: "command";
}

/** An event's definition: call it to make an event. */
export interface EventType<Input, Output> extends Definition<Input, Payload<Output> & Event> {
  /**
   * Makes an event.
   *
   * @throws {InvalidPayloadError} with one entry for each field that is wrong, missing or unknown.
   */
  (input: Input): Payload<Output> & Event;
  readonly kind: "event";
}

/** Any command's definition. */
export type AnyCommandType = Definition<never, Command> & { readonly kind: "command" };
/** Any event's definition. */
export type AnyEventType = Definition<never, Event> & { readonly kind: "event" };
/** Any definition. */
export type AnyMessageType = AnyCommandType | AnyEventType;

/** Turns the payload of one version into the next version's: JSON in, JSON out. */
export type Upcaster = (data: PayloadObject) => PayloadObject;

/** Options of {@link command}. */
export interface CommandOptions<R extends Schema = Schema> {
  /** Names that are read as this type, never written. */
  readonly aliases?: readonly string[];
  /** The result's type. It is not checked: a result stays the handler's own object in process. */
  readonly result?: R;
}

/** Options of {@link event}. */
export interface EventOptions {
  /** Names that are read as this type, never written. */
  readonly aliases?: readonly string[];
  /** Schema version of the payload, from 1. Default 1. */
  readonly version?: number;
  /** By version: what turns its payload into the next version's. Applied wherever recorded events are read. */
  readonly upcasters?: Readonly<Record<number, Upcaster>>;
}

/** What a definition knows beside its schema; private. */
export interface Model {
  readonly kind: "command" | "event";
  readonly typeName: string;
  readonly aliases: readonly string[];
  readonly version: number;
  readonly upcasters: Readonly<Record<number, Upcaster>>;
  /** The same number for the same definition. */
  readonly identity: number;
  /** A message from a payload that was encoded before; fields that are not known are ignored. */
  decode(data: PayloadObject, stamp: Metadata | Unread): Message;
}

/** Where a definition keeps its {@link Model}. */
export const MODEL: unique symbol = Symbol("orkestra.model");

/** What every copy of this package knows its messages by. */
const MARK = Symbol.for("orkestra.message");

class Stamped {
  #stamp: Metadata | Unread | undefined = undefined;
  readonly #model: Model;

  protected constructor(model: Model) {
    this.#model = model;
  }

  static modelOf(value: unknown): Model | undefined {
    if (typeof value !== "object" || value === null || !(#model in value)) return undefined;
    return value.#model;
  }

  static stampOf(message: Stamped): Metadata | undefined {
    const stamp = message.#stamp;
    if (stamp === undefined || stamp instanceof Metadata) return stamp;
    const read = Metadata.read(stamp.id, stamp.metadata);
    message.#stamp = read;
    return read;
  }

  static setStamp(message: Stamped, stamp: Metadata | Unread): void {
    message.#stamp = stamp;
  }
}

/** The model of a message, `undefined` for anything else. */
export const modelOf = Stamped.modelOf;
/** The stamp of a message, `undefined` while it has none. */
export const stampOf = Stamped.stampOf as unknown as (message: Message) => Metadata | undefined;
/** Gives a message its stamp, or what one is made of when somebody asks. */
export const setStamp = Stamped.setStamp as unknown as (
  message: Message,
  stamp: Metadata | Unread,
) => void;

/**
 * Defines a command. Fields that the schema does not know are errors when a command is made and ignored when one is read.
 *
 * @param typeName - Dotted CamelCase, the same in every language: `MyApp.Orders.Commands.PlaceOrder`.
 * @param schema - A synchronous schema of an object, of any library with Standard Schema.
 *
 * @example
 * ```ts
 * const PlaceOrder = command(
 *   "MyApp.Orders.Commands.PlaceOrder",
 *   z.object({ product_id: z.string(), quantity: z.number().int() }),
 *   { result: z.object({ order_id: z.string() }) },
 * );
 * const { order_id } = await app.dispatch(PlaceOrder({ product_id: "sku_42", quantity: 3 }));
 * ```
 */
export function command<
  S extends Schema<unknown, object>,
  R extends Schema = Schema<unknown, unknown>,
>(
  typeName: string,
  schema: S,
  options: CommandOptions<R> = {},
): CommandType<InputOf<S>, OutputOf<S>, OutputOf<R>> {
  return define("command", typeName, schema, {
    aliases: options.aliases ?? [],
    version: 1,
    upcasters: {},
  }) as unknown as CommandType<InputOf<S>, OutputOf<S>, OutputOf<R>>;
}

/**
 * Defines an event. Fields that the schema does not know are errors when an event is made and ignored when one is read.
 *
 * @param typeName - Dotted CamelCase, the same in every language: `MyApp.Orders.Events.OrderPlaced`.
 * @param schema - A synchronous schema of an object, of any library with Standard Schema.
 *
 * @example
 * ```ts
 * const OrderPlaced = event("MyApp.Orders.Events.OrderPlaced", z.object({ order_id: z.string(), quantity: z.number() }), {
 *   version: 2,
 *   upcasters: { 1: ({ count, ...data }) => ({ ...data, quantity: count }) },
 * });
 * ```
 */
export function event<S extends Schema<unknown, object>>(
  typeName: string,
  schema: S,
  options: EventOptions = {},
): EventType<InputOf<S>, OutputOf<S>> {
  return define("event", typeName, schema, {
    aliases: options.aliases ?? [],
    version: options.version ?? 1,
    upcasters: options.upcasters ?? {},
  }) as unknown as EventType<InputOf<S>, OutputOf<S>>;
}

let identities = 0;

function define(
  kind: "command" | "event",
  typeName: string,
  schema: Schema,
  facts: Pick<Model, "aliases" | "version" | "upcasters">,
): unknown {
  // Refuses what can be no type name.
  if (typeof typeName !== "string") throw invalidName(String(typeName), "expected text");
  attempt(() => native.topicOf(typeName, ""));
  const { version } = facts;
  if (!Number.isInteger(version) || version < 1 || version > 0xffff_ffff) {
    const reason = `expected a whole number from 1, found ${String(version)}`;
    throw new InvalidSettingError(`version: ${reason}`, { setting: "version", reason });
  }
  const name = typeName.slice(typeName.lastIndexOf(".") + 1);
  // A class of that name, so that consoles and debuggers show it.
  const { [name]: Type } = {
    [name]: class extends Stamped {
      constructor(payload: PayloadObject) {
        super(model);
        for (const key in payload) {
          if (key === "__proto__") Object.defineProperty(this, key, { value: payload[key] });
          else (this as unknown as PayloadObject)[key] = payload[key];
        }
        Object.freeze(this);
      }
    },
  } as { [name: string]: new (payload: PayloadObject) => Stamped };
  const Made = Type as new (payload: PayloadObject) => Stamped;
  const model: Model = {
    kind,
    typeName,
    ...facts,
    identity: ++identities,
    decode(data, stamp) {
      const message = new Made(decode(typeName, schema, data)) as unknown as Message;
      setStamp(message, stamp);
      return message;
    },
  };
  const make = (input: unknown): Message =>
    new Made(construct(typeName, schema, input)) as unknown as Message;
  const derive = (expected: "command" | "event") => (cause: Message, input: unknown) => {
    if (modelOf(cause)?.kind !== expected) throw wrongKind(expected, cause);
    const stamp = stampOf(cause);
    if (stamp === undefined) throw notStamped(cause);
    const message = make(input);
    setStamp(message, Metadata.stamp(SYSTEM, stamp));
    return message;
  };
  return Object.defineProperties(make, {
    name: { value: name },
    kind: { value: kind, enumerable: true },
    typeName: { value: typeName, enumerable: true },
    aliases: { value: facts.aliases },
    version: { value: facts.version },
    is: { value: (value: unknown) => modelOf(value) === model },
    fromCommand: { value: derive("command") },
    fromEvent: { value: derive("event") },
    [MODEL]: { value: model },
  });
}

Object.defineProperty(Stamped.prototype, MARK, { value: true });

class Raw extends Stamped {
  readonly type: string;
  readonly data: PayloadObject;

  constructor(model: Model, data: PayloadObject) {
    super(model);
    this.type = model.typeName;
    this.data = data;
    Object.freeze(this);
  }
}

/** An event of a type that nobody here knows. */
export function rawEvent(
  typeName: string,
  version: number,
  data: PayloadObject,
  stamp: Metadata | Unread,
): Event {
  const model: Model = {
    kind: "event",
    typeName,
    aliases: [],
    version,
    upcasters: {},
    identity: 0,
    decode: () => message,
  };
  const message = new Raw(model, data) as unknown as Event;
  setStamp(message, stamp);
  return message;
}

/** What a message has as its payload. */
export function payloadOf(message: Message): object {
  return message instanceof Raw ? message.data : message;
}

function invalidName(type_name: string, reason: string): InvalidTypeNameError {
  return new InvalidTypeNameError(`type name ${type_name}: ${reason}`, { type_name, reason });
}

/** The model of a definition, `undefined` for anything else. */
export function definitionOf(value: unknown): Model | undefined {
  return typeof value === "function" && MODEL in value ? (value[MODEL] as Model) : undefined;
}

/** `expected` a command or an event, found something else. */
export function wrongKind(expected: "command" | "event", value: unknown): WrongKindError {
  const model = modelOf(value) ?? definitionOf(value);
  const foreign = typeof value === "object" && value !== null && MARK in value;
  const found =
    model === undefined
      ? `${describe(value)}${foreign ? " of another copy of orkestra" : ""}`
      : `the ${model.kind}${modelOf(value) === undefined ? " type" : ""} ${model.typeName}`;
  const wanted = expected === "command" ? "a command" : "an event";
  return new WrongKindError(`expected ${wanted}, found ${found}`, { expected: wanted, found });
}

function notStamped(message: unknown): NotStampedError {
  const type_name = modelOf(message)?.typeName ?? describe(message);
  return new NotStampedError(`${type_name} has not been sent yet: it has no id and no metadata`, {
    type_name,
  });
}

/**
 * The id of a message that was sent, published, appended or made from another one.
 *
 * @throws {NotStampedError} if it has none yet.
 */
export function idOf(message: Message): string {
  return Metadata.idOf(metadataOf(message));
}

/**
 * The metadata of a message that was sent, published, appended or made from another one.
 *
 * @throws {NotStampedError} if it has none yet.
 */
export function metadataOf(message: Message): Metadata {
  const stamp = modelOf(message) === undefined ? undefined : stampOf(message);
  if (stamp === undefined) throw notStamped(message);
  return stamp;
}

/** The type name of a message. */
export function typeOf(message: Message): string {
  const model = modelOf(message);
  if (model === undefined) throw wrongKind("event", message);
  return model.typeName;
}
