/** The service over a store in PostgreSQL, whose database holds the view, too. */
import { type DynamicModule, Logger, Module } from "@nestjs/common";
import { APP_FILTER } from "@nestjs/core";
import { OrkestraModule } from "orkestra/nestjs";
import { Pool } from "pg";
import { Refused, TooEarly } from "./filters.js";
import { HealthController, StockController } from "./stock.controller.js";
import { Stock } from "./stock.js";
import { keepStock } from "./view.js";

@Module({})
class AppModule {}

const TLS = ["sslmode", "sslrootcert", "sslcert", "sslkey"];

/** The store's database for pg, which knows nothing of Orkestra's own parameters. */
function databaseOf(store: string): string {
  const url = new URL(store);
  const given = new URLSearchParams(url.search);
  url.search = "";
  if ((given.get("sslmode") ?? "prefer") !== "prefer") {
    for (const name of TLS) {
      const value = given.get(name);
      if (value !== null) url.searchParams.set(name, value);
    }
    url.searchParams.set("uselibpqcompat", "true");
  }
  return url.href;
}

/** The module for a store. */
export function appModule(store: string): DynamicModule {
  const pool = new Pool({ connectionString: databaseOf(store), allowExitOnIdle: true });
  // A connection that is lost while nobody uses it: the pool makes another.
  pool.on("error", ({ message }) => Logger.warn(message, "pool"));
  // One that is lost between two statements of a transaction: the next statement says so.
  pool.on("connect", (client) => client.on("error", () => undefined));
  return {
    module: AppModule,
    imports: [
      OrkestraModule.forRoot({
        name: "shop",
        store,
        setup: (app) => keepStock(app.addAggregate(Stock), pool),
      }),
    ],
    controllers: [StockController, HealthController],
    providers: [
      { provide: Pool, useValue: pool },
      { provide: APP_FILTER, useClass: Refused },
      { provide: APP_FILTER, useClass: TooEarly },
    ],
  };
}
