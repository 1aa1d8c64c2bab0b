/** The command `orkestra worker` with real processes. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { hasBroker, VirtualHost } from "./broker.js";
import { folder, OrderPlaced, placed } from "./shop.js";

const built = (file: string): string => fileURLToPath(new URL(`../dist/${file}`, import.meta.url));
const PATIENT = { timeout: 20_000, interval: 20 };

/** The command with its lines of stdout, killed when the test ends. */
class Orkestra {
  readonly process: ChildProcess;
  readonly lines: string[] = [];
  errors = "";

  constructor(args: readonly string[], env: Record<string, string> = {}) {
    const child = spawn(process.execPath, [built("esm/cli.js"), ...args], {
      env: { ...process.env, ...env },
    });
    this.process = child;
    createInterface({ input: child.stdout }).on("line", (line) => this.lines.push(line));
    child.stderr.on("data", (text) => {
      this.errors += text;
    });
    onTestFinished(() => void child.kill("SIGKILL"));
  }

  /** Its exit code, or the signal that ended it. */
  async ended(): Promise<number | string> {
    const { exitCode, signalCode } = this.process;
    if (exitCode !== null || signalCode !== null) return exitCode ?? signalCode ?? "";
    const [code, signal] = await once(this.process, "close");
    return code ?? signal;
  }

  saw(line: string | RegExp): Promise<void> {
    const matches = (text: string) => (typeof line === "string" ? text === line : line.test(text));
    return vi.waitFor(() => expect(this.lines.some(matches), this.errors).toBe(true), PATIENT);
  }
}

/** A module of an app whose handler says what it does; an order of `quantity` 2 takes until the file `go` is there. */
function moduleFile(exported = "export const app ="): string {
  const file = `${folder()}/app.mjs`;
  writeFileSync(
    file,
    `import { existsSync } from "node:fs";
    import { Orkestra, event, type } from ${JSON.stringify(built("esm/index.js"))};
    const OrderPlaced = event("Shop.Orders.OrderPlaced", type());
    ${exported} build();
    function build() {
      const made = new Orkestra("shop", { store: "memory:" });
      made.eventHandler(OrderPlaced, async ({ order_id, quantity }) => {
        console.log("begun", order_id, process.pid);
        if (quantity === 13) process.kill(process.pid, "SIGKILL");
        while (quantity === 2 && !existsSync(process.env.GO)) await new Promise((next) => setTimeout(next, 10));
        console.log("done", order_id, process.pid);
      }, { name: "count" });
      return made;
    }
    `,
  );
  return file;
}

describe("orkestra", () => {
  test("says what is wrong with its arguments and with its target", async () => {
    const there = folder();
    writeFileSync(`${there}/empty.mjs`, "export const other = 1;");
    writeFileSync(`${there}/broken.mjs`, "throw new TypeError('because');");
    for (const [args, code, text] of [
      [["--version"], 0, ""],
      [["nothing"], 2, "unrecognized subcommand"],
      [["worker"], 2, "TARGET"],
      [["worker", "x.mjs", "--processes", "0"], 2, "--processes"],
      [["worker", `${there}/missing.mjs`], 1, "InvalidSettingError: target"],
      [["worker", `${there}/empty.mjs`], 1, "it exports no app: expected one as default"],
      [["worker", `${there}/broken.mjs`], 1, "TypeError: because"],
    ] as const) {
      const command = new Orkestra(args);

      expect(await command.ended(), command.errors).toBe(code);
      expect(command.errors).toContain(text);
    }
  }, 60_000);

  test("says why a worker cannot start", async () => {
    const bus = "amqp://guest:guest@127.0.0.1:1/%2F";

    const command = new Orkestra(["worker", moduleFile()], { ORKESTRA_BUS: bus });

    expect(await command.ended()).toBe(1);
    expect(command.errors).toContain("BusUnavailableError: the broker is unavailable");
  });
});

describe.skipIf(!hasBroker())("orkestra worker", () => {
  test.each(["export const app =", "export default"])(
    "%s: SIGTERM finishes what is in hand, exit code 0",
    async (exported) => {
      const host = new VirtualHost();
      const go = `${folder()}/go`;
      const worker = new Orkestra(["worker", moduleFile(exported)], {
        ORKESTRA_BUS: host.url,
        GO: go,
      });
      const sender = host.app("shop");
      await send(sender, worker, "1", 2);

      worker.process.kill("SIGTERM");
      writeFileSync(go, "");

      expect(await worker.ended(), worker.errors).toBe(0);
      expect(worker.lines.at(-1)).toMatch(/^done 1/);
    },
    60_000,
  );

  test("a second signal ends it at once", async () => {
    const host = new VirtualHost();
    const env = { ORKESTRA_BUS: host.url, GO: `${folder()}/never` };
    const worker = new Orkestra(["worker", moduleFile()], env);
    await send(host.app("shop"), worker, "1", 2);

    worker.process.kill("SIGINT");
    worker.process.kill("SIGTERM");

    expect([130, 143]).toContain(await worker.ended());
  }, 60_000);

  test("K09 what a killed worker had in hand is handled by another", async () => {
    const host = new VirtualHost();
    const go = `${folder()}/go`;
    const env = { ORKESTRA_BUS: host.url, GO: go };
    const file = moduleFile();
    const first = new Orkestra(["worker", file], env);
    const sender = host.app("shop");
    await send(sender, first, "1", 2);
    for (let order = 2; order <= 20; order++) await sender.publish(placed(String(order)));

    first.process.kill("SIGKILL");
    await first.ended();
    writeFileSync(go, "");
    const second = new Orkestra(["worker", file], env);

    for (let order = 1; order <= 20; order++) await second.saw(new RegExp(`^done ${order} `));
  }, 60_000);

  test("K21 a message that kills its process each time becomes a dead letter", async () => {
    const host = new VirtualHost();
    const env = { ORKESTRA_BUS: host.url, GO: `${folder()}/never` };
    const worker = new Orkestra(["worker", moduleFile(), "--processes", "2"], env);
    const sender = host.app("shop");
    await send(sender, worker, "first");

    await sender.publish(OrderPlaced({ order_id: "deadly", quantity: 13 }));

    await vi.waitFor(
      async () => {
        const [letter] = await sender.deadLetters.broker();
        expect(letter, worker.errors).toMatchObject({
          reason: "crash_limit",
          handler: "shop.count",
        });
      },
      { timeout: 40_000, interval: 100 },
    );
    await sender.publish(placed("last"));
    await worker.saw(/^done last /);
    worker.process.kill("SIGTERM");
    expect(await worker.ended(), worker.errors).toBe(0);
    const kills = worker.lines.filter((line) => line.startsWith("begun deadly "));
    expect(kills).toHaveLength(5);
  }, 90_000);

  test("--processes 2 shares the work, starts a killed one again, and SIGTERM ends all", async () => {
    const host = new VirtualHost();
    const env = { ORKESTRA_BUS: host.url, GO: `${folder()}/never` };
    const worker = new Orkestra(["worker", moduleFile(), "--processes", "2"], env);
    const sender = host.app("shop");
    await send(sender, worker, "first");
    const pids = () => new Set(worker.lines.map((line) => line.split(" ")[2]));

    await vi.waitFor(async () => {
      await sender.publish(placed("more"));
      expect(pids().size).toBe(2);
    }, PATIENT);
    process.kill(Number([...pids()][0]), "SIGKILL");
    await vi.waitFor(async () => {
      await sender.publish(placed("more"));
      expect(pids().size).toBe(3);
    }, PATIENT);
    worker.process.kill("SIGTERM");

    expect(await worker.ended(), worker.errors).toBe(0);
    expect(worker.errors).toContain("starting another");
  }, 60_000);
});

/** Publishes an order, again and again until the worker is there to begin with it. */
async function send(
  sender: { publish(event: ReturnType<typeof OrderPlaced>): Promise<unknown> },
  worker: Orkestra,
  order_id: string,
  quantity = 1,
): Promise<void> {
  const begun = new RegExp(`^begun ${order_id} `);
  await vi.waitFor(async () => {
    if (worker.lines.some((line) => begun.test(line))) return;
    // Nobody's queue takes it before the worker has declared its own.
    await sender.publish(OrderPlaced({ order_id, quantity }));
    throw new Error(`not begun: ${worker.errors}`);
  }, PATIENT);
}
