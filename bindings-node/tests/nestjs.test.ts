import "reflect-metadata";
import type { AddressInfo } from "node:net";
import {
  Controller,
  Get,
  type INestApplication,
  Injectable,
  Module,
  Param,
  Post,
  Scope,
  type Type,
} from "@nestjs/common";
import { NestFactory } from "@nestjs/core";
import { ClosedError, InvalidHandlerError, Orkestra } from "orkestra";
import { CommandHandler, EventHandler, InjectOrkestra, OrkestraModule } from "orkestra/nestjs";
import { expect, onTestFinished, test } from "vitest";
import { AddItem, cart, OrderPlaced, PlaceOrder, placed } from "./shop.js";

@Injectable()
class Orders {
  readonly confirmed: string[] = [];

  constructor(@InjectOrkestra() private readonly app: Orkestra) {}

  @CommandHandler(PlaceOrder, { maxRetries: 2 })
  async place({ order_id }: { order_id: string }): Promise<{ order_id: string }> {
    await this.app.publish(placed(order_id));
    return { order_id };
  }

  @EventHandler(OrderPlaced)
  confirm(event: { order_id: string }): void {
    this.confirmed.push(event.order_id);
  }
}

@Controller("orders")
class OrdersController {
  constructor(
    @InjectOrkestra() private readonly app: Orkestra,
    readonly orders: Orders,
  ) {}

  @Post(":id")
  place(@Param("id") id: string): Promise<unknown> {
    return this.app.dispatch(PlaceOrder({ order_id: id, quantity: 1 }));
  }

  @Get()
  confirmed(): string[] {
    return this.orders.confirmed;
  }
}
// What the compiler writes where it emits metadata; the tests are not compiled so.
Reflect.defineMetadata("design:paramtypes", [Orkestra, Orders], OrdersController);
Reflect.defineMetadata("design:paramtypes", [Orkestra], Orders);

const memory = { name: "shop", store: "memory:", env: {} };

async function service(imports: unknown[], ...providers: Type[]): Promise<INestApplication> {
  class AppModule {}
  Module({
    imports: imports as Type[],
    controllers: [OrdersController],
    providers: [Orders, ...providers],
  })(AppModule);
  const nest = await NestFactory.create(AppModule, { logger: false, abortOnError: false });
  onTestFinished(() => nest.close());
  return nest;
}

test("a service answers over HTTP with handlers that are methods of its providers", async () => {
  const nest = await service([OrkestraModule.forRoot(memory)]);
  await nest.listen(0, "127.0.0.1");
  const { port } = nest.getHttpServer().address() as AddressInfo;
  const url = `http://127.0.0.1:${port}/orders`;

  const answer = await fetch(`${url}/17`, { method: "POST" });

  expect([answer.status, await answer.json()]).toEqual([201, { order_id: "17" }]);
  expect(await (await fetch(url)).json()).toEqual(["17"]);
});

test("options come from other providers, and setup adds what is no method", async () => {
  const carts = cart();
  const nest = await service([
    OrkestraModule.forRootAsync({
      useFactory: async () => ({ ...memory, setup: (app) => app.addAggregate(carts) }),
    }),
  ]);
  await nest.init();

  const answer = await nest.get(Orkestra).dispatch(AddItem({ cart: "7", sku: "a" }));

  expect(answer).toEqual({ stream: "cart-7", revision: 0 });
});

test("a provider with two names is registered once", async () => {
  class AppModule {}
  const alias = { provide: "ORDERS", useExisting: Orders };
  const imports = [OrkestraModule.forRoot(memory)];
  Module({ imports, providers: [Orders, alias] })(AppModule);
  const nest = await NestFactory.create(AppModule, { logger: false, abortOnError: false });
  onTestFinished(() => nest.close());
  await nest.init();

  await nest.get(Orkestra).dispatch(PlaceOrder({ order_id: "17", quantity: 1 }));

  expect(nest.get<Orders>("ORDERS").confirmed).toEqual(["17"]);
});

test("the app is closed with the service", async () => {
  const nest = await service([OrkestraModule.forRoot(memory)]);
  await nest.init();
  const app = nest.get(Orkestra);

  await nest.close();

  await expect(app.publish(placed())).rejects.toThrow(ClosedError);
});

test("a handler of a provider that is made for each request is refused", async () => {
  @Injectable({ scope: Scope.REQUEST })
  class Visits {
    @EventHandler(OrderPlaced)
    count(): void {}
  }
  const nest = await service([OrkestraModule.forRoot(memory)], Visits);

  const refused = await nest.init().catch((error: unknown) => error);

  expect(refused).toBeInstanceOf(InvalidHandlerError);
  expect(String(refused)).toMatch(/Visits\.count/);
});
