import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Worker } from "node:worker_threads";
import { describe, expect, test } from "vitest";
import { folder } from "./shop.js";

const run = promisify(execFile);
const built = (file: string): string => fileURLToPath(new URL(`../dist/${file}`, import.meta.url));

const PROGRAM = `
const Placed = event("Shop.Orders.OrderPlaced", type());
const Place = command("Shop.Orders.PlaceOrder", type());
const app = new Orkestra("shop", { store: process.env.STORE ?? "memory:", env: {} });
app.commandHandler(Place, async (command) => {
  await app.publish(Placed({ id: command.id }));
  return command.id + 1;
});
app.eventHandler(Placed, () => undefined, { name: globalThis.HANDLER ?? "h" });
`;

const ESM = `import { Orkestra, command, event, type, StoreError } from ${JSON.stringify(built("esm/index.js"))};
${PROGRAM}
await app.start();
`;
const CJS = `const { Orkestra, command, event, type, StoreError } = require(${JSON.stringify(built("cjs/index.js"))});
${PROGRAM}
`;

/** Runs a program of its own process to its end; it is killed after 20 s. */
async function program(name: string, text: string, store = "memory:"): Promise<string> {
  const file = `${folder()}/${name}`;
  writeFileSync(file, text);
  const env = { ...process.env, STORE: store };
  const { stdout } = await run(process.execPath, [file], { timeout: 20_000, env });
  return stdout.trim();
}

const sqlite = (): string => `sqlite:${folder()}/shop.db`;

describe("the package", () => {
  test("is imported", async () => {
    const text = `${ESM} console.log(await app.dispatch(Place({ id: 1 }))); await app.close();`;

    expect(await program("main.mjs", text)).toBe("2");
  });

  test("is required", async () => {
    const text = `${CJS}
      app.start().then(() => app.dispatch(Place({ id: 1 }))).then(console.log).then(() => app.close());`;

    expect(await program("main.cjs", text)).toBe("2");
  });

  test("says when a message comes from its other copy", async () => {
    const text = `${ESM}
      import { createRequire } from "node:module";
      const other = createRequire(import.meta.url)(${JSON.stringify(built("cjs/index.js"))});
      const Other = other.command("Shop.Orders.PlaceOrder", other.type());
      await app.dispatch(Other({ id: 1 })).catch((error) => console.log(error.message));
      await app.close();`;

    expect(await program("main.mjs", text)).toBe(
      "expected a command, found PlaceOrder of another copy of orkestra",
    );
  });

  test("shows messages, errors and metadata readably", async () => {
    const text = `${ESM}
      console.log(Place({ id: 1 }));
      console.log(Place);
      await app.store.append("$x", []).catch((error) => console.log(String(error), error instanceof StoreError));
      await app.close();`;

    const shown = (await program("main.mjs", text)).replace(/\n {2}|\n(?=\})/g, " ").split("\n");
    expect(shown).toEqual([
      "PlaceOrder { id: 1 }",
      "[Function: PlaceOrder] { kind: 'command', typeName: 'Shop.Orders.PlaceOrder' }",
      "InvalidStreamNameError: stream name $x: names that begin with `$` are reserved true",
    ]);
  });
});

test("many handlers are no leak", async () => {
  const text = `${CJS}
    const seen = [];
    for (let n = 0; n < 30; n++) app.eventHandler(Placed, () => seen.push(n), { name: "h" + n });
    process.on("warning", ({ name }) => console.log(name));
    app.start().then(() => app.publish(Placed({}))).then(() => console.log(seen.length)).then(() => app.close());`;

  expect(await program("main.cjs", text)).toBe("30");
});

describe("a process ends by itself", () => {
  test.each(["memory:", "sqlite"])("with an app that was never closed, on %s", async (store) => {
    const text = `${ESM}
      await app.store.append("order-1", [Placed({ id: 1 })]);
      console.log(await app.dispatch(Place({ id: 1 })));`;

    expect(await program("main.mjs", text, store === "sqlite" ? sqlite() : store)).toBe("2");
  });

  test("but not while somebody waits for the store", async () => {
    const text = `${ESM}
      const seen = [];
      const done = Array.from({ length: 100 }, (_, n) => app.store.append("order-" + n, [Placed({ id: n })]));
      Promise.all(done).then((all) => console.log(all.length));`;

    expect(await program("main.mjs", text, sqlite())).toBe("100");
  });

  test("nor a wait for a view that ended with its app", async () => {
    const text = `${ESM}
      const began = Date.now();
      process.on("exit", () => console.log(Date.now() - began < 10_000));
      app.caughtUp("h", 1e9).catch((error) => console.log(error instanceof StoreError));
      setImmediate(() => app.close());`;

    expect(await program("main.mjs", text)).toBe("true\ntrue");
  });

  test("and process.exit does not wait", async () => {
    const text = `${ESM}
      for (let n = 0; n < 100; n++) app.store.append("order-" + n, [Placed({ id: n })]);
      console.log("out");
      process.exit(0);`;

    expect(await program("main.mjs", text, sqlite())).toBe("out");
  });

  test("run keeps it alive until the signal", async () => {
    const text = `${ESM}
      const stop = new AbortController();
      setTimeout(() => stop.abort(), 50);
      await app.run({ signal: stop.signal });
      console.log((await app.health()).status);`;

    expect(await program("main.mjs", text)).toBe("closed");
  });
});

describe("worker threads", () => {
  // Several readers of one name are for later: each worker has its own.
  const LOOP = `globalThis.HANDLER = "h" + require("node:worker_threads").threadId;
    ${CJS}
    const { parentPort } = require("node:worker_threads");
    app.start().then(async () => {
      for (let n = 0; ; n++) {
        await app.store.append("order-" + (n % 7), [Placed({ id: n })]);
        if (n === 20) parentPort.postMessage(await app.dispatch(Place({ id: n })));
      }
    });`;

  test("have instances of their own and may be terminated in the middle of work", async () => {
    const store = sqlite();
    const env = { ...process.env, STORE: store };
    const workers = [1, 2, 3].map(() => new Worker(LOOP, { eval: true, env }));
    const answers = await Promise.all(
      workers.map(
        (worker) =>
          new Promise((resolve, reject) => {
            worker.once("message", resolve);
            worker.once("error", reject);
          }),
      ),
    );

    const codes = await Promise.all(workers.map((worker) => worker.terminate()));

    expect(answers).toEqual([21, 21, 21]);
    expect(codes).toEqual([1, 1, 1]);
  });

  test("end by themselves when their work is done", async () => {
    const text = `${CJS}
      app.start().then(() => app.store.append("order-1", [Placed({ id: 1 })]));`;
    const worker = new Worker(text, { eval: true, env: { ...process.env, STORE: sqlite() } });

    const code = await new Promise((resolve) => worker.once("exit", resolve));

    expect(code).toBe(0);
  });

  test("do not take the process with them when it ends", async () => {
    const text = `${ESM}
      import { Worker } from "node:worker_threads";
      const worker = new Worker(${JSON.stringify(LOOP)}, { eval: true });
      await new Promise((resolve) => worker.once("message", resolve));
      console.log("out");
      process.exit(0);`;

    expect(await program("main.mjs", text, sqlite())).toBe("out");
  });
});
