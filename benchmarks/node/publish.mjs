// ns per event sent to 5 async handlers: `publish.mjs SIDE`.
// Nest's `publish` does not wait for the handlers, so a batch ends when all of them have run; ours
// resolves after them. Each event object is published once, and made before the timed part.

import { payload } from "./_shop.mjs";
import { emit, medianNs } from "./_timing.mjs";

const CALLS = 1000;
const HANDLERS = 5;

async function nest() {
  const { OrderPlaced, startNest } = await import("./_nest.mjs");
  let handled = 0;
  const onEvent = () => {
    handled++;
  };
  const { app, events } = await startNest({ eventHandlers: HANDLERS, onEvent });
  const ns = await medianNs(async () => {
    handled = 0;
    const batch = Array.from({ length: CALLS }, (_, n) => new OrderPlaced(payload(n)));
    const start = performance.now();
    for (const event of batch) await events.publish(event);
    while (handled < CALLS * HANDLERS) await null;
    return performance.now() - start;
  }, CALLS);
  await app.close();
  return ns;
}

async function orkestra(options) {
  const { OrderPlaced, makeApp } = await import("./_ours.mjs");
  let handled = 0;
  const app = makeApp(options);
  for (let n = 0; n < HANDLERS; n++) {
    app.eventHandler(
      OrderPlaced,
      async (_event) => {
        handled++;
      },
      { name: `handler_${n}` },
    );
  }
  await app.start();
  const ns = await medianNs(async () => {
    handled = 0;
    const batch = Array.from({ length: CALLS }, (_, n) => OrderPlaced(payload(n)));
    const start = performance.now();
    for (const event of batch) await app.publish(event);
    const taken = performance.now() - start;
    if (handled !== CALLS * HANDLERS) throw new Error(`${handled} handled`);
    return taken;
  }, CALLS);
  await app.close();
  return ns;
}

const sides = {
  nest,
  "orkestra-explicit": () => orkestra({ context: "explicit" }),
  "orkestra-derived": () => orkestra({}),
};

emit(await sides[process.argv[2]](), "ns/event");
