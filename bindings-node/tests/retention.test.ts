import { readFileSync } from "node:fs";
import { join } from "node:path";
import { InvalidArgumentError, type Orkestra } from "orkestra";
import { describe, expect, test } from "vitest";
import { folder, OrderPlaced, placed, shop } from "./shop.js";
import { STORES } from "./stores.js";
import { eventually } from "./views.js";

async function streams(app: Orkestra): Promise<string[]> {
  const names: string[] = [];
  for await (const { stream } of app.store.readAll()) names.push(stream);
  return names;
}

describe.each(STORES)("on $name", ({ url }) => {
  test("idle streams of a pattern are archived, and gone", async () => {
    const archive = join(folder(), "old.jsonl");
    const app = await shop({ store: await url() }).start();
    await app.store.append("order-1", [placed("1"), placed("2")]);
    await app.store.append("cart-1", [placed("3")]);
    const options = { olderThanMs: 0, streams: "order-*", archive };
    // Something that occurred in this very microsecond is not older than now.
    let done = await app.retention.purgeStreams(options);
    while (done.streams === 0) done = await app.retention.purgeStreams(options);

    expect(done).toEqual({ streams: 1, events: 2, wentOn: 0, hidden: 0 });
    expect(await streams(app)).toEqual(["cart-1"]);
    const lines = readFileSync(archive, "utf8").trim().split("\n");
    expect(lines.map((line) => JSON.parse(line).stream)).toEqual(["order-1", "order-1"]);
    expect(await app.retention.purgeStreams({ olderThanMs: 60_000 })).toMatchObject({ streams: 0 });
  });

  test("dead letters, messages and records of the inbox go by age", async () => {
    const app = shop({ store: await url() });
    app.eventHandler(
      OrderPlaced,
      () => {
        throw new Error("no");
      },
      { name: "fails", maxRetries: 0 },
    );
    await app.outbox.add(placed());
    expect(await app.retention.purgeOutbox({ olderThanMs: 60_000 })).toBe(0);
    // As above.
    await eventually(async () => (await app.retention.purgeOutbox({ olderThanMs: 0 })) === 1);
    expect((await app.outbox.pending()).messages).toBe(0);
    await app.start();
    await app.publish(placed());

    const { retention } = app;
    expect(await retention.purgeDeadLetters({ olderThanMs: 60_000 })).toBe(0);
    expect(await retention.purgeDeadLetters({ olderThanMs: 0, handler: "shop.other" })).toBe(0);
    await eventually(async () => (await retention.purgeDeadLetters({ olderThanMs: 0 })) === 1);
    expect(await retention.purgeInbox({ olderThanMs: 0 })).toBe(0);
  });
});

test("an age is a number from 0", async () => {
  const app = await shop().start();

  await expect(app.retention.purgeStreams({ olderThanMs: -1 })).rejects.toThrow(
    InvalidArgumentError,
  );
});
