// Emmett on PostgreSQL, as documented, with a pool that has a connection for each caller.

import { getPostgreSQLEventStore } from "@event-driven-io/emmett-postgresql";
import pg from "pg";

/** Opens a store on the database that run.py made for this process, and creates its tables. */
export async function openEmmettPostgres(connections = 10) {
  const connectionString = process.env.BENCH_POSTGRES;
  const pool = new pg.Pool({ connectionString, max: connections });
  const { rows } = await pool.query("SHOW synchronous_commit");
  if (rows[0].synchronous_commit !== "on") throw new Error("appends would not be durable");
  const store = getPostgreSQLEventStore(connectionString, { connectionOptions: { pool } });
  await store.schema.migrate();
  const close = async () => {
    await store.close();
    await pool.end();
  };
  return { store, pool, connectionString, close };
}
