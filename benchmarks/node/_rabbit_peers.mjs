// The peers, each as its documentation shows: `sender` resolves to a function that resolves once
// the broker confirmed, `consumer` calls `handle` and acknowledges when its promise resolved.

import { randomUUID } from "node:crypto";

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

/**
 * amqplib by hand with messages of our contract: an envelope with id, metadata and time for each, a topic exchange,
 * `mandatory`, properties and a header; what arrives is parsed.
 */
async function amqplibEnvelopes() {
  const connection = await amqp.connect(URL, { noDelay: true });
  const payload = JSON.parse(BODY.toString());
  return {
    async sender(queue) {
      const channel = await connection.createConfirmChannel();
      await channel.assertExchange("bench.commands", "topic", { durable: true });
      await channel.bindQueue(queue, "bench.commands", queue);
      return () =>
        new Promise((resolve, reject) => {
          const id = randomUUID();
          const now = new Date();
          const envelope = {
            __type__: "command_envelope",
            command_type: "Bench.PlaceOrder",
            command_id: id,
            params: payload,
            metadata: {
              correlation_id: id,
              causation_id: null,
              actor_id: null,
              actor_type: "system",
              source: null,
              issued_at: now.toISOString(),
            },
            status: "dispatched",
            attempts: 1,
          };
          const options = {
            persistent: true,
            mandatory: true,
            messageId: id,
            correlationId: id,
            type: "command",
            appId: "bench",
            contentType: "application/json",
            timestamp: Math.trunc(now.getTime() / 1000),
            headers: { "x-orkestra-attempt": 1 },
          };
          const body = Buffer.from(JSON.stringify(envelope));
          channel.publish("bench.commands", queue, body, options, (error) =>
            error ? reject(error) : resolve(),
          );
        });
    },
    async consumer(queue, handle) {
      const channel = await connection.createChannel();
      await channel.prefetch(WINDOW);
      await channel.consume(queue, async (message) => {
        await handle(JSON.parse(message.content.toString()).params);
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

export const PEERS = {
  amqplib,
  "amqplib-envelopes": amqplibEnvelopes,
  "rabbitmq-client": rabbitmqClient,
  golevelup,
};
