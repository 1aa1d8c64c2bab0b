/**
 * Abort signals put together, and those that the system sends to the process.
 *
 * @packageDocumentation
 */

import { constants } from "node:os";

type Ending = "SIGINT" | "SIGTERM";

/** Listens whether the process is told to end, until it is disposed of. That keeps the process alive. */
export class ToldToEnd {
  /** Ends with the first SIGINT or SIGTERM, or when the given signal is aborted. */
  readonly first: Promise<void>;
  readonly #alive = setInterval(() => undefined, 0x7fff_ffff);
  readonly #signal: AbortSignal | undefined;
  #told = false;
  #resolve = (): void => undefined;

  constructor(signal: AbortSignal | undefined) {
    this.first = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    this.#signal = signal;
    process.on("SIGINT", this.#hear);
    process.on("SIGTERM", this.#hear);
    if (signal?.aborted) this.#resolve();
    signal?.addEventListener("abort", this.#resolve, { once: true });
  }

  /** Whoever says it twice does not want to wait. */
  readonly #hear = (name: Ending): void => {
    if (this.#told) process.exit(128 + constants.signals[name]);
    this.#told = true;
    this.#resolve();
  };

  /** Listens no more. */
  dispose(): void {
    clearInterval(this.#alive);
    process.off("SIGINT", this.#hear);
    process.off("SIGTERM", this.#hear);
    this.#signal?.removeEventListener("abort", this.#resolve);
  }
}

/** A signal that is aborted with the first of the two, which keep nothing of it once it is disposed of. */
export class Ends {
  readonly #both = new AbortController();
  readonly #given: readonly AbortSignal[];

  constructor(one: AbortSignal | undefined, other: AbortSignal) {
    this.#given = one === undefined ? [other] : [one, other];
    for (const given of this.#given) {
      if (given.aborted) this.#abort();
      given.addEventListener("abort", this.#abort);
    }
  }

  get signal(): AbortSignal {
    return this.#both.signal;
  }

  readonly #abort = (): void => this.#both.abort();

  /** Listens no more. */
  dispose(): void {
    for (const given of this.#given) given.removeEventListener("abort", this.#abort);
  }
}

/** A signal that is aborted with the first of the two. (`AbortSignal.any` came with Node 20.3.) */
export function either(one: AbortSignal, other: AbortSignal): AbortSignal {
  const both = new AbortController();
  const abort = (): void => {
    one.removeEventListener("abort", abort);
    other.removeEventListener("abort", abort);
    both.abort();
  };
  if (one.aborted || other.aborted) both.abort();
  one.addEventListener("abort", abort);
  other.addEventListener("abort", abort);
  return both.signal;
}
