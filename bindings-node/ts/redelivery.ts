/**
 * Dead letters on their way back to their handler.
 *
 * @packageDocumentation
 */
import type { Bridge } from "./bridge.js";
import type { Bus } from "./bus.js";
import type { Clock } from "./clock.js";
import type { DeadLetter } from "./dead-letters.js";
import { InvalidHandlerError, RejectedError } from "./errors.js";
import type { Message } from "./message.js";
import { Metadata, millisOf, type WireMetadata } from "./metadata.js";
import { attempt, type NativeStores, native } from "./native.js";
import { encodePayload } from "./payload.js";
import { eventOf, type Row } from "./recorded.js";
import type { Registry } from "./registry.js";
import type { PayloadObject } from "./schema.js";

/** What handing a letter over needs of its app. */
export interface RedeliveryHost {
  readonly bus: Bus;
  readonly bridge: Bridge;
  readonly stores: NativeStores;
  readonly registry: Registry;
  readonly clock: Clock;
  readonly guard: () => void;
}

interface DecodedMessage {
  readonly kind: "command" | "event";
  readonly id: string;
  readonly type: string;
  readonly version?: number;
  readonly data: PayloadObject;
  readonly metadata: WireMetadata;
  readonly occurred_at?: string;
  readonly max_retries?: number | null;
}

/** What became of a letter: handled or refused, given up again, or on its way over the broker. */
export type Redelivered = "gone" | "kept" | "queued";

/** Hands dead letters to their handler again. */
export class Redelivery {
  readonly #host: RedeliveryHost;

  constructor(host: RedeliveryHost) {
    this.#host = host;
  }

  /**
   * Checks that a letter can be handed over. Returns its body with another payload, if there is one.
   *
   * @throws {InvalidHandlerError} if this app has no such handler, or the body cannot be handed over.
   * @throws {InvalidPayloadError} if the payload does not fit its type.
   */
  prepare(letter: DeadLetter, payload: object | undefined): string | undefined {
    const { guard, registry, stores } = this.#host;
    guard();
    if (!letter.requeueable) {
      throw refusal(
        letter,
        "the dead letter cannot be requeued: its body could not be encoded, or it is a projection's, which is rebuilt instead",
      );
    }
    // Over a broker it may be another process's handler.
    if (!stores.hasBroker && registry.routeNamed(letter.handler) === undefined) {
      throw refusal(letter, "this app has no such handler");
    }
    if (payload === undefined) return undefined;
    const { id, version = 1, metadata, occurred_at, max_retries } = this.#decode(letter);
    const model = registry.lookup(letter.type);
    const stamp = Metadata.read(id, metadata);
    const checked = model?.decode(payload as PayloadObject, stamp) ?? payload;
    const data = encodePayload(letter.type, checked, stores.maxPayloadBytes);
    const facts = JSON.stringify({
      id,
      type: letter.type,
      version: model?.version ?? version,
      occurred_at: Math.round(millisOf(occurred_at ?? metadata.issued_at) * 1000),
      max_retries,
    });
    const json = `${facts.slice(0, -1)},"metadata":${Metadata.encode(stamp)},"data":${data}}`;
    return attempt(() => native.encodeMessage(letter.kind, json));
  }

  /** Delivers the message to its handler alone; over a broker it is put into the handler's queue. `before` is the body that the letter had. */
  async redeliver(letter: DeadLetter, before: string): Promise<Redelivered> {
    const { bridge, bus, clock, registry, stores } = this.#host;
    if (stores.hasBroker) {
      const now = Math.round(clock.now() * 1000);
      try {
        const json = JSON.stringify(letter);
        await bridge.run(() => stores.requeueOverBus(registry.native, json, now));
        return "queued";
      } catch (error) {
        await bridge.run(() => stores.takeBackDeadLetter(letter.id, before));
        throw error;
      }
    }
    const route = registry.routeNamed(letter.handler);
    if (route === undefined) return "kept";
    const decoded = this.#decode(letter);
    const stamp = Metadata.read(decoded.id, decoded.metadata);
    const message = this.#messageOf(letter, decoded, stamp);
    try {
      await bus.deliverTo(route, message, stamp);
      return "gone";
    } catch (error) {
      // A refusal is an answer: the message is done with.
      return error instanceof RejectedError ? "gone" : "kept";
    }
  }

  #decode(letter: DeadLetter): DecodedMessage {
    const now = Math.round(this.#host.clock.now() * 1000);
    return JSON.parse(attempt(() => native.decodeMessage(letter.body, now))) as DecodedMessage;
  }

  #messageOf(letter: DeadLetter, decoded: DecodedMessage, stamp: Metadata): Message {
    const { registry } = this.#host;
    if (decoded.kind === "event") {
      const { id, type, version = 1, data, metadata } = decoded;
      return eventOf({ id, type, version, data, metadata } as Row, registry.lookup);
    }
    const model = registry.lookup(decoded.type);
    if (model === undefined) throw refusal(letter, `this app does not know ${decoded.type}`);
    return model.decode(decoded.data, stamp);
  }
}

function refusal({ handler }: DeadLetter, reason: string): InvalidHandlerError {
  return new InvalidHandlerError(`handler ${handler}: ${reason}`, { handler, reason });
}
