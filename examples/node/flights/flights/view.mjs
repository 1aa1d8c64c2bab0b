/**
 * The database of the board: the user's own, which Orkestra knows nothing of.
 *
 * With PostgreSQL it is the one that holds the log, through pg. With SQLite it is another file, through better-sqlite3: nothing else may open the
 * file of a store.
 */

/**
 * An open transaction: the connection, and statements with `?`.
 *
 * @typedef {object} Transaction
 * @property {(checkpoint: import("orkestra").Checkpoint) => Promise<void>} save
 * @property {(checkpoint: import("orkestra").Checkpoint) => Promise<void>} switch
 * @property {(sql: string, rows?: (string | number)[][]) => Promise<void>} execute
 * @property {(sql: string) => Promise<Record<string, unknown>[]>} fetch
 */

/**
 * A database for views.
 *
 * @typedef {object} View
 * @property {<T>(work: (transaction: Transaction) => Promise<T>) => Promise<T>} transaction commits what `work` did, or rolls it back
 * @property {() => Promise<void>} close
 */

/**
 * The database for the views of a store.
 *
 * @param {string} store
 * @returns {Promise<View>}
 */
export async function openView(store) {
  if (store.startsWith("sqlite:")) return sqliteView(`${store.slice("sqlite:".length)}.board`);
  return postgresView(databaseOf(store));
}

const TLS = ["sslmode", "sslrootcert", "sslcert", "sslkey"];

/**
 * The store's database for pg, which knows nothing of Orkestra's own parameters.
 *
 * @param {string} store
 */
function databaseOf(store) {
  const url = new URL(store);
  const given = new URLSearchParams(url.search);
  url.search = "";
  if ((given.get("sslmode") ?? "prefer") !== "prefer") {
    for (const name of TLS) {
      const value = given.get(name);
      if (value !== null) url.searchParams.set(name, value);
    }
    url.searchParams.set("uselibpqcompat", "true");
  }
  return url.href;
}

/**
 * @template T
 * @param {(sql: string) => unknown} run
 * @param {() => Promise<T>} work
 */
async function between(run, work) {
  await run("BEGIN");
  try {
    const result = await work();
    await run("COMMIT");
    return result;
  } catch (error) {
    await run("ROLLBACK");
    throw error;
  }
}

/**
 * A file of its own.
 *
 * @param {string} path
 * @returns {Promise<View>}
 */
async function sqliteView(path) {
  const { default: Database } = await import("better-sqlite3");
  const db = new Database(path);
  /** @type {Transaction} */
  const transaction = {
    save: async (checkpoint) => checkpoint.save(db),
    switch: async (checkpoint) => checkpoint.switch(db),
    async execute(sql, rows = [[]]) {
      const statement = db.prepare(sql);
      for (const row of rows) statement.run(...row);
    },
    fetch: async (sql) => /** @type {Record<string, unknown>[]} */ (db.prepare(sql).all()),
  };
  return {
    transaction: (work) =>
      between(
        (sql) => db.exec(sql),
        () => work(transaction),
      ),
    close: async () => void db.close(),
  };
}

/**
 * Connections to the database of the store.
 *
 * @param {string} url
 * @returns {Promise<View>}
 */
async function postgresView(url) {
  const { default: pg } = await import("pg");
  const pool = new pg.Pool({ connectionString: url });
  // A connection that is lost while nobody uses it: the pool makes another.
  pool.on("error", ({ message }) => console.error(message));
  // One that is lost between two statements of a transaction: the next statement says so.
  pool.on("connect", (client) => client.on("error", () => undefined));
  return {
    async transaction(work) {
      const client = await pool.connect();
      try {
        /** @type {Transaction} */
        const transaction = {
          save: (checkpoint) => checkpoint.save(client),
          switch: (checkpoint) => checkpoint.switch(client),
          async execute(sql, rows = [[]]) {
            let number = 0;
            const text = sql.replace(/\?/g, () => `$${++number}`);
            for (const row of rows) await client.query(text, row);
          },
          fetch: async (sql) => (await client.query(sql)).rows,
        };
        return await between(
          (sql) => client.query(sql),
          () => work(transaction),
        );
      } finally {
        client.release();
      }
    },
    close: () => pool.end(),
  };
}
