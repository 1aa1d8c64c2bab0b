// Appends per second, one event each, one after another: `append.mjs SIDE`.
// On SQLite each append is durable. Streams are taken in turn; the events are made before the timed part.

import { payload } from "./_shop.mjs";
import { emit, median } from "./_timing.mjs";

const STREAMS = 20;
const WARM_UP = 20;
/** In memory: [events, streams, stores]. Emmett counts every stream's events at each append. */
const LARGE = [10_000, 10_000, 4];
const SMALL = [1000, 50, 20];

const plain = (n) => ({ type: "OrderPlaced", data: payload(n) });

/** Returns appends per second of `append(number)`, called `count` times. */
async function rate(count, append) {
  for (let n = 0; n < WARM_UP; n++) await append(n);
  const start = performance.now();
  for (let n = WARM_UP; n < WARM_UP + count; n++) await append(n);
  return count / ((performance.now() - start) / 1000);
}

async function emmett(options, count) {
  const { Stubborn, openEmmett } = await import("./_emmett.mjs");
  const { store, close } = await openEmmett("emmett.db", options);
  const stubborn = new Stubborn();
  const events = Array.from({ length: WARM_UP + count }, (_, n) => plain(n));
  const value = await rate(count, (n) =>
    stubborn.run(() => store.appendToStream(`order-${n % STREAMS}`, [events[n]])),
  );
  close();
  return [value, { busy_retries: stubborn.retries }];
}

async function orkestra(count) {
  const { OrderPlaced, makeApp } = await import("./_ours.mjs");
  const app = makeApp({ store: "sqlite:ours.db" });
  app.addTypes(OrderPlaced);
  await app.start();
  const events = Array.from({ length: WARM_UP + count }, (_, n) => OrderPlaced(payload(n)));
  const value = await rate(count, (n) => app.store.append(`order-${n % STREAMS}`, [events[n]]));
  await app.close();
  return value;
}

/** Returns the median appends per second over new stores, the first one left out. */
async function inMemory([count, streams, stores], open, make) {
  const rates = [];
  for (let store = 0; store < stores; store++) {
    const { append, close } = await open();
    const events = Array.from({ length: count }, (_, n) => make(n));
    const start = performance.now();
    for (let n = 0; n < count; n++) await append(`order-${n % streams}`, [events[n]]);
    rates.push(count / ((performance.now() - start) / 1000));
    await close();
  }
  return median(rates.slice(1));
}

async function emmettMemory(size) {
  const { getInMemoryEventStore } = await import("@event-driven-io/emmett");
  return inMemory(
    size,
    async () => {
      const store = getInMemoryEventStore();
      return {
        append: (stream, events) => store.appendToStream(stream, events),
        close: async () => {},
      };
    },
    plain,
  );
}

async function orkestraMemory(size) {
  const { OrderPlaced, makeApp } = await import("./_ours.mjs");
  return inMemory(
    size,
    async () => {
      const app = makeApp();
      app.addTypes(OrderPlaced);
      await app.start();
      return {
        append: (stream, events) => app.store.append(stream, events),
        close: () => app.close(),
      };
    },
    (n) => OrderPlaced(payload(n)),
  );
}

const sides = {
  emmett: () => emmett({}, 600),
  "emmett-singleton": () => emmett({ singleton: true }, 4000),
  orkestra: () => orkestra(16_000),
  "emmett-memory": () => emmettMemory(LARGE),
  "emmett-memory-small": () => emmettMemory(SMALL),
  "orkestra-memory": () => orkestraMemory(LARGE),
  "orkestra-memory-small": () => orkestraMemory(SMALL),
};

const [value, details] = [await sides[process.argv[2]]()].flat();
emit(value, "events/s", details);
