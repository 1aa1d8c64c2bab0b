import {
  aggregate,
  event,
  InvalidAggregateError,
  InvalidDecisionError,
  idOf,
  NoUpcasterError,
  RejectedError,
  RevisionConflictError,
  UnexpectedCommandError,
  UnknownEventError,
} from "orkestra";
import { given } from "orkestra/testing";
import { describe, expect, test, vi } from "vitest";
import { z } from "zod";
import { AddItem, cart, ItemAdded, OrderPlaced, place, shop } from "./shop.js";
import { STORES } from "./stores.js";

const add = (sku = "sku_42") => AddItem({ cart: "1", sku });

describe.each(STORES)("on $name", ({ url }) => {
  test("a command is decided on the folded state and its events are stored", async () => {
    const Cart = cart();
    const app = await shop({ store: await url() })
      .addAggregate(Cart)
      .start();

    const first = await app.execute(Cart, add("a"));
    const second = await app.execute(Cart, add("b"));

    expect(first).toMatchObject({
      stream: "cart-1",
      revision: 0,
      state: { items: 1 },
      repeated: false,
    });
    expect(second).toMatchObject({
      revision: 1,
      state: { items: 2 },
      events: [ItemAdded({ sku: "b" })],
    });
  });

  test("a dispatched command answers with stream and revision", async () => {
    const app = await shop({ store: await url() })
      .addAggregate(cart())
      .start();

    expect(await app.dispatch(add())).toEqual({ stream: "cart-1", revision: 0 });
  });

  test("a refusal reaches the caller and stores nothing", async () => {
    const Cart = cart();
    const app = await shop({ store: await url() })
      .addAggregate(Cart)
      .start();
    for (let n = 0; n < 10; n++) await app.execute(Cart, add());

    await expect(app.execute(Cart, add())).rejects.toThrow(RejectedError);
    await expect(app.dispatch(add())).rejects.toThrow("rejected: the cart is full");

    expect(await app.store.head()).toBe(10);
  });

  test("A22 a command delivered twice appends once and answers with what is recorded", async () => {
    const Cart = cart();
    const app = await shop({ store: await url() })
      .addAggregate(Cart)
      .start();
    const id = "019506b8-9d2a-7c3e-8f00-0123456789ab";

    const first = await app.execute(Cart, add("a"), { id });
    for (let n = 1; n < 10; n++) await app.execute(Cart, add());
    const again = await app.execute(Cart, add("a"), { id });

    expect(first.events.map((made) => idOf(made))).toEqual([
      "019506b8-9d2a-7de7-8a62-ac9e8e4b286b",
    ]);
    expect(again).toMatchObject({ revision: 0, repeated: true, events: [ItemAdded({ sku: "a" })] });
    expect(await app.store.head()).toBe(10);
  });

  test("a conflict is decided again", async () => {
    const Cart = cart();
    const app = await shop({ store: await url() })
      .addAggregate(Cart)
      .start();

    const done = await Promise.all(
      Array.from({ length: 4 }, (_, n) => app.execute(Cart, add(String(n)))),
    );

    expect(done.map(({ revision }) => revision).sort()).toEqual([0, 1, 2, 3]);
  });

  test("too many conflicts are a RevisionConflictError", async () => {
    const Stubborn = aggregate({
      name: "stubborn",
      commands: [AddItem],
      events: [ItemAdded],
      conflictRetries: 0,
      initial: () => null,
      streamId: ({ cart }) => `cart-${cart}`,
      decide: (_, { sku }) => ItemAdded({ sku }),
      evolve: (state) => state,
    });
    const app = await shop({ store: await url() })
      .addAggregate(Stubborn)
      .start();

    // One may be done before the other has loaded: until they meet.
    let failure: unknown;
    let round = 0;
    while (failure === undefined) {
      const stream = String(++round);
      const one = () => app.execute(Stubborn, AddItem({ cart: stream, sku: "a" }));
      const done = await Promise.allSettled([one(), one()]);
      failure = done.find((one) => one.status === "rejected")?.reason;
    }

    expect(failure).toBeInstanceOf(RevisionConflictError);
    expect((failure as RevisionConflictError).details).toEqual({
      stream: `cart-${round}`,
      expected: "no_stream",
      actual: 0,
    });
  });

  test("D04 D05 a snapshot saves the load of what is before it, one of another schema is rebuilt", async () => {
    const store = await url();
    const Cart = cart({ snapshotEvery: 3 });
    const app = shop({ store }).addAggregate(Cart);
    await app.start();
    for (let n = 0; n < 5; n++) await app.execute(Cart, add());
    const evolve = vi.spyOn(Cart.spec, "evolve");

    await app.execute(Cart, add());
    expect(evolve.mock.calls.length).toBeLessThanOrEqual(4);

    if (store === "memory:") return;
    await app.close();
    const Newer = cart({ snapshotEvery: 3, schemaVersion: 2 });
    const next = await shop({ store }).addAggregate(Newer).start();
    const rebuilt = vi.spyOn(Newer.spec, "evolve");
    expect((await next.execute(Newer, add())).state).toEqual({ items: 7 });
    expect(rebuilt).toHaveBeenCalledTimes(7);
  });

  test("a cache keeps the state folded and is right after somebody else appended", async () => {
    const Cart = cart({ cache: 10 });
    const app = await shop({ store: await url() })
      .addAggregate(Cart)
      .start();
    await app.execute(Cart, add());
    const evolve = vi.spyOn(Cart.spec, "evolve");

    await app.execute(Cart, add());
    expect(evolve).toHaveBeenCalledTimes(1);
    await app.store.append("cart-1", [ItemAdded({ sku: "by hand" })]);

    expect((await app.execute(Cart, add())).state).toEqual({ items: 4 });
  });

  test("A21 an event of schema 1 is upcast 1 -> 2 -> 3 where it is read, folded and subscribed", async () => {
    const name = "Shop.Carts.ItemAdded";
    const Old = event(name, z.object({ sku: z.string() }));
    const New = event(name, z.object({ sku: z.string(), count: z.number(), unit: z.string() }), {
      version: 3,
      upcasters: {
        1: (data) => ({ ...data, count: 1 }),
        2: (data) => ({ ...data, unit: "piece" }),
      },
    });
    const store = await url();
    const folded: unknown[] = [];
    const Cart = aggregate({
      name: "cart",
      commands: [AddItem],
      events: [New],
      initial: () => 0,
      streamId: () => "cart-1",
      decide: (_, { sku }) => New({ sku, count: 1, unit: "piece" }),
      evolve: (count, added) => {
        folded.push({ ...added });
        return count + 1;
      },
    });
    const app = shop({ store }).addAggregate(Cart);
    const handled: unknown[] = [];
    app.eventHandler(New, (added) => void handled.push({ ...added }), {
      name: "h",
      start: "origin",
    });
    await app.start();
    await app.store.append("cart-1", [Old({ sku: "a" })]);

    await app.execute(Cart, add("b"));
    await app.caughtUp("h", (await app.store.head()) ?? 0);

    const upcast = { sku: "a", count: 1, unit: "piece" };
    expect(folded[0]).toEqual(upcast);
    expect(handled[0]).toEqual(upcast);
    for await (const recorded of app.store.readStream("cart-1", { limit: 1 })) {
      expect({ ...recorded.event }).toEqual(upcast);
      expect(recorded.version).toBe(1);
    }
  });
});

describe("what is wrong with an aggregate", () => {
  test("a step of upcasters that is missing", async () => {
    const Newer = event("Shop.Carts.ItemAdded", z.object({ sku: z.string() }), { version: 2 });
    const app = await shop().addTypes(Newer).start();
    await app.store.append("cart-1", [ItemAdded({ sku: "a" })]);

    const read = async () => {
      for await (const _ of app.store.readAll());
    };

    await expect(read()).rejects.toThrow(NoUpcasterError);
  });

  test("a command that it does not take, or that is added twice", async () => {
    const Cart = cart();
    const app = shop().addAggregate(Cart);

    expect(() => app.addAggregate(Cart)).toThrow(InvalidAggregateError);
    await app.start();
    await expect(app.execute(Cart, place())).rejects.toThrow(UnexpectedCommandError);
    await expect(app.execute(cart(), add())).rejects.toThrow("it was not added to the app");
  });

  test("a decision that is none", async () => {
    for (const [decision, found] of [
      [undefined, "undefined"],
      [7, "number"],
      [place(), "the command Shop.Orders.PlaceOrder"],
    ] as const) {
      const Odd = aggregate({
        name: "odd",
        commands: [AddItem],
        events: [ItemAdded],
        initial: () => 0,
        streamId: () => "odd-1",
        decide: () => decision as never,
        evolve: (state) => state,
      });
      const app = await shop().addAggregate(Odd).start();

      await expect(app.execute(Odd, add())).rejects.toThrow(InvalidDecisionError);
      await expect(app.execute(Odd, add())).rejects.toThrow(`decide returned ${found}`);
    }
  });

  test("an event in its stream that it does not know", async () => {
    const Cart = cart();
    const app = await shop().addAggregate(Cart).start();
    await app.store.append("cart-1", [OrderPlaced({ order_id: "7", quantity: 1 })]);

    await expect(app.execute(Cart, add())).rejects.toThrow(UnknownEventError);
  });

  test("a stream name that is none", async () => {
    const Odd = aggregate({
      name: "odd",
      commands: [AddItem],
      events: [ItemAdded],
      initial: () => 0,
      streamId: () => "$odd",
      decide: (_, { sku }) => ItemAdded({ sku }),
      evolve: (state) => state,
    });
    const app = await shop().addAggregate(Odd).start();

    await expect(app.execute(Odd, add())).rejects.toThrow("names that begin with `$` are reserved");
  });
});

describe("given, when, then", () => {
  const full = Array.from({ length: 10 }, () => ItemAdded({ sku: "x" }));

  test("compares events, refusals and states", () => {
    given(cart())
      .when(add("a"))
      .then(ItemAdded({ sku: "a" }));
    given(cart(), ...full)
      .when(add())
      .thenRejects("the cart is full");
    given(cart(), ItemAdded({ sku: "x" }))
      .when(add())
      .thenState({ items: 2 });
  });

  test("says what is different", () => {
    expect(() =>
      given(cart())
        .when(add("a"))
        .then(ItemAdded({ sku: "b" })),
    ).toThrow(/expected .*"b".*found .*"a"/);
    expect(() => given(cart()).when(add()).thenRejects()).toThrow("expected a refusal");
    expect(() =>
      given(cart(), ...full)
        .when(add())
        .then(),
    ).toThrow("the cart is full");
  });
});
