import Database from "better-sqlite3";
import pg from "pg";
import { describe, expect, test } from "vitest";
import { type Cells, type Link, linkOf, type Steps } from "../ts/drivers/index.js";
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

describe("better-sqlite3", () => {
  function marks(): Database.Database {
    const db = new Database(":memory:");
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

    expect(db.prepare("SELECT name FROM marks").all()).toEqual([{ name: "kept" }]);
  });

  test("an error of a statement is thrown at once, inside the transaction function", () => {
    const db = marks();
    const twice = db.transaction(() => {
      const link = linkOf(db) as SyncLink;
      for (const name of ["one", "one"]) link.run(() => insert(name, "?"));
    });

    expect(twice).toThrow(/UNIQUE/);
    expect(db.prepare("SELECT count(*) AS n FROM marks").get()).toEqual({ n: 0 });
  });

  test("a database without an open transaction is refused", () => {
    const link = linkOf(marks());
    expect(() => link.run(() => insert("one", "?"))).toThrow(NoTransactionError);
  });
});

describe.skipIf(nodeSqlite() === undefined)("node:sqlite", () => {
  function marks() {
    const sqlite = nodeSqlite();
    if (sqlite === undefined) throw new Error("there is no node:sqlite");
    const db = new sqlite.DatabaseSync(":memory:");
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

  test("a database without an open transaction is refused, also by one that does not say whether there is one", () => {
    const db = marks();
    expect(() => linkOf(db).run(() => insert("one", "?"))).toThrow(NoTransactionError);
    class DatabaseSync {
      readonly exec = (sql: string): void => db.exec(sql);
      readonly prepare = (sql: string) => db.prepare(sql);
    }
    const older = linkOf(new DatabaseSync()) as SyncLink;
    expect(() => older.run(() => insert("one", "?"))).toThrow(NoTransactionError);
    db.exec("BEGIN");
    older.run(() => insert("one", "?"));
    db.exec("COMMIT");
    expect(db.prepare("SELECT name FROM marks").all()).toMatchObject([{ name: "one" }]);
  });
});

describe.skipIf(!hasPostgres())("pg", () => {
  async function marks(): Promise<[string, pg.Client]> {
    const url = await database();
    const client = await connect(url);
    await client.query("CREATE TABLE marks (name text PRIMARY KEY, n integer)");
    return [url, client];
  }

  test("what is written commits and rolls back with the user's transaction", async () => {
    const [, client] = await marks();
    await client.query("BEGIN");
    expect(await written(linkOf(client), "kept")).toEqual([[7, "kept", "x"]]);
    await client.query("COMMIT");
    await client.query("BEGIN");
    await written(linkOf(client), "gone");
    await client.query("ROLLBACK");

    expect((await client.query("SELECT name FROM marks")).rows).toEqual([{ name: "kept" }]);
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
      expect(await written(linkOf(client), "kept")).toEqual([[7, "kept", "x"]]);
      await client.query("COMMIT");
    } finally {
      client.release();
      await pool.end();
    }
  });

  test("a client without an open transaction is refused", async () => {
    const [, client] = await marks();
    await expect(written(linkOf(client), "one")).rejects.toThrow(NoTransactionError);
    // An older pg does not say whether there is one.
    Object.defineProperty(client, "getTransactionStatus", { value: undefined });
    await expect(written(linkOf(client), "one")).rejects.toThrow(NoTransactionError);
    await client.query("BEGIN");
    await written(linkOf(client), "one");
    await client.query("COMMIT");
    expect((await client.query("SELECT count(*)::int AS n FROM marks")).rows).toEqual([{ n: 1 }]);
  });
});

test("what is no connection is refused by name", () => {
  for (const given of [{}, null, "postgres://", new Map()]) {
    expect(() => linkOf(given as object)).toThrow(InvalidConnectionError);
  }
  expect(() => linkOf(new Map())).toThrow(/found Map$/);
});
