import { inspect, isDeepStrictEqual } from "node:util";
import { type } from "arktype";
import {
  command,
  event,
  InvalidPayloadError,
  InvalidTypeNameError,
  idOf,
  metadataOf,
  NotStampedError,
  type as unchecked,
} from "orkestra";
import * as v from "valibot";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { OrderPlaced, PlaceOrder, place, placed, shop } from "./shop.js";

const UUID_7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

describe("a message", () => {
  test("is a frozen object with the payload's fields and nothing else", () => {
    const message = PlaceOrder({ order_id: "7", quantity: 3 });

    expect({ ...message }).toEqual({ order_id: "7", quantity: 3 });
    expect(Object.isFrozen(message)).toBe(true);
    expect(JSON.stringify(message)).toBe('{"order_id":"7","quantity":3}');
  });

  test("may have fields with our names", () => {
    const Odd = command(
      "Shop.Odd",
      z.object({ id: z.number(), type: z.string(), metadata: z.null(), constructor: z.string() }),
    );

    const odd = Odd({ id: 1, type: "t", metadata: null, constructor: "c" });

    expect([odd.id, odd.type, odd.metadata, odd.constructor]).toEqual([1, "t", null, "c"]);
    expect(Odd.is(odd)).toBe(true);
  });

  test("equals another one when type and payload do, sent or not", async () => {
    const app = shop();
    app.commandHandler(PlaceOrder, async () => ({ order_id: "7" }));
    await app.start();
    const sent = place();
    await app.dispatch(sent);

    expect(isDeepStrictEqual(sent, place())).toBe(true);
    expect(isDeepStrictEqual(sent, place("8"))).toBe(false);
    expect(isDeepStrictEqual(place(), placed())).toBe(false);
    expect(sent).toEqual(place());
  });

  test("reads well in console.log and in a debugger", () => {
    const message = PlaceOrder({ order_id: "sku_42", quantity: 3 });

    expect(inspect(message)).toBe("PlaceOrder { order_id: 'sku_42', quantity: 3 }");
    expect(message.constructor.name).toBe("PlaceOrder");
    expect(PlaceOrder.name).toBe("PlaceOrder");
  });

  test("has its definition's defaults and transforms", () => {
    const Noted = event(
      "Shop.Noted",
      z.object({
        note: z
          .string()
          .default("none")
          .transform((s) => s.trim()),
      }),
    );

    expect(Noted({}).note).toBe("none");
    expect(Noted({ note: " x " }).note).toBe("x");
  });

  test("has neither id nor metadata before it is sent", () => {
    expect(() => idOf(place())).toThrow(NotStampedError);
    expect(() => metadataOf(placed())).toThrow(
      "Shop.Orders.OrderPlaced has not been sent yet: it has no id and no metadata",
    );
  });

  test("made from another one keeps correlation, actor and source", async () => {
    const app = shop();
    app.commandHandler(PlaceOrder, async () => ({ order_id: "7" }));
    await app.start();
    const cause = place();
    await app.dispatch(cause, { actorId: "user_123", actorType: "user", source: "web" });

    const made = OrderPlaced.fromCommand(cause, { order_id: "7", quantity: 1 });
    const further = PlaceOrder.fromEvent(made, { order_id: "8", quantity: 1 });

    expect(idOf(made)).toMatch(UUID_7);
    expect(metadataOf(made)).toMatchObject({
      correlationId: idOf(cause),
      causationId: idOf(cause),
      actorId: "user_123",
      actorType: "user",
      source: "web",
    });
    expect(metadataOf(further).correlationId).toBe(idOf(cause));
    expect(metadataOf(further).causationId).toBe(idOf(made));
    const id = idOf(further);
    await app.dispatch(further, { source: "cron" });
    expect(idOf(further)).toBe(id);
    expect(metadataOf(further)).toMatchObject({ actorId: "user_123", source: "cron" });
    expect(metadataOf(further).causationId).toBe(idOf(made));
    await app.dispatch(further);
    expect(idOf(further)).not.toBe(id);
  });

  test("derives metadata with a new time and another cause", async () => {
    const app = shop();
    await app.start();
    const published = placed();
    await app.publish(published, { actorId: "user_123" });

    const derived = metadataOf(published).derive("job-7");

    expect(derived.correlationId).toBe(idOf(published));
    expect(derived.causationId).toBe("job-7");
    expect(derived.actorId).toBe("user_123");
    expect(inspect(derived)).toMatch(/^Metadata \{\s+correlationId: '/);
  });

  test("has a type name that a topic follows from", () => {
    for (const name of ["", "place order", "Shop..Order", "1Shop", "Shöp"]) {
      expect(() => command(name, z.object({}))).toThrow(InvalidTypeNameError);
    }
  });
});

function problems(call: () => unknown): string[] {
  try {
    call();
  } catch (error) {
    if (error instanceof InvalidPayloadError) return error.details.errors.map(({ path }) => path);
    throw error;
  }
  return [];
}

describe("bad input: a payload", () => {
  test("unknown field", () => {
    const input = { order_id: "7", quantity: 1, colour: "red" };

    expect(problems(() => PlaceOrder(input))).toEqual(["colour"]);
    expect(() => PlaceOrder(input)).toThrow("Shop.Orders.PlaceOrder: colour: unknown field");
  });

  test("missing field and wrong type, every one of them named", () => {
    const make = PlaceOrder as unknown as (input: unknown) => unknown;

    expect(problems(() => make({}))).toEqual(["order_id", "quantity"]);
    expect(problems(() => make({ order_id: 7, quantity: 1.5 }))).toEqual(["order_id", "quantity"]);
    for (const input of [null, undefined, 1, "x", []])
      expect(problems(() => make(input))).toEqual([""]);
  });

  test("an asynchronous schema", () => {
    const Slow = event("Shop.Slow", z.object({ a: z.string().refine(async () => true) }));

    expect(() => Slow({ a: "x" })).toThrow(
      "Shop.Slow: the schema is asynchronous: expected one that validates at once",
    );
  });

  test("a schema of something that is no object", () => {
    const Text = event("Shop.Text", z.array(z.string()));

    expect(() => Text(["x"])).toThrow("expected an object, found an array");
  });
});

describe("any Standard Schema will do", () => {
  test("valibot", () => {
    const Placed = event(
      "Shop.Placed",
      v.object({ id: v.string(), count: v.optional(v.number(), 1) }),
    );

    expect({ ...Placed({ id: "7" }) }).toEqual({ id: "7", count: 1 });
    expect(problems(() => Placed({ id: 7 as unknown as string }))).toEqual(["id"]);
    expect(problems(() => Placed({ id: "7", more: 1 } as { id: string }))).toEqual(["more"]);
  });

  test("arktype", () => {
    const Placed = event("Shop.Placed", type({ id: "string", "+": "reject" }));

    expect({ ...Placed({ id: "7" }) }).toEqual({ id: "7" });
    expect(problems(() => Placed({ id: 7 as unknown as string }))).toEqual(["id"]);
    expect(problems(() => Placed({ id: "7", more: 1 } as { id: string }))).toEqual(["more"]);
  });

  test("none at all", () => {
    const Placed = event("Shop.Placed", unchecked<{ id: string }>());

    expect(Placed({ id: "7" }).id).toBe("7");
  });
});

describe("unknown fields are ignored when a message is read", () => {
  const schemas = {
    "zod object": z.object({ id: z.string() }),
    "zod strictObject": z.strictObject({ id: z.string() }),
    "valibot object": v.object({ id: v.string() }),
    "valibot strictObject": v.strictObject({ id: v.string() }),
    "arktype reject": type({ id: "string", "+": "reject" }),
  };

  test.each(Object.entries(schemas))("%s", async (_, schema) => {
    const Wide = event("Shop.Orders.Placed", z.object({ id: z.string(), more: z.number() }));
    const Narrow = event<(typeof schemas)["zod object"]>(
      "Shop.Orders.Placed",
      schema as (typeof schemas)["zod object"],
    );
    const app = shop().addTypes(Narrow);
    await app.start();

    await app.store.append("order-7", [Wide({ id: "7", more: 1 })]);

    for await (const { event: read } of app.store.readStream("order-7")) {
      expect({ ...read }).toEqual({ id: "7" });
      expect(Narrow.is(read)).toBe(true);
    }
  });
});
