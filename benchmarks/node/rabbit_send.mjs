// Persistent messages sent and confirmed per second, 100 in flight: `rabbit_send.mjs SIDE TYPE`.
// Peers send ready-made bytes, the least that they can do.

import { COUNT, perSecond, WINDOW, withQueue } from "./_rabbit.mjs";
import { emit } from "./_timing.mjs";

async function peer(name, type) {
  const { PEERS } = await import("./_rabbit_peers.mjs");
  return withQueue(type, async (queue) => {
    const link = await PEERS[name]();
    const send = await link.sender(queue);
    await perSecond(send, WINDOW, WINDOW);
    const rate = await perSecond(send, COUNT, WINDOW);
    await link.close();
    return rate;
  });
}

async function orkestra(type) {
  const { appFor, declared, order, PlaceOrder } = await import("./_ours_rabbit.mjs");
  return declared(type, async () => {
    const app = appFor(type);
    const message = PlaceOrder(order(1));
    await perSecond(() => app.send(message), WINDOW, WINDOW);
    const rate = await perSecond(() => app.send(message), COUNT, WINDOW);
    await app.close();
    return rate;
  });
}

const [side, type] = process.argv.slice(2);
emit(await (side === "orkestra" ? orkestra(type) : peer(side, type)), "msg/s");
