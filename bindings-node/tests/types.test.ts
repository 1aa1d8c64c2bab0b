import {
  type AggregateAnswer,
  type CommandOf,
  command,
  type EventEnvelope,
  type EventOf,
  type Executed,
  event,
  type Metadata,
  type RecordedEvent,
  type ResultOf,
  type as unchecked,
} from "orkestra";
import { expectTypeOf, test } from "vitest";
import { z } from "zod";
import {
  AddItem,
  cart,
  OrderCancelled,
  OrderPlaced,
  PlaceOrder,
  place,
  placed,
  shop,
} from "./shop.js";

// Checked by tsc; running them shows only that nothing throws.
test("messages have their schema's types", () => {
  expectTypeOf(place().order_id).toEqualTypeOf<string>();
  expectTypeOf(placed().quantity).toEqualTypeOf<number>();
  expectTypeOf<CommandOf<typeof PlaceOrder>["quantity"]>().toEqualTypeOf<number>();
  expectTypeOf<EventOf<typeof OrderPlaced>["order_id"]>().toEqualTypeOf<string>();
  expectTypeOf<ResultOf<typeof PlaceOrder>>().toEqualTypeOf<{ order_id: string }>();
  const Noted = event("Shop.Noted", z.object({ at: z.coerce.date(), note: z.string().optional() }));
  expectTypeOf(Noted({ at: 0 }).at).toEqualTypeOf<Date>();
  const Plain = event("Shop.Plain", unchecked<{ a: 1 }>());
  expectTypeOf(Plain({ a: 1 }).a).toEqualTypeOf<1>();
  // @ts-expect-error: quantity is a number
  expectTypeOf(PlaceOrder).toBeCallableWith({ order_id: "7", quantity: "1" });
  // @ts-expect-error: fields are read-only
  if (Math.random() > 1) place().order_id = "8";
});

test("dispatch gives what the command declares, unknown without a declaration", () => {
  const Ask = command("Shop.Ask", z.object({}));
  const Typed = command("Shop.Typed", z.object({}), { result: unchecked<number>() });
  const app = shop();
  const calls = {
    place: () => app.dispatch(place()),
    ask: () => app.dispatch(Ask({})),
    typed: () => app.dispatch(Typed({})),
    publish: () => app.publish(placed()),
    execute: () => app.execute(cart(), AddItem({ cart: "1", sku: "a" })),
    // @ts-expect-error: an event is not dispatched
    wrong: () => app.dispatch(placed()),
    // @ts-expect-error: a command is not published
    published: () => app.publish(place()),
  };

  expectTypeOf(calls.place).returns.resolves.toEqualTypeOf<{ order_id: string }>();
  expectTypeOf(calls.ask).returns.resolves.toEqualTypeOf<unknown>();
  expectTypeOf(calls.typed).returns.resolves.toEqualTypeOf<number>();
  expectTypeOf(calls.publish).returns.resolves.toEqualTypeOf<EventEnvelope>();
  expectTypeOf(calls.execute).returns.resolves.toEqualTypeOf<
    Executed<{ items: number }, EventOf<typeof import("./shop.js").ItemAdded>>
  >();
  expectTypeOf<AggregateAnswer["revision"]>().toEqualTypeOf<number | null>();
});

test("handlers know their message, metadata and result", () => {
  const app = shop();
  app.commandHandler(PlaceOrder, (order, metadata, context) => {
    expectTypeOf(order.quantity).toEqualTypeOf<number>();
    expectTypeOf(metadata).toEqualTypeOf<Metadata>();
    expectTypeOf(context.attempt).toEqualTypeOf<number>();
    return { order_id: order.order_id };
  });
  // @ts-expect-error: the result is not the declared one
  shop().commandHandler(PlaceOrder, () => ({ id: "7" }));
  app.eventHandler([OrderPlaced, OrderCancelled], (one) => {
    expectTypeOf(one.order_id).toEqualTypeOf<string>();
    if (OrderPlaced.is(one)) expectTypeOf(one.quantity).toEqualTypeOf<number>();
  });
  // @ts-expect-error: a command has no event handler
  expectTypeOf(app.eventHandler).toBeCallableWith(PlaceOrder, () => undefined);
  expectTypeOf<RecordedEvent["position"]>().toEqualTypeOf<number>();
});
