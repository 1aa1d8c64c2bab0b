/** The stock of a shop: what a command to it decides. */
import { aggregate, command, event, Reject } from "orkestra";
import { z } from "zod";

/** So many of a sku. */
const amount = z.object({ sku: z.string(), quantity: z.int() });

export const ReceiveStock = command("Shop.Stock.Commands.ReceiveStock", amount);
export const ShipStock = command("Shop.Stock.Commands.ShipStock", amount);
export const StockReceived = event("Shop.Stock.Events.StockReceived", amount);
export const StockShipped = event("Shop.Stock.Events.StockShipped", amount);

/** What lies on one shelf; nothing is shipped that is not there. */
export const Stock = aggregate({
  name: "stock",
  commands: [ReceiveStock, ShipStock],
  events: [StockReceived, StockShipped],
  initial: () => ({ quantity: 0 }),
  streamId: ({ sku }) => `stock-${sku}`,
  decide(state, wanted) {
    const { sku, quantity } = wanted;
    if (ReceiveStock.is(wanted)) return [StockReceived({ sku, quantity })];
    if (state.quantity < quantity) {
      throw new Reject("not enough in stock", { left: state.quantity });
    }
    return [StockShipped({ sku, quantity })];
  },
  evolve: (state, happened) => ({
    quantity: state.quantity + (StockReceived.is(happened) ? 1 : -1) * happened.quantity,
  }),
});
