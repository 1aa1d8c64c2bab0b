/** Views for the tests: the quantity of each order in a table, through any driver, which fails on repetitions. */
import { createRequire } from "node:module";
import { join } from "node:path";
import Database from "better-sqlite3";
import type { Checkpoint, Orkestra, ProjectionOptions, RecordedEvent } from "orkestra";
import pg from "pg";
import { onTestFinished } from "vitest";
import { database, hasPostgres } from "./postgres.js";
import { folder, OrderCancelled, OrderPlaced } from "./shop.js";

type Rows = readonly unknown[][];

/** A connection in a transaction of the user's. */
export interface Transaction {
  query(sql: string, parameters?: readonly unknown[]): Promise<Rows>;
  save(checkpoint: Checkpoint): Promise<void>;
  switch(checkpoint: Checkpoint): Promise<void>;
}

/** A database for views, through one driver. */
export interface ViewDatabase {
  readonly dialect: "postgres" | "sqlite";
  /** Commits what `work` did, or rolls it back when it throws. */
  transaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T>;
}

/** A driver of the user's. */
export interface Driver {
  readonly name: string;
  readonly available: () => boolean;
  /** An empty database, gone after the test. */
  open(): Promise<ViewDatabase>;
}

const require = createRequire(import.meta.url);

interface NodeSqlite {
  readonly DatabaseSync: new (
    path: string,
  ) => {
    exec(sql: string): void;
    prepare(sql: string): { all(...parameters: unknown[]): Record<string, unknown>[] };
    close(): void;
  };
}

/** `node:sqlite`, from Node 22.5 on. Without it the tests that need it are skipped, which is an error where it is required. */
export function nodeSqlite(): NodeSqlite | undefined {
  try {
    return require("node:sqlite") as NodeSqlite;
  } catch (error) {
    if ((process.env.ORKESTRA_TEST_REQUIRE ?? "").split(",").includes("node:sqlite")) throw error;
    return undefined;
  }
}

async function around<T>(begin: (sql: string) => unknown, work: () => Promise<T>): Promise<T> {
  await begin("BEGIN");
  try {
    const result = await work();
    await begin("COMMIT");
    return result;
  } catch (error) {
    await begin("ROLLBACK");
    throw error;
  }
}

const PG: Driver = {
  name: "pg",
  available: hasPostgres,
  async open() {
    const pool = new pg.Pool({ connectionString: await database(), max: 4 });
    pool.on("error", () => undefined);
    onTestFinished(() => pool.end());
    return {
      dialect: "postgres",
      async transaction(work) {
        const client = await pool.connect();
        try {
          return await around(
            (sql) => client.query(sql),
            () =>
              work({
                async query(sql, parameters = []) {
                  const found = await client.query({
                    text: sql,
                    values: [...parameters],
                    rowMode: "array",
                  });
                  return found.rows as unknown[][];
                },
                save: (checkpoint) => checkpoint.save(client),
                switch: (checkpoint) => checkpoint.switch(client),
              }),
          );
        } finally {
          client.release();
        }
      },
    };
  },
};

/** `$1` as `?`. */
const plain = (sql: string): string => sql.replace(/\$\d+/g, "?");

const BETTER: Driver = {
  name: "better-sqlite3",
  available: () => true,
  async open() {
    const path = join(folder(), "view.db");
    return {
      dialect: "sqlite",
      async transaction(work) {
        const db = new Database(path);
        try {
          return await around(
            (sql) => db.exec(sql),
            () =>
              work({
                async query(sql, parameters = []) {
                  const statement = db.prepare(plain(sql));
                  if (statement.reader) return statement.raw().all(...parameters) as unknown[][];
                  statement.run(...parameters);
                  return [];
                },
                async save(checkpoint) {
                  checkpoint.save(db);
                },
                async switch(checkpoint) {
                  checkpoint.switch(db);
                },
              }),
          );
        } finally {
          db.close();
        }
      },
    };
  },
};

const NODE: Driver = {
  name: "node:sqlite",
  available: () => nodeSqlite() !== undefined,
  async open() {
    const path = join(folder(), "view.db");
    const { DatabaseSync } = nodeSqlite() as NodeSqlite;
    return {
      dialect: "sqlite",
      async transaction(work) {
        const db = new DatabaseSync(path);
        try {
          return await around(
            (sql) => db.exec(sql),
            () =>
              work({
                async query(sql, parameters = []) {
                  const rows = db.prepare(plain(sql)).all(...parameters);
                  return rows.map((row) => Object.values(row));
                },
                async save(checkpoint) {
                  checkpoint.save(db);
                },
                async switch(checkpoint) {
                  checkpoint.switch(db);
                },
              }),
          );
        } finally {
          db.close();
        }
      },
    };
  },
};

/** The drivers that can be had here. */
export const DRIVERS: readonly Driver[] = [PG, BETTER, NODE];

/** A projection into a table of each order's quantity. */
export class Board {
  readonly database: ViewDatabase;
  /** For each call of the handler the positions of its events. */
  readonly batches: number[][] = [];
  readonly replayed: boolean[] = [];
  readonly prepared: string[] = [];
  /** Called after the checkpoint was saved, in the transaction. */
  beforeCommit: (checkpoint: Checkpoint) => unknown = () => undefined;
  /** Called before anything else. */
  before: (events: readonly RecordedEvent[]) => unknown = () => undefined;

  constructor(database: ViewDatabase) {
    this.database = database;
  }

  /** Adds the projection to an app. */
  declare(app: Orkestra, options: ProjectionOptions = {}, name = "board"): void {
    const how: ProjectionOptions = {
      events: [OrderPlaced, OrderCancelled],
      prepare: (checkpoint) => this.#prepare(checkpoint),
      switch: (checkpoint) => this.#switch(checkpoint),
      ...options,
    };
    app.projection(name, how, (events, checkpoint) => this.#handle(events, checkpoint));
  }

  async #handle(events: readonly RecordedEvent[], checkpoint: Checkpoint): Promise<void> {
    this.batches.push(events.map(({ position }) => position));
    this.replayed.push(checkpoint.replaying);
    await this.before(events);
    await this.database.transaction(async (tx) => {
      for (const { event, position } of events) {
        const quantity = OrderPlaced.is(event) ? event.quantity : -1;
        const { order_id } = event as unknown as { order_id: string };
        const sql = `INSERT INTO board${checkpoint.suffix} VALUES ($1, $2, $3)`;
        await tx.query(sql, [position, order_id, quantity]);
      }
      await tx.save(checkpoint);
      await this.beforeCommit(checkpoint);
    });
  }

  async #prepare({ suffix }: Checkpoint): Promise<void> {
    this.prepared.push(suffix);
    await this.database.transaction(async (tx) => {
      if (suffix !== "") await tx.query(`DROP TABLE IF EXISTS board${suffix}`);
      await tx.query(
        `CREATE TABLE IF NOT EXISTS board${suffix} (position bigint PRIMARY KEY, id text, quantity integer)`,
      );
    });
  }

  async #switch(checkpoint: Checkpoint): Promise<void> {
    await this.database.transaction(async (tx) => {
      await tx.query("DROP TABLE IF EXISTS board");
      await tx.query("ALTER TABLE board_rebuild RENAME TO board");
      await tx.switch(checkpoint);
      await this.beforeCommit(checkpoint);
    });
  }

  /** The rows of a statement in a transaction of its own. */
  sql(text: string): Promise<Rows> {
    return this.database.transaction((tx) => tx.query(text));
  }

  /** The view: the quantities, in the order of the log. */
  async rows(): Promise<unknown[]> {
    const rows = await this.sql("SELECT quantity FROM board ORDER BY position");
    return rows.map(([quantity]) => quantity);
  }

  /** The table of checkpoints. */
  get table(): string {
    return this.database.dialect === "postgres"
      ? "orkestra.view_checkpoints"
      : "orkestra_view_checkpoints";
  }

  /** Where the view says that it stands. */
  async checkpoint(name = "shop.board"): Promise<number | null> {
    const rows = await this.sql(`SELECT position FROM ${this.table} WHERE name = '${name}'`);
    const [row] = rows;
    return row === undefined ? null : Number(row[0]);
  }

  /** Waits until the view says that it stands there. */
  async reaches(position: number): Promise<void> {
    await eventually(async () => (await this.checkpoint()) === position);
  }
}

/** Waits until `condition` holds. */
export async function eventually(condition: () => unknown): Promise<void> {
  for (let i = 0; i < 2_000; i++) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  throw new Error("it does not become so");
}
