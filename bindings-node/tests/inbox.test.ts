/** What a handler has handled is not handed to it again: over the broker, from the log, and with a record in the user's own transaction. */
import { join } from "node:path";
import Database from "better-sqlite3";
import { type AwaitedConnection, type BlockingConnection, type Inbox, idOf } from "orkestra";
import { describe, expect, test } from "vitest";
import { hasBroker, VirtualHost } from "./broker.js";
import { connect, database, hasPostgres } from "./postgres.js";
import { folder, OrderPlaced, PlaceOrder, place, placed, shop } from "./shop.js";
import { eventually, nodeSqlite } from "./views.js";

const ID = "0190aaaa-0000-7000-8000-00000000000a";
const SOON = { initialMs: 1, jitter: 0 };

interface Shipments {
  exec(sql: string): unknown;
  prepare(sql: string): { all(): unknown[] };
  close(): void;
}

const SQLITES = [
  {
    name: "better-sqlite3",
    available: () => true,
    open: (path: string): Shipments => new Database(path),
  },
  {
    name: "node:sqlite",
    available: () => nodeSqlite() !== undefined,
    open: (path: string): Shipments => {
      const sqlite = nodeSqlite();
      if (sqlite === undefined) throw new Error("there is no node:sqlite");
      return new sqlite.DatabaseSync(path);
    },
  },
];

for (const { name, available, open } of SQLITES) {
  test.skipIf(!available())(`a claim in a file of one's own: ${name}`, async () => {
    const path = join(folder(), "shipments.db");
    const db = open(path);
    db.exec("CREATE TABLE shipments (id TEXT)");
    const app = shop({ store: `sqlite:${join(folder(), "store.db")}` });
    const claims: boolean[] = [];
    let failures = 1;
    app.eventHandler(
      OrderPlaced,
      ({ order_id }, _metadata, { inbox }) => {
        db.exec("BEGIN");
        try {
          const isNew = inbox.claim(db as BlockingConnection);
          claims.push(isNew);
          if (isNew) db.exec(`INSERT INTO shipments VALUES ('${order_id}')`);
          if (failures-- > 0) throw new Error("not yet");
          db.exec("COMMIT");
        } catch (error) {
          db.exec("ROLLBACK");
          throw error;
        }
      },
      { name: "ship", inbox: true, retry: SOON },
    );
    await app.start();

    for (const event of [placed("7"), placed("7")]) {
      await app.outbox.add(event, { id: ID });
      await eventually(async () => (await app.outbox.pending()).messages === 0);
    }

    // The first was rolled back; what came again found the record.
    expect(claims).toEqual([true, true, false]);
    expect(db.prepare("SELECT id FROM shipments").all()).toMatchObject([{ id: "7" }]);
    expect(db.prepare("SELECT handler, message_id FROM orkestra_inbox").all()).toMatchObject([
      { handler: "shop.ship", message_id: ID },
    ]);
    db.close();
  });
}

test("the file of the app's own store is refused, and what an attempt claimed counts for that attempt alone", async () => {
  const path = join(folder(), "store.db");
  const app = shop({ store: `sqlite:${path}` });
  const refused: string[] = [];
  let calls = 0;
  app.eventHandler(
    OrderPlaced,
    (_event, _metadata, { inbox }) => {
      calls++;
      const db = new Database(":memory:");
      db.exec("BEGIN");
      if (calls === 1) {
        inbox.claim(db);
        throw new Error("rolled back");
      }
      db.exec(`COMMIT; ATTACH '${path}' AS other; BEGIN`);
      try {
        inbox.claim(db);
      } catch (error) {
        refused.push((error as { code: string }).code);
      }
      db.close();
    },
    { name: "ship", inbox: true, retry: SOON },
  );
  await app.start();

  for (const event of [placed(), placed()]) {
    await app.outbox.add(event, { id: ID });
    await eventually(async () => (await app.outbox.pending()).messages === 0);
  }

  // The second attempt claimed nothing, so the state store has the record.
  expect([calls, refused]).toEqual([2, ["ORK_APP_STORE_FILE"]]);
});

test.skipIf(!hasPostgres())(
  "a state store that does not answer for a while loses no event of the log",
  async () => {
    const store = await database();
    const admin = await connect(store);
    const warned: string[] = [];
    const warn = (_: unknown, message: string): void => void warned.push(message);
    const app = shop({ store, logger: { warn } });
    const seen: string[] = [];
    const handler = (event: { order_id: string }): void => void seen.push(event.order_id);
    app.eventHandler(OrderPlaced, handler, { name: "ship", inbox: true });
    app.eventHandler(OrderPlaced, handler, { name: "lanes", inbox: true, concurrency: 4 });
    await app.start();
    await admin.query("ALTER TABLE orkestra.inbox RENAME TO away");

    await app.store.append("orders", ["1", "2", "3"].map(placed));
    await eventually(() => ["shop.ship", "shop.lanes"].every((n) => warned.join().includes(n)));
    await admin.query("ALTER TABLE orkestra.away RENAME TO inbox");

    await eventually(() => seen.length >= 6);
    expect(seen.sort()).toEqual(["1", "1", "2", "2", "3", "3"]);
  },
);

describe.skipIf(!hasBroker())("over RabbitMQ", () => {
  test("a message that comes again is handled once, after a restart too", async () => {
    const host = new VirtualHost();
    const store = `sqlite:${join(folder(), "store.db")}`;
    const seen: string[] = [];
    const declare = () => {
      const app = host.app("shop", { store });
      app.eventHandler(OrderPlaced, () => seen.push("once"), { name: "once", inbox: true });
      app.eventHandler(OrderPlaced, () => seen.push("always"), { name: "always" });
      return app;
    };
    const first = await declare().start();
    for (const event of [placed(), placed()]) await first.publish(event, { id: ID });
    await eventually(() => seen.filter((name) => name === "always").length === 2);
    await first.close();
    const second = await declare().start();
    await second.publish(placed(), { id: ID });
    await eventually(() => seen.filter((name) => name === "always").length === 3);
    // Behind it in the same queue, and so after it.
    await second.publish(placed());
    await eventually(() => seen.filter((name) => name === "once").length === 2);

    expect(seen.filter((name) => name === "once")).toHaveLength(2);
  });

  test("a command that comes again is answered with what is recorded", async () => {
    const app = new VirtualHost().app();
    let calls = 0;
    app.commandHandler(PlaceOrder, () => ({ order_id: `made-${++calls}` }), { inbox: true });
    await app.start();

    const answers = [];
    for (const command of [place(), place()]) answers.push(await app.dispatch(command, { id: ID }));

    expect([calls, answers]).toEqual([1, [{ order_id: "made-1" }, { order_id: "made-1" }]]);
  });

  test.skipIf(!hasPostgres())("a claim commits with what the handler writes", async () => {
    const store = await database();
    const client = await connect(store);
    await client.query("CREATE TABLE shipments (id text)");
    const app = new VirtualHost().app("shop", { store });
    const claims: boolean[] = [];
    let failures = 1;
    const claimed = async (inbox: Inbox, connection: AwaitedConnection): Promise<void> => {
      const isNew = await inbox.claim(connection);
      claims.push(isNew);
      if (isNew) await client.query("INSERT INTO shipments VALUES ('7')");
      if (failures-- > 0) throw new Error("not yet");
    };
    app.eventHandler(
      OrderPlaced,
      async (_event, _metadata, { inbox }) => {
        await client.query("BEGIN");
        try {
          await claimed(inbox, client);
          await client.query("COMMIT");
        } catch (error) {
          await client.query("ROLLBACK");
          throw error;
        }
      },
      { name: "ship", inbox: true, retry: SOON },
    );
    await app.start();
    const last = placed("8");
    for (const event of [placed(), placed()]) await app.publish(event, { id: ID });
    await eventually(() => claims.length === 2);
    await app.publish(last);
    await eventually(() => claims.length === 3);

    expect(claims).toEqual([true, true, true]);
    const { rows } = await client.query("SELECT message_id FROM orkestra.inbox ORDER BY 1");
    expect(rows).toEqual([ID, idOf(last)].map((message_id) => ({ message_id })));
    expect((await client.query("SELECT id FROM shipments")).rows).toHaveLength(2);
  });
});
