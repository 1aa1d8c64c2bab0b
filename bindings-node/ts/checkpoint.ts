/**
 * The checkpoint of a view, saved in the view's own transaction.
 *
 * @packageDocumentation
 */
import {
  type Connection,
  type Dialect,
  isTrue,
  linkOf,
  type Steps,
  type Work,
} from "./drivers/index.js";
import { refuseStoreFile } from "./drivers/store-file.js";
import { errorOf, InvalidHandlerError } from "./errors.js";
import { attempt, native } from "./native.js";
import { safe } from "./recorded.js";

/** A connection whose calls are promises: a `Client` or a `PoolClient` of pg. */
export interface AwaitedConnection {
  escapeIdentifier(text: string): string;
}

/** A connection whose calls are done when they return: a `Database` of better-sqlite3, a `DatabaseSync` of node:sqlite. */
export interface BlockingConnection {
  prepare(sql: string): object;
}

/** One save, as the core gives it. */
export interface ViewSave {
  readonly name: string;
  readonly expected: number | null;
  readonly position: number | null;
  readonly token: number;
  readonly anew: boolean;
  readonly unsure: boolean;
}

/** One switch, as the core gives it. */
export interface ViewSwitch {
  readonly name: string;
  readonly rebuild: string;
  readonly expected: number | null;
  readonly token: number;
}

/** What the view's database says. */
export interface ViewRow {
  readonly position: number | null;
  readonly token: number;
}

/** What the core says of a checkpoint. */
export interface CheckpointFacts {
  readonly projection: string;
  readonly suffix: "" | "_rebuild";
  readonly replaying: boolean;
  readonly storeFiles: readonly string[];
  readonly save?: ViewSave;
  readonly switch?: ViewSwitch;
}

/** What a handler did with its checkpoint. */
export interface Deed {
  /** Something was begun; for a connection that is awaited it may not have ended. */
  begun: boolean;
  /** It is in the user's transaction. */
  done: boolean;
  /** The view stands elsewhere, at `found`. */
  refused: boolean;
  found: ViewRow | null;
}

interface ViewSql {
  readonly exists: string;
  readonly create: readonly string[];
  readonly load: string;
  readonly save: string;
  readonly saveAnew: string;
  readonly switchClear: string;
  readonly switchMove: string;
}

const texts = new Map<Dialect, ViewSql>();

function sqlOf(dialect: Dialect): ViewSql {
  let sql = texts.get(dialect);
  if (sql === undefined) {
    sql = JSON.parse(native.viewSql(dialect)) as ViewSql;
    texts.set(dialect, sql);
  }
  return sql;
}

/**
 * Where a view stands: a projection saves it in the transaction of its view.
 *
 * @example
 * ```ts
 * await client.query("BEGIN");
 * await client.query(`INSERT INTO board${checkpoint.suffix} …`);
 * await checkpoint.save(client);
 * await client.query("COMMIT");
 * ```
 */
export class Checkpoint {
  /** The projection's name. */
  readonly projection: string;
  /** What the view's tables have at the end of their names: nothing for the live view, `_rebuild` for one that is built beside it. */
  readonly suffix: "" | "_rebuild";
  /**
   * Whether all of the events are history: from before the projection's very first start, or in a rebuild. What must happen once, such as
   * sending a mail, is left out then.
   */
  readonly replaying: boolean;
  /** Where the view stands after the events at hand. */
  readonly position: number | null;
  readonly #facts: CheckpointFacts;
  /** @internal */
  readonly deed: Deed = { begun: false, done: false, refused: false, found: null };

  /** @internal */
  constructor(facts: CheckpointFacts) {
    this.projection = facts.projection;
    this.suffix = facts.suffix;
    this.replaying = facts.replaying;
    this.position = facts.save?.position ?? null;
    this.#facts = facts;
  }

  /**
   * Saves where the view stands in the open transaction of `connection`: a promise with pg, at once with the two SQLite libraries.
   *
   * @throws {CheckpointMismatchError} if the view stands elsewhere. Let it roll back: the projection goes on where the view is.
   * @throws {StaleLeaseError} if another process has taken the projection over.
   * @throws {InvalidConnectionError} if this is no connection that can be used.
   * @throws {NoTransactionError} if it would commit each statement by itself.
   * @throws {StoreFileError} if it is open on the file of the app's own store.
   */
  save(connection: AwaitedConnection): Promise<void>;
  save(connection: BlockingConnection): void;
  save(connection: Connection): Promise<void> | void {
    const { save } = this.#facts;
    if (save === undefined) throw this.#misused("save", "there is nothing to save");
    return this.#run(connection, (dialect) => this.#save(save, dialect));
  }

  /**
   * Gives the rebuilt view the live one's name, in the transaction that renames its tables. For the projection's `switch`; otherwise as
   * {@link Checkpoint.save}.
   *
   * @throws {CheckpointMismatchError} if the rebuilt view stands elsewhere.
   * @throws {StaleLeaseError} if the live view is another process's by now.
   */
  switch(connection: AwaitedConnection): Promise<void>;
  switch(connection: BlockingConnection): void;
  switch(connection: Connection): Promise<void> | void {
    const move = this.#facts.switch;
    if (move === undefined) throw this.#misused("switch", "there is nothing to switch");
    return this.#run(connection, (dialect) => this.#move(move, dialect));
  }

  #run(connection: Connection, work: Work<void>): Promise<void> | void {
    const link = linkOf(connection);
    this.deed.begun = true;
    if (link.kind === "sync") return link.run(work);
    const running = link.run(work);
    // Whoever forgets to await it is told so by the projection.
    running.catch(() => undefined);
    return running;
  }

  *#save(save: ViewSave, dialect: Dialect): Steps<void> {
    const sql = sqlOf(dialect);
    if (save.unsure) yield* this.#makeTable(dialect);
    const { name, expected, position, token } = save;
    const parameters = [name, expected, position, token];
    const saved = yield { sql: save.anew ? sql.saveAnew : sql.save, parameters };
    if (saved.length === 0) {
      const found = yield* load(dialect, name);
      this.deed.refused = true;
      this.deed.found = found;
      throw errorOf(attempt(() => native.saveRefusal(JSON.stringify({ ...save, found }))));
    }
    this.deed.done = true;
  }

  *#move(move: ViewSwitch, dialect: Dialect): Steps<void> {
    const sql = sqlOf(dialect);
    yield* this.#makeTable(dialect);
    const { name, rebuild, expected, token } = move;
    yield { sql: sql.switchClear, parameters: [name, token] };
    const moved = yield { sql: sql.switchMove, parameters: [name, rebuild, expected, token] };
    if (moved.length === 0) {
      const live = yield* load(dialect, name);
      const rebuilt = yield* load(dialect, rebuild);
      const json = JSON.stringify({ ...move, live, rebuilt });
      const refusal = attempt(() => native.switchRefusal(json));
      if (refusal !== null) throw errorOf(refusal);
    }
    this.deed.done = true;
  }

  *#makeTable(dialect: Dialect): Steps<void> {
    if (dialect === "sqlite") yield* refuseStoreFile(this.#facts.storeFiles);
    const sql = sqlOf(dialect);
    const [row] = yield { sql: sql.exists, parameters: [] };
    if (isTrue(row?.[0])) return;
    for (const text of sql.create) yield { sql: text, parameters: [] };
  }

  /** @internal Refuses a handler that has begun what it did not await. */
  requireAwaited(): void {
    const { begun, done, refused } = this.deed;
    if (begun && !done && !refused) {
      throw this.#misused("save", "it was called and not awaited");
    }
  }

  /** @internal Refuses a switch function that left the checkpoint where it was. */
  requireSwitched(moves: boolean): void {
    if ((moves || this.deed.begun) && !this.deed.done) {
      const reason = "it was not called and awaited, so the new view has no checkpoint";
      throw this.#misused("switch", reason);
    }
  }

  #misused(what: string, why: string): InvalidHandlerError {
    const reason = `checkpoint.${what}: ${why}`;
    const handler = this.projection;
    return new InvalidHandlerError(`handler ${handler}: ${reason}`, { handler, reason });
  }
}

function* load(dialect: Dialect, name: string): Steps<ViewRow | null> {
  const [row] = yield { sql: sqlOf(dialect).load, parameters: [name] };
  if (row === undefined) return null;
  const [position, token] = row;
  return { position: position === null ? null : safe(Number(position)), token: Number(token) };
}
