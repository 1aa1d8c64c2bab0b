// Commands per second on SQLite: load an aggregate of 10 events, decide, append 1 durably:
// `command.mjs SIDE`. Each command goes to another aggregate, so that none grows much.

import { payload } from "./_shop.mjs";
import { emit } from "./_timing.mjs";

const SHORT = 10;
const AGGREGATES = 200;
const SECONDS = 2;

/** Returns commands per second of `execute(aggregate, number)`, run for a fixed time. */
async function rate(execute) {
  let done = 0;
  const start = performance.now();
  while (performance.now() - start < SECONDS * 1000) {
    await execute(done % AGGREGATES, done);
    done++;
  }
  return done / ((performance.now() - start) / 1000);
}

async function emmett(options) {
  const { CommandHandler } = await import("@event-driven-io/emmett");
  const { Stubborn, openEmmett } = await import("./_emmett.mjs");
  const { store, close } = await openEmmett("emmett.db", options);
  const stubborn = new Stubborn();
  for (let n = 0; n < AGGREGATES; n++) {
    const events = Array.from({ length: SHORT }, (_, i) => ({
      type: "OrderChanged",
      data: payload(i),
    }));
    await stubborn.run(() => store.appendToStream(`order-${n}`, events));
  }
  stubborn.retries = 0;
  const handle = CommandHandler({
    initialState: () => ({ total: 0 }),
    evolve: (state, { data }) => ({ total: state.total + data.quantity }),
  });
  const decide = (fields) => () => ({ type: "OrderChanged", data: fields });
  const value = await rate((aggregate, n) =>
    stubborn.run(() => handle(store, `order-${aggregate}`, decide(payload(n)))),
  );
  close();
  return [value, { busy_retries: stubborn.retries }];
}

async function orkestra() {
  const { change, makeOrders, Order } = await import("./_ours_aggregate.mjs");
  const app = await makeOrders("ours.db", AGGREGATES, SHORT);
  const value = await rate((aggregate, n) => app.execute(Order, change(aggregate, n)));
  await app.close();
  return value;
}

const sides = {
  emmett: () => emmett({}),
  "emmett-singleton": () => emmett({ singleton: true }),
  orkestra,
};

const [value, details] = [await sides[process.argv[2]]()].flat();
emit(value, "commands/s", details);
