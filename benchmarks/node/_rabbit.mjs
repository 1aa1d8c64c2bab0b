// The broker's side of the RabbitMQ rows: queues made, filled, deleted; and what is counted.

import amqp from "amqplib";

import { payload } from "./_shop.mjs";

/** The private broker that run.py started. */
export const URL = process.env.BENCH_AMQP ?? "amqp://guest:guest@localhost:5672/%2F";
export const COUNT = 20_000;
export const WINDOW = 100;
export const BODY = Buffer.from(JSON.stringify(payload(1)));

/** Runs `use(name)` with a durable queue of this process, and deletes the queue. */
export async function withQueue(type, use) {
  const name = `bench.${process.pid}`;
  await withChannel((channel) =>
    channel.assertQueue(name, { durable: true, arguments: { "x-queue-type": type } }),
  );
  try {
    return await use(name);
  } finally {
    await remove(name);
  }
}

/** Deletes queues, whether they exist or not. */
export async function remove(...names) {
  await withChannel(async (channel) => {
    for (const name of names) await channel.deleteQueue(name);
  });
}

/** Puts `COUNT` copies of the body into `queue` and waits until it has them. */
export async function fill(queue) {
  const options = { persistent: true, contentType: "application/json" };
  await withChannel(async (channel) => {
    for (let n = 0; n < COUNT; n++) {
      if (!channel.sendToQueue(queue, BODY, options)) {
        await new Promise((resolve) => channel.once("drain", resolve));
      }
    }
    while ((await channel.checkQueue(queue)).messageCount < COUNT) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  });
}

/** Calls `one` until it was called `count` times, from `flights` loops at once; resolves to calls per second. */
export async function perSecond(one, count, flights) {
  let left = count;
  const work = async () => {
    while (left-- > 0) await one();
  };
  const start = performance.now();
  await Promise.all(Array.from({ length: flights }, work));
  return (count * 1000) / (performance.now() - start);
}

/** Counts handled messages; `done` resolves at the last of `count`. */
export class Meter {
  seen = 0;
  start = 0;
  end = 0;

  constructor(count = COUNT) {
    this.count = count;
    this.done = new Promise((resolve) => {
      this.finish = resolve;
    });
  }

  /** Counts one message. */
  tick() {
    if (this.seen === 0) this.start = performance.now();
    if (++this.seen === this.count) {
      this.end = performance.now();
      this.finish();
    }
  }

  /** Messages per second between the first and the last. */
  get rate() {
    return ((this.count - 1) * 1000) / (this.end - this.start);
  }
}

async function withChannel(use) {
  const connection = await amqp.connect(URL);
  const channel = await connection.createChannel();
  try {
    return await use(channel);
  } finally {
    await connection.close();
  }
}
