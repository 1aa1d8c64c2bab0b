/** The stores that tests run on. */
import { join } from "node:path";
import { database, hasPostgres } from "./postgres.js";
import { folder } from "./shop.js";

/** A place for a store. */
export interface Place {
  readonly name: string;
  /** Whether it outlives the app. */
  readonly durable: boolean;
  readonly available: () => boolean;
  /** The URL of an empty store, gone after the test. */
  url(): Promise<string>;
}

const PLACES: readonly Place[] = [
  { name: "memory", durable: false, available: () => true, url: async () => "memory:" },
  {
    name: "sqlite",
    durable: true,
    available: () => true,
    url: async () => `sqlite:${join(folder(), "store.db")}`,
  },
  { name: "postgres", durable: true, available: hasPostgres, url: database },
];

/** Those that can be had here. */
export const STORES = PLACES.filter(({ available }) => available());

/** Those of them that outlive an app. */
export const DURABLE = STORES.filter(({ durable }) => durable);
