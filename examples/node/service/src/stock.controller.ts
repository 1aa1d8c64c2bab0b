/** The HTTP side: commands go to the aggregate, reads to the view. */
import {
  BadRequestException,
  Body,
  Controller,
  Get,
  Inject,
  Param,
  Post,
  Query,
  ServiceUnavailableException,
} from "@nestjs/common";
import type { Orkestra } from "orkestra";
import { InjectOrkestra } from "orkestra/nestjs";
import { Pool } from "pg";
import { z } from "zod";
import { ReceiveStock, ShipStock, Stock, type StockReceived } from "./stock.js";
import { levels } from "./view.js";

const amount = z.object({ quantity: z.int().positive() });

/** What was done. Read with `?after=` the position, to see it. */
interface Done {
  readonly quantity: number;
  readonly position: number | null;
}

@Controller("stock")
export class StockController {
  constructor(
    @InjectOrkestra() private readonly app: Orkestra,
    @Inject(Pool) private readonly pool: Pool,
  ) {}

  @Post(":sku/received")
  receive(@Param("sku") sku: string, @Body() body: unknown): Promise<Done> {
    return this.#execute(ReceiveStock({ sku, quantity: quantityOf(body) }));
  }

  @Post(":sku/shipped")
  ship(@Param("sku") sku: string, @Body() body: unknown): Promise<Done> {
    return this.#execute(ShipStock({ sku, quantity: quantityOf(body) }));
  }

  async #execute(command: ReturnType<typeof ReceiveStock | typeof ShipStock>): Promise<Done> {
    const { state, position } = await this.app.execute(Stock, command, { source: "http" });
    return { quantity: state.quantity, position };
  }

  @Get()
  async stock(@Query("after") after?: string): Promise<Record<string, number>> {
    if (after !== undefined) {
      await this.app.caughtUp("stock", positionOf(after), { timeoutMs: 5000 });
    }
    return levels(this.pool);
  }

  @Get(":sku/history")
  async history(@Param("sku") sku: string): Promise<object[]> {
    const happened = [];
    for await (const { type, revision, event } of this.app.store.readStream(`stock-${sku}`)) {
      const { quantity } = event as ReturnType<typeof StockReceived>;
      happened.push({ type, revision, quantity });
    }
    return happened;
  }
}

@Controller("health")
export class HealthController {
  constructor(@InjectOrkestra() private readonly app: Orkestra) {}

  @Get()
  async health(): Promise<object> {
    const { ok, projections } = await this.app.health();
    const lag = Object.fromEntries(projections.map(({ name, lag }) => [name, lag]));
    if (!ok) throw new ServiceUnavailableException({ ok, lag });
    return { ok, lag };
  }
}

function positionOf(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new BadRequestException("after: expected a position");
  return Number(text);
}

function quantityOf(body: unknown): number {
  const { success, data } = amount.safeParse(body);
  if (!success) throw new BadRequestException("quantity: expected a whole number from 1");
  return data.quantity;
}
