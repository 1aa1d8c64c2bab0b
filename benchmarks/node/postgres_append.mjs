// Durable appends per second on PostgreSQL, one event each: `postgres_append.mjs SIDE CALLERS`.
// Each caller has streams of its own and waits for one append before the next; events are made before the timed part.

import { payload } from "./_shop.mjs";
import { emit } from "./_timing.mjs";

const STREAMS = 20;
const WARM_UP = 20;
const APPENDS = { emmett: 4000, orkestra: 16_000 };

/** Returns appends per second of `callers` callers that make `count` calls of `append(stream, event)` in all. */
async function rate(callers, count, make, append) {
  const each = count / callers;
  const events = Array.from({ length: callers }, () =>
    Array.from({ length: WARM_UP + each }, (_, n) => make(payload(n))),
  );
  const run = async (caller, from, to) => {
    for (let n = from; n < to; n++)
      await append(`order-${caller}-${n % STREAMS}`, events[caller][n]);
  };
  const all = (from, to) => Promise.all(events.map((_, caller) => run(caller, from, to)));
  await all(0, WARM_UP);
  const start = performance.now();
  await all(WARM_UP, WARM_UP + each);
  return count / ((performance.now() - start) / 1000);
}

async function emmett(callers) {
  const { openEmmettPostgres } = await import("./_emmett_postgres.mjs");
  const { store, close } = await openEmmettPostgres(Math.max(10, callers));
  const make = (data) => ({ type: "OrderPlaced", data });
  const value = await rate(callers, APPENDS.emmett, make, (stream, event) =>
    store.appendToStream(stream, [event]),
  );
  await close();
  return value;
}

async function orkestra(callers) {
  const { OrderPlaced, makeApp } = await import("./_ours.mjs");
  const app = makeApp({ store: process.env.BENCH_POSTGRES });
  app.addTypes(OrderPlaced);
  await app.start();
  const value = await rate(callers, APPENDS.orkestra, OrderPlaced, (stream, event) =>
    app.store.append(stream, [event]),
  );
  await app.close();
  return value;
}

const sides = { emmett, orkestra };
emit(await sides[process.argv[2]](Number(process.argv[3])), "events/s");
