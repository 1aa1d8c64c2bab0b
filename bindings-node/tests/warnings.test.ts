import type { Orkestra } from "orkestra";
import { expect, test, vi } from "vitest";
import { folder, OrderPlaced, placed, shop } from "./shop.js";
import { eventually } from "./views.js";

/** Has a reader whose place is behind the log's end read on. */
async function ahead(app: Orkestra): Promise<void> {
  await app.start();
  const { position } = await app.store.append("order-7", [placed()]);
  const reader = app.subscribe({ name: "reader" });
  for await (const batch of reader.batches()) {
    await reader.ack(batch.position + 1000);
    break;
  }
  const again = app.subscribe({ name: "reader", signal: AbortSignal.timeout(300) });
  for await (const _ of again.batches());
  expect(position).toBe(1);
}

test("what the core warns of is in the app's own log", async () => {
  const warned: string[] = [];
  const logger = { warn: (_: object, message: string) => warned.push(message) };
  const app = shop({ store: `sqlite:${folder()}/shop.db`, logger }).addTypes(OrderPlaced);

  await ahead(app);

  await eventually(() => warned.some((text) => text.includes("behind the end of the log")));
  expect(warned.join()).toContain("name=reader");
});

test("without a logger it is a warning of the process; of several apps one tells it", async () => {
  const emitted = vi.spyOn(process, "emitWarning").mockImplementation(() => undefined);
  const other = await shop().start();
  const app = shop({ store: `sqlite:${folder()}/shop.db` }).addTypes(OrderPlaced);

  await ahead(app);
  await other.close();

  await eventually(() => emitted.mock.calls.length > 0);
  const texts = emitted.mock.calls.map(([text]) => String(text));
  expect(texts.filter((text) => text.includes("behind the end of the log"))).toHaveLength(1);
});
