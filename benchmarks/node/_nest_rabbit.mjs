// A Nest microservice on RabbitMQ and its client, as Nest's documentation shows; the decorators are
// applied by hand because this file is not TypeScript.

import "reflect-metadata";
import { Controller, Module } from "@nestjs/common";
import { NestFactory } from "@nestjs/core";
import { ClientProxyFactory, Ctx, MessagePattern, Payload, Transport } from "@nestjs/microservices";
import { firstValueFrom } from "rxjs";

import { URL, WINDOW } from "./_rabbit.mjs";

/** Starts the service on `queue`; `ask(fields)` resolves to its handler's answer. */
export async function startNest(queue, type) {
  class OrderController {
    async price(fields, context) {
      context.getChannelRef().ack(context.getMessage());
      return fields.order_id;
    }
  }
  Controller()(OrderController);
  const handler = Object.getOwnPropertyDescriptor(OrderController.prototype, "price");
  MessagePattern("price_order")(OrderController.prototype, "price", handler);
  Payload()(OrderController.prototype, "price", 0);
  Ctx()(OrderController.prototype, "price", 1);
  class OrderModule {}
  Module({ controllers: [OrderController] })(OrderModule);

  const options = {
    urls: [URL],
    queue,
    queueOptions: { durable: true, arguments: { "x-queue-type": type } },
    persistent: true,
    prefetchCount: WINDOW,
    socketOptions: { connectionOptions: { noDelay: true } },
  };
  const service = await NestFactory.createMicroservice(OrderModule, {
    transport: Transport.RMQ,
    options: { ...options, noAck: false },
    logger: ["error"],
  });
  await service.listen();
  const client = ClientProxyFactory.create({ transport: Transport.RMQ, options });
  await client.connect();
  return {
    ask: (fields) => firstValueFrom(client.send("price_order", fields)),
    async close() {
      await client.close();
      await service.close();
    },
  };
}
