import Database from "better-sqlite3";
import pg from "pg";
import { describe, expect, test, vi } from "vitest";
import { type Cells, isTrue, type Link, linkOf, type Steps } from "../ts/drivers/index.js";
import type { SyncLink } from "../ts/drivers/link.js";
import { InvalidConnectionError, NoTransactionError } from "../ts/errors.js";
import { connect, database, hasPostgres } from "./postgres.js";
import { nodeSqlite } from "./views.js";

function* insert(name: string, sign: "$" | "?"): Steps<readonly Cells[]> {
  const parameters = [name, 7];
  yield { sql: `INSERT INTO marks (name, n) VALUES (${sign}1, ${sign}2)`, parameters };
  const sql = `SELECT n + 0, name, ${sign}2 || '' FROM marks WHERE name = ${sign}1`;
  return yield { sql, parameters: [name, "x"] };
}

async function written(link: Link, name: string): Promise<readonly Cells[]> {
  return await link.run((dialect) => insert(name, dialect === "postgres" ? "$" : "?"));
}

interface Sqlite {
  exec(sql: string): unknown;
  prepare(sql: string): { all(): unknown[] };
}

const SQLITES: readonly { name: string; available: () => boolean; open: () => Sqlite }[] = [
  {
    name: "better-sqlite3",
    available: () => true,
    open: () => new Database(":memory:"),
  },
  {
    name: "node:sqlite",
    available: () => nodeSqlite() !== undefined,
    open: () => {
      const sqlite = nodeSqlite();
      if (sqlite === undefined) throw new Error("there is no node:sqlite");
      return new sqlite.DatabaseSync(":memory:");
    },
  },
];

for (const { name, available, open } of SQLITES) {
  describe.skipIf(!available())(name, () => {
    function marks(): Sqlite {
      const db = open();
      db.exec("CREATE TABLE marks (name TEXT PRIMARY KEY, n INTEGER)");
      return db;
    }

    test("what is written commits and rolls back with the user's transaction", async () => {
      const db = marks();
      db.exec("BEGIN");
      expect(await written(linkOf(db), "kept")).toEqual([[7, "kept", "x"]]);
      db.exec("COMMIT");
      db.exec("BEGIN");
      await written(linkOf(db), "gone");
      db.exec("ROLLBACK");

      expect(db.prepare("SELECT name FROM marks").all()).toMatchObject([{ name: "kept" }]);
    });

    test("an error of a statement is thrown at once", () => {
      const db = marks();
      db.exec("BEGIN");
      const link = linkOf(db) as SyncLink;
      link.run(() => insert("one", "?"));

      expect(() => link.run(() => insert("one", "?"))).toThrow(/UNIQUE/);
    });

    test("a database without an open transaction is refused", () => {
      const link = linkOf(marks()) as SyncLink;

      expect(() => link.run(() => insert("one", "?"))).toThrow(NoTransactionError);
    });
  });
}

test("an error inside better-sqlite3's own transaction function rolls it back", () => {
  const db = new Database(":memory:");
  db.exec("CREATE TABLE marks (name TEXT PRIMARY KEY, n INTEGER)");
  const twice = db.transaction(() => {
    const link = linkOf(db) as SyncLink;
    for (const name of ["one", "one"]) link.run(() => insert(name, "?"));
  });

  expect(twice).toThrow(/UNIQUE/);
  expect(db.prepare("SELECT count(*) AS n FROM marks").get()).toEqual({ n: 0 });
});

test.skipIf(nodeSqlite() === undefined)(
  "node:sqlite: a class of the user's is one too, and an older one that does not say whether there is a transaction",
  () => {
    const { DatabaseSync: Base } = nodeSqlite() as NonNullable<ReturnType<typeof nodeSqlite>>;
    class Marks extends Base {}
    const db = new Marks(":memory:");
    db.exec("CREATE TABLE marks (name TEXT PRIMARY KEY, n INTEGER)");
    class DatabaseSync {
      readonly exec = (sql: string): void => db.exec(sql);
      readonly prepare = (sql: string) => db.prepare(sql);
    }
    for (const link of [linkOf(db), linkOf(new DatabaseSync())] as SyncLink[]) {
      expect(() => link.run(() => insert("one", "?"))).toThrow(NoTransactionError);
      db.exec("BEGIN");
      link.run(() => insert("one", "?"));
      db.exec("ROLLBACK");
    }
    expect(db.prepare("SELECT name FROM marks").all()).toEqual([]);
  },
);

describe.skipIf(!hasPostgres())("pg", () => {
  async function marks(): Promise<[string, pg.Client]> {
    const url = await database();
    const client = await connect(url);
    await client.query("CREATE TABLE marks (name text PRIMARY KEY, n integer)");
    return [url, client];
  }

  async function names(client: pg.Client): Promise<string[]> {
    const { rows } = await client.query<{ name: string }>("SELECT name FROM marks ORDER BY name");
    return rows.map(({ name }) => name);
  }

  test("what is written commits and rolls back with the user's transaction", async () => {
    const [, client] = await marks();
    await client.query("BEGIN");
    expect(await written(linkOf(client), "kept")).toEqual([["7", "kept", "x"]]);
    await client.query("COMMIT");
    await client.query("BEGIN");
    await written(linkOf(client), "gone");
    await client.query("ROLLBACK");

    expect(await names(client)).toEqual(["kept"]);
  });

  test("a client that a pool lends is one too, and a pool is refused", async () => {
    const [url] = await marks();
    const pool = new pg.Pool({ connectionString: url });
    // The database is deleted under it at the end.
    pool.on("error", () => {});
    expect(() => linkOf(pool)).toThrow(/a pool: connect a client/);
    const client = await pool.connect();
    try {
      await client.query("BEGIN");
      expect(await written(linkOf(client), "kept")).toEqual([["7", "kept", "x"]]);
      await client.query("COMMIT");
    } finally {
      client.release();
      await pool.end();
    }
  });

  test("a client that will never answer is refused, and one that is about to connect waits", async () => {
    const [url] = await marks();
    const client = new pg.Client({ connectionString: url });
    expect(() => linkOf(client)).toThrow("found a pg.Client that is not connected");
    const connecting = client.connect();
    await expect(written(linkOf(client), "one")).rejects.toThrow(NoTransactionError);
    await connecting;
    await client.end();
    expect(() => linkOf(client)).toThrow("found a pg.Client that was ended");
  });

  test("a client without an open transaction is refused, whether it knows that itself or has to ask", async () => {
    const [, client] = await marks();
    const sent = vi.spyOn(client, "query");
    await expect(written(linkOf(client), "one")).rejects.toThrow(NoTransactionError);
    expect(sent).not.toHaveBeenCalled();
    await client.query("BEGIN");
    sent.mockClear();
    await written(linkOf(client), "one");
    // The two statements of it, and no question.
    expect(sent).toHaveBeenCalledTimes(2);
    await client.query("COMMIT");
    // An older pg does not say whether there is one.
    Object.defineProperty(client, "getTransactionStatus", { value: undefined });
    await expect(written(linkOf(client), "two")).rejects.toThrow(NoTransactionError);
    await client.query("BEGIN");
    await written(linkOf(client), "two");
    await client.query("COMMIT");

    expect(await names(client)).toEqual(["one", "two"]);
  });

  test("what is under way counts: a transaction that begins, and one that ends", async () => {
    const [, client] = await marks();
    const begun = client.query("BEGIN");
    await written(linkOf(client), "kept");
    await begun;
    const ended = client.query("COMMIT");

    await expect(written(linkOf(client), "apart")).rejects.toThrow(NoTransactionError);

    await ended;
    expect(await names(client)).toEqual(["kept"]);
  });

  test("what nobody awaits is sent before what follows, and never after the end of the transaction", async () => {
    const [, client] = await marks();
    await client.query("BEGIN");
    const running = linkOf(client).run(() => insert("one", "$")) as Promise<unknown>;
    await client.query("ROLLBACK");

    // The first statement was in time, the second was not.
    await expect(running).rejects.toThrow(NoTransactionError);
    expect(await names(client)).toEqual([]);
  });

  test("the user's own parsers change nothing", async () => {
    const [url] = await marks();
    for (const config of [
      { types: { getTypeParser: () => () => "mine" } },
      { binary: true },
      { pipeline: true },
    ]) {
      const client = new pg.Client({ connectionString: url, ...config } as pg.ClientConfig);
      await client.connect();
      await client.query("BEGIN");
      const [row] = await linkOf(client).run(function* work(): Steps<readonly Cells[]> {
        return yield { sql: "SELECT true, false, CAST(7 AS bigint)", parameters: [] };
      });
      await client.end();

      expect([isTrue(row?.[0]), isTrue(row?.[1]), Number(row?.[2])]).toEqual([true, false, 7]);
    }
  });
});

test("what is no connection is refused by name", () => {
  for (const given of [{}, null, "postgres://", new Map(), Object.create(null)]) {
    expect(() => linkOf(given as object)).toThrow(InvalidConnectionError);
  }
  expect(() => linkOf(new Map())).toThrow(/found Map$/);
});
