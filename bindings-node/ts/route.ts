/**
 * A registered handler and its slots.
 *
 * @packageDocumentation
 */
import type { Context } from "./context.js";
import type { Message, Model } from "./message.js";
import type { Metadata } from "./metadata.js";

/** A handler as the bus calls it. */
export type Call = (message: never, metadata: Metadata, context: Context) => unknown;

/** What the registry resolved for a handler. */
export interface RouteFacts {
  readonly index: number;
  readonly name: string;
  readonly fullName: string;
  readonly concurrency: number;
  readonly timeoutMs: number | undefined;
  readonly isCommand: boolean;
  /** Whether it is given no message twice. */
  readonly inbox: boolean;
  /** The command that it takes; nothing for events. */
  readonly model: Model | undefined;
}

/** A registered handler; at most `concurrency` calls are under way at a time, the others wait in their order. */
export class Route {
  readonly index: number;
  readonly name: string;
  /** `<app>.<handler>`. */
  readonly fullName: string;
  readonly concurrency: number;
  readonly timeoutMs: number | undefined;
  readonly isCommand: boolean;
  /** Whether it is given no message twice. */
  readonly inbox: boolean;
  /** The command that it takes; nothing for events. */
  readonly model: Model | undefined;
  /** Whether its calls have no time limit. */
  readonly plain: boolean;
  readonly call: (message: Message, metadata: Metadata, context: Context) => unknown;
  /** Calls under way. */
  active = 0;
  readonly #waiting: Array<() => void> = [];

  constructor(facts: RouteFacts, call: Call) {
    this.index = facts.index;
    this.name = facts.name;
    this.fullName = facts.fullName;
    this.concurrency = facts.concurrency;
    this.timeoutMs = facts.timeoutMs;
    this.isCommand = facts.isCommand;
    this.inbox = facts.inbox;
    this.model = facts.model;
    this.plain = facts.timeoutMs === undefined;
    this.call = call as Route["call"];
  }

  /** What a call that went well ends with: gives its slot back. One function for all calls. */
  readonly succeeded = (result: unknown): unknown => {
    this.leave();
    return result;
  };

  /** Whether a call has to wait. */
  get busy(): boolean {
    return this.active >= this.concurrency;
  }

  /** Waits for a slot and takes it. */
  enter(): Promise<void> {
    if (!this.busy) {
      this.active++;
      return Promise.resolve();
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Gives a slot back; the first that waits takes it over. */
  leave(): void {
    const next =
      this.#waiting.length === 0 || this.active > this.concurrency
        ? undefined
        : this.#waiting.shift();
    if (next === undefined) this.active--;
    else next();
  }
}
