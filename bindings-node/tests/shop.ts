/** The example domain of the tests: one shop. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { aggregate, command, event, Orkestra, type OrkestraOptions, Reject } from "orkestra";
import { afterAll, onTestFinished } from "vitest";
import { z } from "zod";

export const PlaceOrder = command(
  "Shop.Orders.PlaceOrder",
  z.object({ order_id: z.string(), quantity: z.number().int() }),
  { result: z.object({ order_id: z.string() }) },
);
export const CancelOrder = command("Shop.Orders.CancelOrder", z.object({ order_id: z.string() }));
export const OrderPlaced = event(
  "Shop.Orders.OrderPlaced",
  z.object({ order_id: z.string(), quantity: z.number().int() }),
);
export const OrderCancelled = event(
  "Shop.Orders.OrderCancelled",
  z.object({ order_id: z.string() }),
);

export const AddItem = command(
  "Shop.Carts.AddItem",
  z.object({ cart: z.string(), sku: z.string() }),
);
export const ItemAdded = event("Shop.Carts.ItemAdded", z.object({ sku: z.string() }));

/** A cart that takes ten items and counts them. */
export const cart = (
  options: { snapshotEvery?: number; schemaVersion?: number; cache?: number } = {},
) =>
  aggregate({
    name: "cart",
    commands: [AddItem],
    events: [ItemAdded],
    ...options,
    initial: () => ({ items: 0 }),
    streamId: (addItem) => `cart-${addItem.cart}`,
    decide: (state, addItem) =>
      state.items >= 10 ? new Reject("the cart is full") : [ItemAdded({ sku: addItem.sku })],
    evolve: (state) => ({ items: state.items + 1 }),
  });

export const place = (order_id = "7") => PlaceOrder({ order_id, quantity: 1 });
export const placed = (order_id = "7") => OrderPlaced({ order_id, quantity: 1 });

const folders: string[] = [];
afterAll(() => {
  for (const one of folders) rmSync(one, { recursive: true, force: true });
});

/** A folder that is the test's own; removed after the last test of its file. */
export function folder(): string {
  const made = mkdtempSync(join(tmpdir(), "orkestra-"));
  folders.push(made);
  return made;
}

/** An app of the test, closed when it ends. In memory unless `options` say otherwise. */
export function shop(options: OrkestraOptions = {}): Orkestra {
  const app = new Orkestra("shop", { store: "memory:", env: {}, ...options });
  onTestFinished(() => app.close());
  return app;
}

/** A promise to be settled by hand. */
export function gate(): { readonly opened: Promise<void>; readonly open: () => void } {
  let open = (): void => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}
