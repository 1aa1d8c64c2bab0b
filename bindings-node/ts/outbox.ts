/**
 * Messages that leave once what they belong to is committed.
 *
 * @packageDocumentation
 */
import type { Bridge } from "./bridge.js";
import type { Bus, SendOptions } from "./bus.js";
import type { AwaitedConnection } from "./checkpoint.js";
import type { Parameter } from "./drivers/index.js";
import { callState } from "./drivers/state.js";
import { InvalidArgumentError } from "./errors.js";
import { type Command, type Event, type Message, modelOf, wrongKind } from "./message.js";
import { type Metadata, millisOf } from "./metadata.js";
import { attempt, type NativeStores } from "./native.js";
import { encodeMessage } from "./recorded.js";
import type { Registry } from "./registry.js";
import { checkRetries } from "./retry.js";

/** How much is in an outbox. */
export interface OutboxBacklog {
  /** Messages in it. */
  readonly messages: number;
  /** When the oldest of them was put in, `null` when it is empty. */
  readonly oldest: Date | null;
}

/** What the outbox needs of its app. */
export interface OutboxHost {
  readonly bus: Bus;
  readonly bridge: Bridge;
  readonly stores: NativeStores;
  readonly registry: Registry;
  /** Opens the stores if they are not open; throws if the app is closed. */
  readonly opened: () => Promise<unknown>;
}

/** The types of the database's own function. */
const TYPES = "text uuid text text bytea timestamptz integer text text text".split(" ");

/**
 * Commands and events that are sent once what they belong to is committed: `app.outbox`.
 *
 * A message leaves at least once: over the broker, or without one to its handlers in the process that holds the lease of the outbox.
 */
export class Outbox {
  readonly #host: OutboxHost;

  /** @internal */
  constructor(host: OutboxHost) {
    this.#host = host;
  }

  /**
   * Puts a command or an event in; ends with its id. With `connection`, to the PostgreSQL database of the state store and in a transaction, it is in
   * when that commits; without one it is in when this ends. A message whose id is in the outbox already is kept once.
   *
   * @throws {InvalidConnectionError} if `connection` is none to the PostgreSQL database that keeps the state.
   * @throws {NoTransactionError} if it would commit each statement by itself.
   * @throws {InvalidArgumentError} if the connection is among the options: the message would commit apart from it.
   * @throws {WrongKindError} if this is no message.
   *
   * @example
   * ```ts
   * await client.query("BEGIN");
   * await client.query("INSERT INTO orders …");
   * await app.outbox.add(OrderPlaced({ order_id: "7" }), client);
   * await client.query("COMMIT");
   * ```
   */
  add(message: Message, options?: SendOptions): Promise<string>;
  add(message: Message, connection: AwaitedConnection, options?: SendOptions): Promise<string>;
  async add(
    message: Message,
    second?: SendOptions | AwaitedConnection,
    third?: SendOptions,
  ): Promise<string> {
    // Options are a plain object and no connection is; what is neither is refused as a connection, as the message would commit apart.
    const connection = third !== undefined || !isPlain(second) ? second : undefined;
    const options = third ?? (connection === undefined ? (second as SendOptions) : undefined);
    if (options !== undefined && "connection" in options) {
      const [argument, reason] = ["options.connection", "expected it as the second argument"];
      throw new InvalidArgumentError(`${argument}: ${reason}`, { argument, reason });
    }
    const { bridge, stores, registry } = this.#host;
    const json = this.#encode(message, options);
    await this.#host.opened();
    if (connection === undefined) {
      return (await bridge.run(() => stores.enqueue(registry.native, json))) ?? "";
    }
    const parameters = JSON.parse(
      attempt(() => stores.outgoing(registry.native, json)),
    ) as Parameter[];
    parameters[4] = Buffer.from(parameters[4] as string);
    const schema = stores.stateSchema;
    await callState(connection as object, { schema, name: "enqueue", types: TYPES, parameters });
    return parameters[1] as string;
  }

  /** How much has not left yet. */
  async pending(): Promise<OutboxBacklog> {
    const { bridge, stores } = this.#host;
    await this.#host.opened();
    const text = await bridge.run(() => stores.outboxBacklog());
    const { messages, oldest } = JSON.parse(text ?? "{}") as { messages: number; oldest: string };
    return { messages, oldest: oldest === null ? null : new Date(millisOf(oldest)) };
  }

  #encode(message: Message, options: SendOptions | undefined): string {
    const { bus, stores } = this.#host;
    const model = modelOf(message);
    if (model === undefined) throw wrongKind("event", message);
    checkRetries(options?.maxRetries);
    const stamp: Metadata =
      model.kind === "command"
        ? bus.stampCommand(message as Command, options, bus.cause())
        : bus.stampEvent(message as Event, options, bus.cause());
    const body = encodeMessage(message, model, stamp, stores.maxPayloadBytes);
    const retries = model.kind === "command" ? (options?.maxRetries ?? null) : null;
    return `{"kind":"${model.kind}","max_retries":${retries},"message":${body}}`;
  }
}

function isPlain(given: unknown): boolean {
  if (given === undefined) return true;
  if (typeof given !== "object" || given === null) return false;
  const prototype: unknown = Object.getPrototypeOf(given);
  return prototype === Object.prototype || prototype === null;
}
