// A Nest application context with the CQRS module, as its documentation shows; the decorators are
// applied by hand because this file is not TypeScript.

import "reflect-metadata";
import { Module } from "@nestjs/common";
import { NestFactory } from "@nestjs/core";
import { CommandBus, CommandHandler, CqrsModule, EventBus, EventsHandler } from "@nestjs/cqrs";

export class PlaceOrder {
  constructor(fields) {
    Object.assign(this, fields);
  }
}

export class OrderPlaced {
  constructor(fields) {
    Object.assign(this, fields);
  }
}

/** Starts Nest with one command handler and `eventHandlers` event handlers that call `onEvent`. */
export async function startNest({ eventHandlers = 0, onEvent = () => {} } = {}) {
  class PlaceOrderHandler {
    async execute(_command) {}
  }
  CommandHandler(PlaceOrder)(PlaceOrderHandler);

  const providers = [PlaceOrderHandler];
  for (let n = 0; n < eventHandlers; n++) {
    const handler = {
      [`Handler${n}`]: class {
        async handle(_event) {
          onEvent();
        }
      },
    }[`Handler${n}`];
    EventsHandler(OrderPlaced)(handler);
    providers.push(handler);
  }

  class AppModule {}
  Module({ imports: [CqrsModule.forRoot()], providers })(AppModule);
  const app = await NestFactory.createApplicationContext(AppModule, { logger: ["error"] });
  await app.init();
  return { app, commands: app.get(CommandBus), events: app.get(EventBus) };
}
