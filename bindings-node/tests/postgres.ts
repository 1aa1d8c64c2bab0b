/** PostgreSQL for the tests: a database for each, in the server that a run shares. */
import { randomUUID } from "node:crypto";
import pg from "pg";
import { onTestFinished } from "vitest";

const server = process.env.ORKESTRA_TEST_POSTGRES;

/** Whether there is a server. Without one the tests that need it are skipped, which is an error where one is required. */
export function hasPostgres(): boolean {
  if (server) return true;
  if ((process.env.ORKESTRA_TEST_REQUIRE ?? "").split(",").includes("postgres")) {
    throw new Error("ORKESTRA_TEST_REQUIRE names postgres, but ORKESTRA_TEST_POSTGRES is not set");
  }
  process.stderr.write("skipped: no PostgreSQL (ORKESTRA_TEST_POSTGRES)\n");
  return false;
}

/** The URL of an empty database, deleted after the test. */
export async function database(): Promise<string> {
  const name = `node_${randomUUID().replaceAll("-", "").slice(0, 12)}`;
  await asAdmin(`CREATE DATABASE "${name}" TEMPLATE template0`);
  onTestFinished(() => asAdmin(`DROP DATABASE "${name}" WITH (FORCE)`));
  // The schema `orkestra` would be the first place of a user named so, from the moment that it is there.
  await asAdmin(`ALTER DATABASE "${name}" SET search_path = public`);
  const url = new URL(server ?? "");
  url.pathname = name;
  return url.href;
}

/** A connected client, ended after the test. */
export async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  // The database is deleted under it at the end.
  client.on("error", () => {});
  await client.connect();
  onTestFinished(() => client.end());
  return client;
}

async function asAdmin(sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: server });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}
