import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, rmSync, writeFileSync } from "node:fs";
import { DiskFullError, ReadOnlyStoreError, StoreLockedError } from "orkestra";
import { describe, expect, onTestFinished, type TestContext, test } from "vitest";
import { folder, ItemAdded, placed, shop } from "./shop.js";

const start = (path: string) => shop({ store: `sqlite:${path}` }).start();

/** Mounts over `path` until the test ends; the test is skipped where that is not permitted. */
function mounted(path: string, context: TestContext, ...mounts: string[][]): void {
  try {
    for (const mount of mounts) execFileSync("mount", [...mount, path], { stdio: "ignore" });
  } catch {
    context.skip("mounting is not permitted");
  }
  onTestFinished(() => {
    execFileSync("umount", ["--lazy", path], { stdio: "ignore" });
  });
}

describe("bad input: the disk", () => {
  test("read-only", async (context) => {
    const path = folder();
    await (await start(`${path}/shop.db`)).close();
    mounted(path, context, ["--bind", path], ["-o", "remount,bind,ro"]);

    await expect(start(`${path}/shop.db`)).rejects.toThrow(ReadOnlyStoreError);
  });

  test("full: nothing of the call is stored, and there is room again after it", async (context) => {
    const path = folder();
    mounted(path, context, ["-t", "tmpfs", "-o", "size=2m", "tmpfs"]);
    const app = await start(`${path}/shop.db`);
    writeFileSync(`${path}/ballast`, Buffer.alloc(512 * 1024));
    const batch = () => [1, 2, 3].map(() => ItemAdded({ sku: "x".repeat(50_000) }));

    let stored = 0;
    const error = await (async () => {
      for (; stored < 100; stored += 3) await app.store.append("cart-1", batch());
    })().catch((caught: unknown) => caught);

    expect(error).toBeInstanceOf(DiskFullError);
    expect(await app.store.head()).toBe(stored);
    rmSync(`${path}/ballast`);
    await app.store.append("cart-1", batch());
    expect(await app.store.head()).toBe(stored + 3);
    await app.close();
  });

  test("a file that another program keeps locked", async () => {
    const path = `${folder()}/shop.db`;
    await (await start(path)).close();
    const script = `import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("begin exclusive")
print("locked", flush=True)
sys.stdin.read()`;
    const other = spawn("python3", ["-c", script, path], { stdio: ["pipe", "pipe", "inherit"] });
    onTestFinished(() => void other.kill());
    await once(other.stdout, "data");

    const refused = (async () => {
      const app = await start(path);
      await app.store.append("order-1", [placed()]);
    })();

    await expect(refused).rejects.toThrow(StoreLockedError);
  });

  test("what is refused leaves no files behind that keep it refused", async () => {
    const path = folder();
    writeFileSync(`${path}/shop.db`, "not a database ".repeat(100));
    await start(`${path}/shop.db`).catch(() => undefined);
    rmSync(`${path}/shop.db`);

    await start(`${path}/shop.db`);

    expect(readdirSync(path)).toContain("shop.db");
  });
});
