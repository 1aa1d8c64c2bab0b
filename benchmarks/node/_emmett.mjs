// Emmett on SQLite: as documented (a connection per call), or with one connection that is kept.
// Emmett sets WAL and leaves `synchronous` at SQLite's default, checked here to be FULL, as ours is.
// With a connection per call it does not wait for its own `PRAGMA journal_mode`, and when that is
// slow the commit fails with SQLITE_BUSY: such a call is made again, and counted in the details.

import { getSQLiteEventStore, sqliteConnection } from "@event-driven-io/emmett-sqlite";

const FULL = 2;

/** Opens a store on `fileName` and creates its tables. */
export async function openEmmett(fileName, { singleton = false } = {}) {
  const connection = sqliteConnection({ fileName });
  const found = await connection.querySingle("PRAGMA synchronous");
  if (found.synchronous !== FULL) throw new Error(`synchronous is ${found.synchronous}`);
  if (!singleton) await connection.close();
  const store = getSQLiteEventStore(
    singleton ? { fileName, connectionOptions: { singleton: true, connection } } : { fileName },
  );
  await store.schema.migrate();
  return { store, close: () => singleton && connection.close() };
}

/** Makes emmett calls again while they fail with SQLITE_BUSY; `retries` says how often. */
export class Stubborn {
  retries = 0;

  async run(call) {
    for (;;) {
      try {
        return await call();
      } catch (error) {
        if (error?.code !== "SQLITE_BUSY") throw error;
        this.retries++;
      }
    }
  }
}
