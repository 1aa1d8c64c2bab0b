// Messages of a full queue handled and acknowledged per second: `rabbit_consume.mjs SIDE TYPE`.
// Prefetch 100 everywhere. The clock runs from the first handler call to the last.

import { COUNT, fill, Meter, perSecond, WINDOW, withQueue } from "./_rabbit.mjs";
import { emit } from "./_timing.mjs";

async function peer(name, type) {
  const { PEERS } = await import("./_rabbit_peers.mjs");
  return withQueue(type, async (queue) => {
    await fill(queue);
    const link = await PEERS[name]();
    const meter = new Meter();
    await link.consumer(queue, async (_body) => meter.tick());
    await meter.done;
    await link.close();
    return meter.rate;
  });
}

async function orkestra(type) {
  const { appFor, declared, order, PlaceOrder } = await import("./_ours_rabbit.mjs");
  return declared(type, async () => {
    const sender = appFor(type);
    const message = PlaceOrder(order(1));
    await perSecond(() => sender.send(message), COUNT, WINDOW);
    await sender.close();
    const app = appFor(type);
    const meter = new Meter();
    app.commandHandler(PlaceOrder, async (_command) => meter.tick());
    await app.start();
    await meter.done;
    await app.close();
    return meter.rate;
  });
}

const [side, type] = process.argv.slice(2);
emit(await (side === "orkestra" ? orkestra(type) : peer(side, type)), "msg/s");
