// MiB by which a consumer grows in 5 s with a handler of 5 ms and 20,000 messages waiting: `rabbit_memory.mjs SIDE`.

import { COUNT, perSecond, WINDOW } from "./_rabbit.mjs";
import { emit } from "./_timing.mjs";

const TYPE = "quorum";
const HANDLER_MS = 5;
const SETTLE_MS = 1500;
const WATCH_MS = 5000;

async function orkestra() {
  const { appFor, declared, order, PlaceOrder } = await import("./_ours_rabbit.mjs");
  return declared(TYPE, async () => {
    const sender = appFor(TYPE);
    const message = PlaceOrder(order(1));
    await perSecond(() => sender.send(message), COUNT, WINDOW);
    await sender.close();
    const app = appFor(TYPE);
    app.commandHandler(PlaceOrder, async (_command) => sleep(HANDLER_MS));
    await app.start();
    await sleep(SETTLE_MS);
    const before = resident();
    let most = before;
    const until = performance.now() + WATCH_MS;
    while (performance.now() < until) {
      await sleep(100);
      most = Math.max(most, resident());
    }
    await app.close();
    return most - before;
  });
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
// What the garbage collector has not come round to is not growth.
const resident = () => {
  globalThis.gc?.();
  return process.memoryUsage.rss() / 2 ** 20;
};

emit(await { orkestra }[process.argv[2]](), "MiB");
