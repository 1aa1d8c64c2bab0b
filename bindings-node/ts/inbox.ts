/**
 * What a handler has handled, in its own transaction.
 *
 * @packageDocumentation
 */
import type { AwaitedConnection } from "./checkpoint.js";
import { callState } from "./drivers/state.js";
import { Metadata } from "./metadata.js";
import type { NativeStores } from "./native.js";

/** Messages whose handlers have recorded by themselves that they handled them. */
const claimed = new WeakSet<Metadata>();

/** Whether the handler of the message that has this stamp has recorded it by itself. */
export function isClaimed(stamp: Metadata): boolean {
  return claimed.has(stamp);
}

/**
 * The inbox of a handler that has the option `inbox`, for the message at hand: `context.inbox`.
 *
 * @example
 * ```ts
 * app.eventHandler(OrderPlaced, async (event, _, { inbox }) => {
 *   await client.query("BEGIN");
 *   if (await inbox.claim(client)) await client.query("INSERT INTO shipments …");
 *   await client.query("COMMIT");
 * }, { name: "ship", inbox: true });
 * ```
 */
export class Inbox {
  /** Full name of the handler. */
  readonly handler: string;
  readonly #stores: NativeStores;
  readonly #stamp: Metadata;

  /** @internal */
  constructor(stores: NativeStores, handler: string, stamp: Metadata) {
    this.#stores = stores;
    this.handler = handler;
    this.#stamp = stamp;
  }

  /**
   * Records in the open transaction that the message is handled: what the handler writes and the record commit together, so the message has its
   * effect once, however often it comes. False means that it was handled before, and nothing is to be done.
   *
   * @throws {InvalidConnectionError} if this is no connection to the PostgreSQL database that keeps the state.
   * @throws {NoTransactionError} if it would commit each statement by itself.
   */
  async claim(connection: AwaitedConnection): Promise<boolean> {
    const isNew = await callState(connection, {
      schema: this.#stores.stateSchema,
      name: "inbox_claim",
      types: ["text", "uuid"],
      parameters: [this.handler, Metadata.idOf(this.#stamp)],
    });
    claimed.add(this.#stamp);
    return isNew === true;
  }
}
