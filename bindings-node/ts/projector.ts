/**
 * Keeps the live view of a projection.
 *
 * @packageDocumentation
 */
import { StoreClosedError, SubscriptionStoppedError } from "./errors.js";
import type { Declared } from "./projections.js";
import { textOf, View, type ViewHost } from "./view.js";

/** The wait after a store failed to answer, milliseconds. */
const AFTER_FAILURE = 500;

/** Brings the events of the log into a projection's live view. */
export class Projector {
  readonly declared: Declared;
  readonly #host: ViewHost;
  readonly #view: View;
  readonly #halted = new AbortController();
  #running = false;
  #replaying = false;
  #stopped: SubscriptionStoppedError | undefined;

  constructor(host: ViewHost, declared: Declared) {
    this.declared = declared;
    this.#host = host;
    this.#view = new View(host, declared, null);
  }

  /** Whether it reads, or waits to. */
  get running(): boolean {
    return this.#running;
  }

  /** Whether what it handled last was history. */
  get replaying(): boolean {
    return this.#replaying;
  }

  /** Why it has stopped, if it has. */
  get stopped(): SubscriptionStoppedError | undefined {
    return this.#stopped;
  }

  /** What it tries again after, if it does. */
  get error(): string | null {
    return this.#view.error;
  }

  /** Aborted with a `SubscriptionStoppedError` when its `poison` policy stops it. */
  get halted(): AbortSignal {
    return this.#halted.signal;
  }

  /** Finds its place. */
  open(): Promise<void> {
    return this.#view.open();
  }

  /** Reads until the app closes. */
  async follow(): Promise<void> {
    const { closing } = this.#host;
    this.#running = true;
    while (!closing.aborted && this.#stopped === undefined) {
      try {
        const batch = await this.#view.next();
        if (batch === undefined) break;
        this.#replaying = batch.replaying;
        await this.#view.handle(batch);
      } catch (error) {
        if (closing.aborted || error instanceof StoreClosedError) break;
        await this.#trouble(error);
      }
    }
    this.#running = false;
    // Where it is not given back it ends by itself.
    await this.#view.release().catch(() => undefined);
  }

  async #trouble(error: unknown): Promise<void> {
    const { closing, origin, warn } = this.#host;
    if (error instanceof SubscriptionStoppedError) {
      this.#stopped = error;
      this.#halted.abort(error);
      warn(error.message, error);
      return;
    }
    this.#view.error = textOf(error);
    warn(`${this.declared.fullName}: it cannot go on and tries again`, error);
    await origin.clock.sleep(AFTER_FAILURE, closing);
    this.#view.rewind();
  }
}
