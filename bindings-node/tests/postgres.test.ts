/** One PostgreSQL database for the log, the state and the user's own tables. */
import {
  InvalidConnectionError,
  NoTransactionError,
  type Orkestra,
  UnsupportedPayloadError,
} from "orkestra";
import type pg from "pg";
import { describe, expect, test } from "vitest";
import { connect, database, hasPostgres } from "./postgres.js";
import { AddItem, cart, ItemAdded, OrderPlaced, placed, shop } from "./shop.js";
import { eventually } from "./views.js";

async function gone(app: Orkestra): Promise<void> {
  await eventually(async () => (await app.outbox.pending()).messages === 0);
}

async function within<T>(client: pg.Client, work: () => Promise<T>): Promise<T> {
  await client.query("BEGIN");
  try {
    const result = await work();
    await client.query("COMMIT");
    return result;
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  }
}

describe.skipIf(!hasPostgres())("in the user's own transaction", () => {
  test("a message is in the outbox when the transaction commits, and not when it rolls back", async () => {
    const store = await database();
    const [app, client] = [shop({ store }), await connect(store)];
    const seen: string[] = [];
    app.eventHandler(OrderPlaced, (event) => seen.push(event.order_id), { name: "mail" });
    await app.start();
    await client.query("CREATE TABLE orders (id text)");

    const id = await within(client, async () => {
      await client.query("INSERT INTO orders VALUES ('kept')");
      return app.outbox.add(placed("kept"), client, { actorId: "anna" });
    });
    const failed = within(client, async () => {
      await client.query("INSERT INTO orders VALUES ('gone')");
      await app.outbox.add(placed("gone"), client);
      throw new Error("rolled back");
    });
    await expect(failed).rejects.toThrow("rolled back");
    await eventually(() => seen.length > 0);
    await gone(app);

    expect(id).toMatch(/^[0-9a-f-]{36}$/);
    expect(seen).toEqual(["kept"]);
    expect((await client.query("SELECT id FROM orders")).rows).toEqual([{ id: "kept" }]);
    await expect(app.outbox.add(placed(), client)).rejects.toThrow(NoTransactionError);
  });

  test("a connection to a database without the state's schema is refused by name", async () => {
    const [store, elsewhere] = [await database(), await database()];
    const [app, client] = [shop({ store }), await connect(elsewhere)];
    await app.start();

    const adding = within(client, () => app.outbox.add(placed(), client));

    await expect(adding).rejects.toThrow(InvalidConnectionError);
    await expect(adding).rejects.toThrow(/to another database: schema "orkestra" does not exist$/);
  });

  test("events are appended when the transaction commits, and at the expected revision or not at all", async () => {
    const store = await database();
    const [app, client] = [shop({ store }).addTypes(OrderPlaced), await connect(store)];
    await app.start();
    const seen: string[] = [];
    const append = (id: string, expected: string) => {
      const events = [{ type: "Shop.Orders.OrderPlaced", data: { order_id: id, quantity: 1 } }];
      const sql = "SELECT orkestra.append($1, $2, $3)";
      return client.query(sql, [`order-${id}`, JSON.stringify(events), expected]);
    };

    await within(client, () => append("kept", "any"));
    const rolledBack = within(client, async () => {
      await append("gone", "any");
      throw new Error("rolled back");
    });
    await expect(rolledBack).rejects.toThrow("rolled back");
    await within(client, () => append("new", "no_stream"));
    const conflict = within(client, () => append("new", "no_stream"));
    await expect(conflict).rejects.toMatchObject({ code: "ORK01" });

    await eventually(async () => {
      seen.length = 0;
      for await (const { stream } of app.store.readAll()) seen.push(stream);
      return seen.length === 2;
    });
    expect(seen.sort()).toEqual(["order-kept", "order-new"]);
  });

  test("a handler claims a message once, with what it writes", async () => {
    const store = await database();
    const [app, client] = [shop({ store }), await connect(store)];
    await client.query("CREATE TABLE shipments (id text)");
    const claims: boolean[] = [];
    let failures = 1;
    app.eventHandler(
      OrderPlaced,
      (event, _metadata, { inbox }) =>
        within(client, async () => {
          const isNew = await inbox.claim(client);
          claims.push(isNew);
          if (isNew) await client.query("INSERT INTO shipments VALUES ($1)", [event.order_id]);
          if (failures-- > 0) throw new Error("not yet");
        }),
      { name: "ship", inbox: true, retry: { initialMs: 1 } },
    );
    await app.start();
    const id = "0190aaaa-0000-7000-8000-000000000003";

    for (const event of [placed(), placed()]) {
      await app.outbox.add(event, { id });
      await gone(app);
    }

    // The first was rolled back; what came again was not even handed over.
    expect(claims).toEqual([true, true]);
    expect((await client.query("SELECT id FROM shipments")).rows).toEqual([{ id: "7" }]);
  });

  test("a command's event is in the view when its position is waited for", async () => {
    const store = await database();
    const Cart = cart();
    const [app, client] = [shop({ store }).addAggregate(Cart), await connect(store)];
    app.projection(
      "items",
      {
        events: [ItemAdded],
        prepare: () => client.query("CREATE TABLE IF NOT EXISTS items (sku text)"),
      },
      (events, checkpoint) =>
        within(client, async () => {
          for (const { event } of events) {
            await client.query("INSERT INTO items VALUES ($1)", [event.sku]);
          }
          await checkpoint.save(client);
        }),
    );
    await app.start();

    for (const sku of ["a", "b", "c"]) {
      const { position } = await app.execute(Cart, AddItem({ cart: "1", sku }));
      await app.caughtUp("items", position as number);
      const { rows } = await client.query("SELECT sku FROM items ORDER BY sku DESC LIMIT 1");
      expect(rows).toEqual([{ sku }]);
    }
  });
});

test.skipIf(!hasPostgres())("what PostgreSQL cannot hold is named", async () => {
  const app = await shop({ store: await database() }).start();

  const error = await app.store
    .append("cart-1", [ItemAdded({ sku: "a\u0000b" })])
    .catch((caught: unknown) => caught);

  expect(error).toBeInstanceOf(UnsupportedPayloadError);
  expect((error as UnsupportedPayloadError).message).toMatch(/\$\.data\.sku/);
});
