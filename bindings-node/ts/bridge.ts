/**
 * Core futures as promises: the JavaScript side of `src/bridge.rs`.
 *
 * @packageDocumentation
 */
import { errorOf, fromNative } from "./errors.js";
import { type NativeBridge, native, type Started } from "./native.js";

/** Whoever waits for a task. */
export interface Waiting {
  readonly resolve: (text: string | null) => void;
  readonly reject: (error: Error) => void;
  /** Waiting does not keep the process alive. */
  readonly background: boolean;
}

/** How a call waits. */
export interface RunOptions {
  /** Waiting does not keep the process alive. */
  readonly background?: boolean;
  /** Stops waiting: the call then ends with nothing, as the core forgets it. */
  readonly signal?: AbortSignal | undefined;
}

/** The tasks of one thread that wait for the core. */
export class Bridge {
  static #here: Bridge | undefined;

  /** The bridge of this thread, shared by its apps: a mailbox belongs to a loop. */
  static here(): Bridge {
    Bridge.#here ??= new Bridge();
    return Bridge.#here;
  }

  readonly native: NativeBridge = new native.Bridge(() => this.#drain());
  readonly #waiting = new Map<number, Waiting>();
  /** Keeps the process alive while somebody waits for the core; the native side never does. */
  readonly #alive = setInterval(() => undefined, 0x7fff_ffff).unref();
  #foreground = 0;
  readonly #listeners = new Set<(text: string) => void>();
  #deaf: AbortController | undefined;

  /** Tells `listener` what the core warns of, in whichever app of the process, until it is forgotten. Of several one is told. */
  hear(listener: (text: string) => void): void {
    this.#listeners.add(listener);
    if (this.#deaf !== undefined) return;
    this.#deaf = new AbortController();
    void this.#hear(this.#deaf.signal);
  }

  /** Tells `listener` nothing any more. */
  forget(listener: (text: string) => void): void {
    this.#listeners.delete(listener);
    if (this.#listeners.size > 0) return;
    this.#deaf?.abort();
    this.#deaf = undefined;
  }

  async #hear(signal: AbortSignal): Promise<void> {
    for (;;) {
      const text = await this.run(() => this.native.nextWarning(), { background: true, signal });
      const [listener] = this.#listeners;
      if (text === null || listener === undefined) return;
      listener(text);
    }
  }

  /** Runs a native call that may have to wait. */
  run(start: () => Started, options?: RunOptions): Promise<string | null> {
    let started: Started;
    try {
      started = start();
    } catch (error) {
      return Promise.reject(fromNative(error));
    }
    if (typeof started !== "number") return Promise.resolve(started);
    const task = started;
    const background = options?.background === true;
    const ended = new Promise<string | null>((resolve, reject) => {
      this.follow(task, { resolve, reject, background });
    });
    return options?.signal === undefined ? ended : this.#abortable(task, ended, options.signal);
  }

  /** Tells `waiting` how a task ends that a native call has started. */
  follow(task: number, waiting: Waiting): void {
    this.#waiting.set(task, waiting);
    if (!waiting.background && this.#foreground++ === 0) this.#alive.ref();
  }

  /** Lets the core forget a task; nobody is told how it ends. Returns who waited. */
  abandon(task: number): Waiting | undefined {
    const waiting = this.#waiting.get(task);
    if (waiting === undefined) return undefined;
    this.#forget(task, waiting);
    this.native.cancel(task);
    return waiting;
  }

  async #abortable(
    task: number,
    ended: Promise<string | null>,
    signal: AbortSignal,
  ): Promise<string | null> {
    const abort = (): void => this.abandon(task)?.resolve(null);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    try {
      return await ended;
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  #forget(task: number, waiting: Waiting): void {
    this.#waiting.delete(task);
    if (!waiting.background && --this.#foreground === 0) this.#alive.unref();
  }

  #drain(): void {
    const ended = this.native.drain();
    for (let i = 0; i < ended.length; i += 3) {
      const task = ended[i] as number;
      const waiting = this.#waiting.get(task);
      if (waiting === undefined) continue;
      this.#forget(task, waiting);
      const text = ended[i + 2] as string | null;
      if (ended[i + 1] === 1) waiting.resolve(text);
      else waiting.reject(errorOf(text ?? ""));
    }
  }
}
