/**
 * Core futures as promises: the JavaScript side of `src/bridge.rs`.
 *
 * @packageDocumentation
 */
import { errorOf, fromNative } from "./errors.js";
import { native, type NativeBridge, type Started } from "./native.js";

interface Waiting {
  readonly resolve: (text: string | null) => void;
  readonly reject: (error: Error) => void;
  readonly background: boolean;
}

/** The tasks of this thread that wait for the core. */
export class Bridge {
  readonly native: NativeBridge = new native.Bridge(() => this.#drain());
  readonly #waiting = new Map<number, Waiting>();
  /** Keeps the process alive while somebody waits for the core; the native side never does. */
  readonly #alive = setInterval(() => undefined, 0x7fff_ffff).unref();
  #foreground = 0;

  /** Runs a native call that may have to wait. `background` work does not keep the process alive. */
  run(start: () => Started, background = false): Promise<string | null> {
    let started: Started;
    try {
      started = start();
    } catch (error) {
      return Promise.reject(fromNative(error));
    }
    if (typeof started !== "number") return Promise.resolve(started);
    const task = started;
    return new Promise((resolve, reject) => {
      this.#waiting.set(task, { resolve, reject, background });
      if (!background && this.#foreground++ === 0) this.#alive.ref();
    });
  }

  #drain(): void {
    const ended = this.native.drain();
    for (let i = 0; i < ended.length; i += 3) {
      const waiting = this.#waiting.get(ended[i] as number);
      if (waiting === undefined) continue;
      this.#waiting.delete(ended[i] as number);
      if (!waiting.background && --this.#foreground === 0) this.#alive.unref();
      const text = ended[i + 2] as string | null;
      if (ended[i + 1] === 1) waiting.resolve(text);
      else waiting.reject(errorOf(text ?? ""));
    }
  }
}
