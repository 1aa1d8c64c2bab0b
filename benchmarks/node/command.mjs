// Commands per second: load an aggregate of 10 events, decide, append 1 durably: `command.mjs SIDE`.
// Each command goes to another aggregate, so that none grows much. On SQLite, or PostgreSQL where the side says so.

import { payload } from "./_shop.mjs";
import { emit } from "./_timing.mjs";

const SHORT = 10;
const AGGREGATES = 2000;
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
  const { openEmmett } = await import("./_emmett.mjs");
  return emmettOn(await openEmmett("emmett.db", options));
}

async function emmettPostgres() {
  const { openEmmettPostgres } = await import("./_emmett_postgres.mjs");
  return emmettOn(await openEmmettPostgres());
}

async function emmettOn({ store, close }) {
  const { CommandHandler } = await import("@event-driven-io/emmett");
  const { Stubborn } = await import("./_emmett.mjs");
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
  await close();
  return [value, { busy_retries: stubborn.retries }];
}

async function orkestra(store) {
  const { change, makeOrders, Order } = await import("./_ours_aggregate.mjs");
  const app = await makeOrders(store, AGGREGATES, SHORT);
  const value = await rate((aggregate, n) => app.execute(Order, change(aggregate, n)));
  await app.close();
  return value;
}

const sides = {
  emmett: () => emmett({}),
  "emmett-singleton": () => emmett({ singleton: true }),
  orkestra: () => orkestra("sqlite:ours.db"),
  "emmett-postgres": emmettPostgres,
  "orkestra-postgres": () => orkestra(process.env.BENCH_POSTGRES),
};

const [value, details] = [await sides[process.argv[2]]()].flat();
emit(value, "commands/s", details);
