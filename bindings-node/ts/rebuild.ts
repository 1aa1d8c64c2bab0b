/**
 * Building a view anew beside the live one.
 *
 * @packageDocumentation
 */
import { ClosedError, NoSwitchError } from "./errors.js";
import type { Declared, Progress } from "./projections.js";
import { View, type ViewHost } from "./view.js";

/** How to rebuild. */
export interface RebuildOptions {
  /** Whether it goes on where a rebuild that did not come to its end stopped. The projection must not have changed since. Default false. */
  readonly resume?: boolean;
}

/**
 * A rebuild: iterate to follow its progress, or await its end.
 *
 * It begins with the first of these, and leaving the iteration ends it. The live view goes on until the rebuilt one takes its place, which is
 * what the end is.
 *
 * @example
 * ```ts
 * for await (const { position, head } of app.rebuild("board")) console.error(position, "of", head);
 *
 * await app.rebuild("board");
 * ```
 */
export class Rebuild implements AsyncIterable<Progress>, PromiseLike<Progress> {
  readonly #host: ViewHost;
  readonly #declared: Declared;
  readonly #resume: boolean;
  #ended: Promise<Progress> | undefined;

  /** @internal */
  constructor(host: ViewHost, declared: Declared, { resume = false }: RebuildOptions) {
    this.#host = host;
    this.#declared = declared;
    this.#resume = resume;
  }

  // biome-ignore lint/suspicious/noThenProperty: it is meant to be awaited
  then<Result = Progress, Failure = never>(
    fulfilled?: ((progress: Progress) => Result | PromiseLike<Result>) | null,
    rejected?: ((reason: unknown) => Failure | PromiseLike<Failure>) | null,
  ): Promise<Result | Failure> {
    this.#ended ??= this.#run();
    return this.#ended.then(fulfilled, rejected);
  }

  async #run(): Promise<Progress> {
    let last: Progress = { position: null, head: null, handled: 0, caughtUp: false };
    for await (const progress of this) last = progress;
    return last;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Progress> {
    const { fullName: name, switch: switched } = this.#declared;
    if (switched === undefined) {
      const reason = "has no switch function and cannot be rebuilt beside the live view";
      throw new NoSwitchError(`projection ${name} ${reason}`, { name });
    }
    const view = new View(this.#host, this.#declared, this.#resume);
    try {
      await this.#step(view.open());
      await this.#step(view.prepare());
      let paused = false;
      for (;;) {
        const batch = await this.#step(view.tryNext());
        if (batch !== undefined) {
          await this.#step(view.handle(batch));
          yield await this.#step(view.progress());
        } else if (!paused) {
          // What comes in until the live one waits is read after it.
          await this.#step(view.pauseLive());
          paused = true;
        } else {
          break;
        }
      }
      const end = await this.#step(view.progress());
      // Once it is done it is, whoever closes the app meanwhile.
      await this.#finished(view.switch());
      yield end;
    } finally {
      const released = view.release().catch(() => undefined);
      this.#host.deliveries.behind(released);
      await released;
    }
  }

  /** What is under way when the app closes is finished. */
  #finished<T>(work: Promise<T>): Promise<T> {
    this.#host.deliveries.behind(work);
    return work;
  }

  /** As {@link Rebuild.#finished}, and no more after it when the app closes. */
  async #step<T>(work: Promise<T>): Promise<T> {
    const result = await this.#finished(work);
    if (this.#host.closing.aborted) {
      const [app = ""] = this.#declared.fullName.split(".");
      throw new ClosedError(`the app ${app} is closed`, { app });
    }
    return result;
  }
}
