// Durable appends per second on PostgreSQL, one event each: `postgres_append.mjs SIDE CALLERS`.
// Each caller has streams of its own and waits for one append before the next; events are made before the timed part.

import { payload } from "./_shop.mjs";
import { emit } from "./_timing.mjs";

const STREAMS = 20;
// Shared by the callers: so many that what runs is compiled, whoever calls.
const WARM_UP = 3200;
/** By one caller and by many: enough for about two seconds of either side. */
const APPENDS = { emmett: [8000, 8000], orkestra: [24_000, 64_000] };

/** Returns appends per second of `callers` callers that make `one` or `many` calls of `append(stream, event)` in all. */
async function rate(callers, [one, many], make, append) {
  const warm = WARM_UP / callers;
  const each = (callers === 1 ? one : many) / callers;
  const events = Array.from({ length: callers }, () =>
    Array.from({ length: warm + each }, (_, n) => make(payload(n))),
  );
  const run = async (caller, from, to) => {
    for (let n = from; n < to; n++)
      await append(`order-${caller}-${n % STREAMS}`, events[caller][n]);
  };
  const all = (from, to) => Promise.all(events.map((_, caller) => run(caller, from, to)));
  await all(0, warm);
  const start = performance.now();
  await all(warm, warm + each);
  return (each * callers) / ((performance.now() - start) / 1000);
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
