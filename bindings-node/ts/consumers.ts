/**
 * What arrives over a broker, or without one out of the outbox: taken in batches, handled, and settled in batches.
 *
 * @packageDocumentation
 */
import type { Bridge } from "./bridge.js";
import type { Bus } from "./bus.js";
import type { Origin } from "./clock.js";
import { deadLetterOf } from "./dead-letters.js";
import { type Deliveries, isThenable } from "./delivery.js";
import { isClaimed } from "./inbox.js";
import { type Message, stampOf } from "./message.js";
import { Metadata, type Trace, type WireMetadata } from "./metadata.js";
import { type NativeConsumers, type NativeStores, native, type Started } from "./native.js";
import { errorRecords, errorTypes, Reject, RetryAfter } from "./outcome.js";
import { encodeValue } from "./payload.js";
import { eventOf } from "./recorded.js";
import type { Registry } from "./registry.js";
import type { Route } from "./route.js";
import type { PayloadObject } from "./schema.js";

/** Messages that wait here beside those under way, at most: enough for a batch to pay. */
const AHEAD = 64;

/** What consuming needs of its app. */
export interface ConsumersHost {
  readonly bridge: Bridge;
  readonly stores: NativeStores;
  readonly registry: Registry;
  readonly bus: Bus;
  readonly origin: Origin;
  readonly deliveries: Deliveries;
  readonly warn: (message: string, error: unknown) => void;
  /** Whether messages come out of the outbox, as there is no broker. Others in the process call the handlers then too. */
  readonly local: boolean;
}

/** What arrived for a handler, as the core writes it. */
interface Arrived {
  readonly lane: number;
  readonly ticket: number;
  readonly id: string;
  readonly type: string;
  readonly topic: string;
  readonly version: number;
  readonly attempt: number;
  /** Whether somebody waits for the result. */
  readonly asked: boolean;
  readonly max_retries?: number;
  readonly metadata: WireMetadata;
  readonly trace?: Trace;
  readonly data: PayloadObject;
}

/** What cannot be handled. */
interface Doomed {
  readonly lane: number;
  readonly ticket: number;
  readonly id?: undefined;
}

/** One handler's messages on their way from its queue. */
class Lane {
  readonly route: Route;
  readonly number: number;
  readonly waiting: Array<Arrived | Doomed> = [];
  active = 0;
  /** To be asked for more in the next pull. */
  wanting = false;
  /** Whether the last pull left something. */
  more = false;

  constructor(route: Route, number: number) {
    this.route = route;
    this.number = number;
  }

  get room(): number {
    return this.route.concurrency + AHEAD - this.waiting.length - this.active;
  }
}

/** Calls a handler that others call too. */
async function inSlot(route: Route, call: () => unknown): Promise<unknown> {
  await route.enter();
  try {
    return await call();
  } finally {
    route.leave();
  }
}

/** The queues of an app's handlers. */
export class Consumers {
  readonly #host: ConsumersHost;
  readonly #native: NativeConsumers;
  readonly #lanes: Lane[] = [];
  #pulling = false;
  #paused = false;
  #done: number[] = [];
  #answered: number[] = [];
  #results: string[] = [];
  #idle: (() => void) | undefined;

  constructor(host: ConsumersHost) {
    this.#host = host;
    this.#native = new native.Consumers(host.stores);
  }

  /** Declares and consumes the queue of each handler; {@link Consumers.begin} begins to take. */
  async start(): Promise<void> {
    const { bridge, registry } = this.#host;
    for (const route of registry.routes) {
      await bridge.run(() => this.#native.consume(registry.native, route.index));
      this.#lanes.push(new Lane(route, this.#lanes.length));
    }
  }

  /** Begins to take what arrives. */
  begin(): void {
    this.#native.start();
    for (const lane of this.#lanes) this.#listen(lane);
  }

  /** Takes no more: what nobody has begun goes back to its queue. */
  async pause(): Promise<void> {
    this.#paused = true;
    const waiting = this.#lanes.flatMap((lane) => lane.waiting.splice(0));
    const { bridge, stores } = this.#host;
    // First no more is delivered: what is given back before that would come again at once.
    if (!this.#host.local) await bridge.run(() => stores.pauseBus());
    this.#native.giveBack(waiting.map(({ ticket }) => ticket));
  }

  /** Waits until what is under way is settled. */
  async settled(): Promise<void> {
    if (this.#lanes.some(({ active }) => active > 0)) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    this.#flush();
  }

  /** Gives back what nobody settled in time. */
  close(): void {
    this.#paused = true;
    this.#native.giveBackAll();
  }

  /** Waits for something to arrive. With a broker that keeps the process alive, as a service that consumes has to. */
  #listen(lane: Lane): void {
    const { bridge, warn, local: background } = this.#host;
    bridge
      .run(() => this.#native.ready(lane.number), { background })
      .then(
        (text) => {
          // Nothing: nothing more comes.
          if (text !== null) this.#want(lane, process.nextTick);
        },
        (error) => warn(`${lane.route.fullName}: its queue is not consumed any more`, error),
      );
  }

  #want(lane: Lane, soon: (call: () => void) => unknown): void {
    lane.wanting = true;
    if (this.#pulling) return;
    this.#pulling = true;
    soon(this.#pull);
  }

  /** Takes what has arrived for all handlers that want more. */
  readonly #pull = (): void => {
    this.#pulling = false;
    if (this.#paused) return;
    const wants = this.#lanes.map((lane) => (lane.wanting ? lane.room : 0));
    const text = this.#native.take(wants);
    const arrived = text === null ? [] : (JSON.parse(text) as Array<Arrived | Doomed>);
    const got = wants.map(() => 0);
    for (const one of arrived) {
      this.#lanes[one.lane]?.waiting.push(one);
      got[one.lane] = (got[one.lane] ?? 0) + 1;
    }
    for (const lane of this.#lanes) {
      if (!lane.wanting) continue;
      lane.wanting = false;
      lane.more = got[lane.number] === wants[lane.number];
      if (!lane.more) this.#listen(lane);
      this.#run(lane);
    }
  };

  /** Begins what may begin. */
  #run(lane: Lane): void {
    const { concurrency } = lane.route;
    while (lane.active < concurrency) {
      const next = lane.waiting.shift();
      if (next === undefined) break;
      lane.active++;
      this.#begin(lane, next);
    }
    if (lane.more && lane.waiting.length <= AHEAD / 2) {
      lane.more = false;
      // Not in this turn of the loop: there may be no end of messages, and others wait for theirs.
      this.#want(lane, setImmediate);
    }
  }

  #leave(lane: Lane): void {
    lane.active--;
    if (this.#idle !== undefined && !this.#lanes.some(({ active }) => active > 0)) this.#idle();
    this.#run(lane);
  }

  #begin(lane: Lane, arrived: Arrived | Doomed): void {
    if (arrived.id === undefined) {
      this.#bury(lane, () => this.#native.bury(arrived.ticket));
      return;
    }
    const { bus } = this.#host;
    let message: Message;
    try {
      message = this.#decode(lane.route, arrived);
    } catch (error) {
      const records = JSON.stringify(errorRecords(error));
      const now = this.#micros();
      this.#bury(lane, () => this.#native.undecodable(arrived.ticket, records, now));
      return;
    }
    const stamp = stampOf(message) as Metadata;
    const { attempt, max_retries } = arrived;
    const call = () => bus.arrived(lane.route, message, stamp, attempt, max_retries);
    let returned: unknown;
    try {
      returned = this.#host.local ? inSlot(lane.route, call) : call();
    } catch (error) {
      this.#failed(lane, arrived, error);
      return;
    }
    if (!isThenable(returned)) {
      this.#succeeded(lane, arrived, stamp, returned);
      lane.active--;
      return;
    }
    returned.then(
      (result) => {
        this.#succeeded(lane, arrived, stamp, result);
        this.#leave(lane);
      },
      (error) => this.#failed(lane, arrived, error),
    );
  }

  #decode(route: Route, arrived: Arrived): Message {
    const { trace } = arrived;
    const metadata = trace === undefined ? arrived.metadata : { ...arrived.metadata, ...trace };
    if (route.model !== undefined) {
      return route.model.decode(arrived.data, Metadata.read(arrived.id, metadata));
    }
    const { registry } = this.#host;
    const row = { ...arrived, metadata, stream: "", revision: 0, position: 0, occurred_at: "" };
    return eventOf(row, (type) => registry.arrived(type, arrived.topic));
  }

  #succeeded(lane: Lane, { ticket, asked }: Arrived, stamp: Metadata, result: unknown): void {
    if (lane.route.inbox && isClaimed(stamp)) this.#native.claimed(ticket);
    const first = this.#done.length + this.#answered.length === 0;
    if (asked) {
      const json = this.#resultOf(lane, ticket, result);
      if (json === undefined) return;
      this.#answered.push(ticket);
      this.#results.push(json);
    } else {
      this.#done.push(ticket);
    }
    if (first) process.nextTick(this.#flush);
  }

  /** A result that JSON cannot hold is told to whoever asked; the message is handled all the same. */
  #resultOf({ route }: Lane, ticket: number, result: unknown): string | undefined {
    try {
      return encodeValue(`the result of ${route.fullName}`, result);
    } catch (error) {
      this.#host.warn(`${route.fullName}: the result is no JSON`, error);
      this.#native.unanswerable(ticket, JSON.stringify(errorRecords(error)[0]));
      return undefined;
    }
  }

  /** Facts that JSON cannot hold are left out; the message is refused all the same. */
  #refusalOf({ route }: Lane, { data }: Reject): string {
    try {
      return encodeValue("the refusal", data);
    } catch (error) {
      this.#host.warn(`${route.fullName}: the data of a refusal is no JSON`, error);
      return "null";
    }
  }

  readonly #flush = (): void => {
    if (this.#done.length > 0) {
      this.#native.done(this.#done);
      this.#done = [];
    }
    if (this.#answered.length > 0) {
      this.#native.answered(this.#answered, this.#results);
      this.#answered = [];
      this.#results = [];
    }
  };

  /** The core decides: again later, or given up. */
  #failed(lane: Lane, { ticket }: Arrived, error: unknown): void {
    const records = JSON.stringify(errorRecords(error));
    const now = this.#micros();
    this.#bury(lane, () => {
      if (error instanceof Reject) {
        this.#native.rejected(ticket, error.message, this.#refusalOf(lane, error));
        return null;
      }
      if (error instanceof RetryAfter) {
        return this.#native.retryAfter(ticket, error.delayMs, records, now);
      }
      const draw = this.#host.origin.ids.draw();
      return this.#native.failed(ticket, errorTypes(error), records, now, draw);
    });
  }

  /** Ends what was begun by a call that may end with a dead letter. */
  #bury(lane: Lane, call: () => Started): void {
    const { bridge, deliveries, warn } = this.#host;
    const work = bridge.run(call).then(
      (text) => (text === null ? undefined : deliveries.announce(deadLetterOf(JSON.parse(text)))),
      (error) => warn(`${lane.route.fullName}: a message could not be settled`, error),
    );
    void work.finally(() => this.#leave(lane));
  }

  #micros(): number {
    return Math.round(this.#host.origin.clock.now() * 1000);
  }
}
