/** The stock as a table, kept by a projection through the service's own connections. */
import type { Orkestra } from "orkestra";
import type { Pool, PoolClient } from "pg";
import { StockReceived, StockShipped } from "./stock.js";

async function transaction<T>(pool: Pool, work: (client: PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    const result = await work(client);
    await client.query("COMMIT");
    return result;
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  } finally {
    client.release();
  }
}

/** Adds the projection: table `stock`, a row for each sku. */
export function keepStock(app: Orkestra, pool: Pool): void {
  app.projection(
    "stock",
    {
      events: [StockReceived, StockShipped],
      prepare: ({ suffix }) =>
        transaction(pool, async (client) => {
          if (suffix !== "") await client.query(`DROP TABLE IF EXISTS stock${suffix}`);
          await client.query(
            `CREATE TABLE IF NOT EXISTS stock${suffix} (sku text PRIMARY KEY, quantity bigint NOT NULL)`,
          );
        }),
      switch: (checkpoint) =>
        transaction(pool, async (client) => {
          await client.query("DROP TABLE stock");
          await client.query("ALTER TABLE stock_rebuild RENAME TO stock");
          await checkpoint.switch(client);
        }),
    },
    (events, checkpoint) =>
      transaction(pool, async (client) => {
        for (const { event } of events) {
          const sign = StockReceived.is(event) ? 1 : -1;
          await client.query(
            `INSERT INTO stock${checkpoint.suffix} AS s VALUES ($1, $2)
             ON CONFLICT (sku) DO UPDATE SET quantity = s.quantity + excluded.quantity`,
            [event.sku, sign * event.quantity],
          );
        }
        await checkpoint.save(client);
      }),
  );
}

/** What the table says. */
export async function levels(pool: Pool): Promise<Record<string, number>> {
  const { rows } = await pool.query<{ sku: string; quantity: string }>(
    "SELECT sku, quantity FROM stock ORDER BY sku",
  );
  return Object.fromEntries(rows.map(({ sku, quantity }) => [sku, Number(quantity)]));
}
