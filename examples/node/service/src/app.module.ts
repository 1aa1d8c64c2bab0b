/** The service over a store in PostgreSQL, whose database holds the view, too. */
import { type DynamicModule, Module } from "@nestjs/common";
import { APP_FILTER } from "@nestjs/core";
import { OrkestraModule } from "orkestra/nestjs";
import { Pool } from "pg";
import { Refused, TooEarly } from "./filters.js";
import { HealthController, StockController } from "./stock.controller.js";
import { Stock } from "./stock.js";
import { keepStock } from "./view.js";

@Module({})
class AppModule {}

/** The module for a store. */
export function appModule(store: string): DynamicModule {
  const database = new URL(store);
  database.search = "";
  const pool = new Pool({ connectionString: database.href, allowExitOnIdle: true });
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
