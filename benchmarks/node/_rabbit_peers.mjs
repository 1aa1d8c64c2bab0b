// The peers, each as its documentation shows: `sender` resolves to a function that resolves once
// the broker confirmed, `consumer` calls `handle` and acknowledges when its promise resolved.

import { AmqpConnection } from "@golevelup/nestjs-rabbitmq";
import amqp from "amqplib";
import { Connection } from "rabbitmq-client";

import { BODY, URL, WINDOW } from "./_rabbit.mjs";

const silent = { log() {}, error: console.error, warn() {}, debug() {}, verbose() {} };

async function amqplib() {
  const connection = await amqp.connect(URL, { noDelay: true });
  return {
    async sender(queue) {
      const channel = await connection.createConfirmChannel();
      return () =>
        new Promise((resolve, reject) => {
          channel.sendToQueue(queue, BODY, { persistent: true }, (error) =>
            error ? reject(error) : resolve(),
          );
        });
    },
    async consumer(queue, handle) {
      const channel = await connection.createChannel();
      await channel.prefetch(WINDOW);
      await channel.consume(queue, async (message) => {
        await handle(message.content);
        channel.ack(message);
      });
    },
    async close() {
      await new Promise(setImmediate); // the last message is acknowledged after it was counted
      await connection.close();
    },
  };
}

async function rabbitmqClient() {
  const connection = new Connection({ url: URL, noDelay: true });
  const open = [];
  return {
    async sender(queue) {
      const publisher = connection.createPublisher({ confirm: true });
      open.unshift(publisher);
      return () => publisher.send({ routingKey: queue, durable: true }, BODY);
    },
    async consumer(queue, handle) {
      const consumer = connection.createConsumer(
        { queue, queueOptions: { passive: true }, qos: { prefetchCount: WINDOW } },
        async (message) => {
          await handle(message.body);
        },
      );
      open.push(consumer);
    },
    async close() {
      for (const one of open) await one.close();
      await connection.close();
    },
  };
}

async function golevelup() {
  const connection = new AmqpConnection({
    uri: URL,
    prefetchCount: WINDOW,
    logger: silent,
    connectionManagerOptions: { connectionOptions: { noDelay: true } },
  });
  await connection.init();
  return {
    async sender(queue) {
      return () => connection.publish("", queue, BODY, { persistent: true });
    },
    async consumer(queue, handle) {
      const options = { queue, createQueueIfNotExists: false };
      await connection.createSubscriber(handle, options, "handle");
    },
    close: () => connection.close(),
  };
}

export const PEERS = { amqplib, "rabbitmq-client": rabbitmqClient, golevelup };
