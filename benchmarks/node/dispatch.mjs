// ns per command sent to one async handler: `dispatch.mjs SIDE`.
// Every side is one loop over one message that is made before the timed part.

import { payload } from "./_shop.mjs";
import { emit, medianNs } from "./_timing.mjs";

const CALLS = 2000;

async function map() {
  class PlaceOrder {
    constructor(fields) {
      Object.assign(this, fields);
    }
  }
  const handlers = new Map([[PlaceOrder, async (_command) => {}]]);
  const dispatch = async (command) => handlers.get(command.constructor)(command);
  const message = new PlaceOrder(payload(1));
  return medianNs(async () => {
    const start = performance.now();
    for (let n = 0; n < CALLS; n++) await dispatch(message);
    return performance.now() - start;
  }, CALLS);
}

async function nest() {
  const { PlaceOrder, startNest } = await import("./_nest.mjs");
  const { app, commands } = await startNest();
  const message = new PlaceOrder(payload(1));
  const ns = await medianNs(async () => {
    const start = performance.now();
    for (let n = 0; n < CALLS; n++) await commands.execute(message);
    return performance.now() - start;
  }, CALLS);
  await app.close();
  return ns;
}

async function orkestra(options) {
  const { PlaceOrder, makeApp } = await import("./_ours.mjs");
  const app = makeApp(options);
  app.commandHandler(PlaceOrder, async (_command) => {});
  await app.start();
  const message = PlaceOrder(payload(1));
  const ns = await medianNs(async () => {
    const start = performance.now();
    for (let n = 0; n < CALLS; n++) await app.dispatch(message);
    return performance.now() - start;
  }, CALLS);
  await app.close();
  return ns;
}

const sides = {
  map,
  nest,
  "orkestra-explicit": () => orkestra({ context: "explicit" }),
  "orkestra-derived": () => orkestra({}),
};

emit(await sides[process.argv[2]](), "ns/command");
