import { expect, test, vi } from "vitest";
import { folder, OrderPlaced, placed, shop } from "./shop.js";

/** An app whose handler `count` notes the orders. */
function counting(store: string, seen: string[]) {
  const app = shop({ store });
  app.eventHandler(OrderPlaced, (event) => void seen.push(event.order_id), { name: "count" });
  return app;
}

test("E06 of two apps on one file one handles and the other takes over", async () => {
  const store = `sqlite:${folder()}/shop.db`;
  const one: string[] = [];
  const two: string[] = [];
  const [first, second] = [counting(store, one), counting(store, two)];
  await first.start();
  await first.store.append("order-0", [placed("0")]);
  await vi.waitFor(() => expect(one).toHaveLength(1));
  await second.start();

  for (let order = 1; order < 20; order++) {
    await second.store.append("order-1", [placed(String(order))]);
  }
  await vi.waitFor(() => expect(one).toHaveLength(20), { timeout: 20_000 });
  await first.close();
  await second.store.append("order-2", [placed("20")]);

  await vi.waitFor(() => expect(two).toEqual(["20"]), { timeout: 20_000 });
  expect(one).toEqual(Array.from({ length: 20 }, (_, order) => String(order)));
}, 60_000);
