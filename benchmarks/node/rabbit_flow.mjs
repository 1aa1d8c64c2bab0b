// Messages sent, handled and acknowledged per second, all at once: `rabbit_flow.mjs SIDE TYPE`.
// One process sends with confirms, 100 in flight, and consumes with prefetch 100. The clock runs
// from the first send to the last handler call.

import { COUNT, Meter, perSecond, WINDOW, withQueue } from "./_rabbit.mjs";
import { emit } from "./_timing.mjs";

async function peer(name, type) {
  const { PEERS } = await import("./_rabbit_peers.mjs");
  return withQueue(type, async (queue) => {
    const link = await PEERS[name]();
    const meter = new Meter();
    await link.consumer(queue, async (_body) => meter.tick());
    const rate = await flow(await link.sender(queue), meter);
    await link.close();
    return rate;
  });
}

async function orkestra(type) {
  const { appFor, declared, order, PlaceOrder } = await import("./_ours_rabbit.mjs");
  return declared(type, async () => {
    const app = appFor(type);
    const meter = new Meter();
    app.commandHandler(PlaceOrder, async (_command) => meter.tick());
    await app.start();
    const message = PlaceOrder(order(1));
    const rate = await flow(() => app.send(message), meter);
    await app.close();
    return rate;
  });
}

async function flow(send, meter) {
  const start = performance.now();
  await perSecond(send, COUNT, WINDOW);
  await meter.done;
  return (COUNT * 1000) / (meter.end - start);
}

const [side, type] = process.argv.slice(2);
emit(await (side === "orkestra" ? orkestra(type) : peer(side, type)), "msg/s");
