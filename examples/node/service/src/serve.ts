/**
 * A small NestJS service: the stock of a shop, as events and as an SQL view.
 *
 *     npx tsc -p examples/node/service
 *     node build/examples/service/serve.js --store postgres://shop:secret@db/shop
 *
 * `examples/python/service` is the same with FastAPI. Both may run on one database: they write the same events, and of the view's projection one
 * of them at a time is active.
 */
import "reflect-metadata";
import { parseArgs } from "node:util";
import { NestFactory } from "@nestjs/core";
import { appModule } from "./app.module.js";

const { values } = parseArgs({
  options: {
    store: { type: "string" },
    host: { type: "string", default: "127.0.0.1" },
    port: { type: "string", default: "8000" },
  },
});
if (values.store === undefined) throw new Error("--store: expected postgres://user:password@…");

const nest = await NestFactory.create(appModule(values.store), { logger: ["error", "warn"] });
// A service that is told to end answers what it has begun, and lets another process keep the view at once.
nest.enableShutdownHooks();
await nest.listen(Number(values.port), values.host);
