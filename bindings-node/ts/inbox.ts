/**
 * What a handler has handled, in its own transaction.
 *
 * @packageDocumentation
 */
import type { AwaitedConnection, BlockingConnection } from "./checkpoint.js";
import { type Connection, isTrue, linkOf, type Steps } from "./drivers/index.js";
import { callState } from "./drivers/state.js";
import { refuseStoreFile } from "./drivers/store-file.js";
import { Metadata } from "./metadata.js";
import { type NativeStores, native } from "./native.js";

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
    // What an earlier attempt claimed was rolled back with it.
    claimed.delete(stamp);
  }

  /**
   * Records in the open transaction that the message is handled: what the handler writes and the record commit together, so the message has its
   * effect once, however often it comes. False means that it was handled before, and nothing is to be done.
   *
   * A promise with pg, connected to the PostgreSQL database that keeps the state. At once with the two SQLite libraries: the record is then in
   * the user's own file, in a table `orkestra_inbox` that is made on demand.
   *
   * @throws {InvalidConnectionError} if this is neither.
   * @throws {NoTransactionError} if it would commit each statement by itself.
   * @throws {StoreFileError} if it is open on the file of the app's own store.
   */
  claim(connection: AwaitedConnection): Promise<boolean>;
  claim(connection: BlockingConnection): boolean;
  claim(connection: Connection): Promise<boolean> | boolean {
    const link = linkOf(connection);
    if (link.kind === "async") return this.#inState(connection);
    const isNew = link.run(() => this.#inFile());
    claimed.add(this.#stamp);
    return isNew;
  }

  async #inState(connection: Connection): Promise<boolean> {
    const isNew = await callState(connection, {
      schema: this.#stores.stateSchema,
      name: "inbox_claim",
      types: ["text", "uuid"],
      parameters: [this.handler, Metadata.idOf(this.#stamp)],
    });
    claimed.add(this.#stamp);
    return isTrue(isNew);
  }

  *#inFile(): Steps<boolean> {
    yield* refuseStoreFile(this.#stores.sqliteFiles);
    const sql = JSON.parse(native.claimSql()) as {
      readonly create: string;
      readonly claim: string;
    };
    yield { sql: sql.create, parameters: [] };
    const rows = yield { sql: sql.claim, parameters: [this.handler, Metadata.idOf(this.#stamp)] };
    return rows.length > 0;
  }
}
