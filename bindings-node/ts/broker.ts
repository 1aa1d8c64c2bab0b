/**
 * Messages on their way to a broker: what is sent in one turn of the loop crosses to the core together.
 *
 * @packageDocumentation
 */
import type { Bridge, Waiting } from "./bridge.js";
import { fromNative } from "./errors.js";
import type { Message, Model } from "./message.js";
import type { Metadata } from "./metadata.js";
import type { NativeStores } from "./native.js";
import { encodeMessage } from "./recorded.js";
import type { Registry } from "./registry.js";

/** So many messages cross at once at most. */
const BATCH = 256;

/** What sending needs of its app. */
export interface BrokerHost {
  readonly bridge: Bridge;
  readonly stores: NativeStores;
  readonly registry: Registry;
  /** Opens the adapters; nothing when they are open. */
  readonly opening: () => Promise<unknown> | undefined;
}

/** A message that has its stamp. */
export interface Outgoing {
  readonly model: Model;
  readonly message: Message;
  readonly stamp: Metadata;
  readonly maxRetries: number | undefined;
}

/** How an answer is waited for. */
export interface AskOptions {
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

interface Parcel extends Waiting {
  /** Its number once it has crossed. */
  task: number | undefined;
  dropped: boolean;
}

/** Sends messages through the app's broker. */
export class Broker {
  readonly #host: BrokerHost;
  readonly #maxBytes: number;
  #batch: Parcel[] = [];
  /** What crosses of each of the batch. Apart, so that a parcel does not keep its text while it waits. */
  #texts: string[] = [];

  constructor(host: BrokerHost) {
    this.#host = host;
    this.#maxBytes = host.stores.maxPayloadBytes;
  }

  /** Ends when the broker has the message. */
  send(outgoing: Outgoing): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#add(outgoing, "", () => resolve(), reject);
    });
  }

  /** Ends with the answer to a command. */
  async ask(outgoing: Outgoing, options: AskOptions = {}): Promise<unknown> {
    const { timeoutMs, signal } = options;
    const how = `"ask":true,${timeoutMs === undefined ? "" : `"timeout_ms":${timeoutMs},`}`;
    let abort: (() => void) | undefined;
    try {
      const text = await new Promise<string | null>((resolve, reject) => {
        const parcel = this.#add(outgoing, how, resolve, reject);
        abort = () => {
          this.#drop(parcel);
          reject(signal?.reason);
        };
        signal?.addEventListener("abort", abort, { once: true });
      });
      return JSON.parse(text ?? "null");
    } finally {
      if (abort !== undefined) signal?.removeEventListener("abort", abort);
    }
  }

  #add(
    outgoing: Outgoing,
    how: string,
    resolve: (text: string | null) => void,
    reject: (error: Error) => void,
  ): Parcel {
    const { model, message, stamp, maxRetries } = outgoing;
    const body = encodeMessage(message, model, stamp, this.#maxBytes);
    const retries = maxRetries === undefined ? "" : `"max_retries":${maxRetries},`;
    this.#texts.push(`{"kind":"${model.kind}",${how}${retries}"message":${body}}`);
    const parcel = { resolve, reject, background: false, task: undefined, dropped: false };
    const waiting = this.#batch.push(parcel);
    // After this turn's promises: they may have more to send.
    if (waiting === 1) process.nextTick(this.#flush);
    else if (waiting === BATCH) this.#flush();
    return parcel;
  }

  #drop(parcel: Parcel): void {
    parcel.dropped = true;
    if (parcel.task !== undefined) this.#host.bridge.abandon(parcel.task);
  }

  readonly #flush = (): void => {
    const batch = this.#batch;
    if (batch.length === 0) return;
    const texts = this.#texts;
    this.#batch = [];
    this.#texts = [];
    const opening = this.#host.opening();
    if (opening === undefined) this.#handOver(batch, texts);
    else {
      opening.then(
        () => this.#handOver(batch, texts),
        (error) => {
          for (const { reject } of batch) reject(error);
        },
      );
    }
  };

  #handOver(batch: readonly Parcel[], texts: readonly string[]): void {
    const { bridge, stores, registry } = this.#host;
    const parcels = batch.filter(({ dropped }) => !dropped);
    const wanted = texts.filter((_, i) => batch[i]?.dropped === false);
    try {
      const tasks = stores.send(registry.native, `[${wanted.join(",")}]`);
      for (let i = 0; i < tasks.length; i++) {
        const parcel = parcels[i] as Parcel;
        parcel.task = tasks[i] as number;
        bridge.follow(parcel.task, parcel);
      }
    } catch (error) {
      const problem = fromNative(error) as Error;
      for (const { reject } of parcels) reject(problem);
    }
  }
}
