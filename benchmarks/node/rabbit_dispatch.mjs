// Commands sent, handled and answered per second: `rabbit_dispatch.mjs SIDE IN-FLIGHT`. Quorum queue.

import { perSecond, withQueue } from "./_rabbit.mjs";
import { payload } from "./_shop.mjs";
import { emit } from "./_timing.mjs";

const TYPE = "quorum";
// Enough for a second or so, by how many are in flight.
const CALLS = { 1: 1000, 100: 5000 };

async function nestjs(flights) {
  const { startNest } = await import("./_nest_rabbit.mjs");
  return withQueue(TYPE, async (queue) => {
    const nest = await startNest(queue, TYPE);
    const fields = payload(1);
    const rate = await measure(() => nest.ask(fields), flights);
    await nest.close();
    return rate;
  });
}

async function orkestra(flights) {
  const { appFor, declared, PriceOrder } = await import("./_ours_rabbit.mjs");
  return declared(TYPE, async () => {
    const app = appFor(TYPE);
    app.commandHandler(PriceOrder, async (command) => command.order_id);
    await app.start();
    const message = PriceOrder(payload(1));
    const rate = await measure(() => app.dispatch(message), flights);
    await app.close();
    return rate;
  });
}

async function measure(one, flights) {
  await perSecond(one, 200, flights);
  return perSecond(one, CALLS[flights], flights);
}

const [side, flights] = process.argv.slice(2);
emit(await { nestjs, orkestra }[side](Number(flights)), "calls/s");
process.exit(0); // Nest's reply listener keeps the process alive
