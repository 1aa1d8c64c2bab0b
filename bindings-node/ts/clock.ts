/**
 * Time and ids: the only file that reads the time or makes an id.
 *
 * @packageDocumentation
 */
import { randomFillSync } from "node:crypto";

/** Where the time comes from. */
export interface Clock {
  /** Milliseconds since 1970-01-01T00:00:00 UTC; fractions to the microsecond are kept. */
  now(): number;
  /** Ends after `ms` milliseconds, or at once when `signal` is aborted. Never rejects. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** Where ids and random draws come from. */
export interface IdSource {
  /** A new UUID of version 7 for something that happens at `now`, milliseconds since 1970. */
  next(now: number): string;
  /** A draw from [0, 1), for jitter. */
  draw(): number;
}

/** What stamps a message: an app's own, or the machine's for a message made outside of any. */
export interface Origin {
  readonly clock: Clock;
  readonly ids: IdSource;
}

/** The machine's own clock. */
export class SystemClock implements Clock {
  now(): number {
    return Date.now();
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const end = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", end);
        resolve();
      };
      // A longer delay would overflow and end at once.
      const timer = setTimeout(end, Math.min(ms, 0x7fff_ffff));
      signal?.addEventListener("abort", end, { once: true });
    });
  }
}

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));
const hex = (byte: number): string => HEX[byte & 0xff] as string;

/** Ids from the operating system's randomness, increasing within this source. Source: RFC 9562 §5.7 and §6.2. */
export class SystemIds implements IdSource {
  readonly #pool = new Uint8Array(4096);
  #used = this.#pool.length;
  #millis = 0;
  #counter = 0;

  next(now: number): string {
    const wanted = Math.max(0, Math.floor(now));
    if (wanted > this.#millis) {
      this.#millis = wanted;
      // The upper half stays free for counting within the millisecond.
      this.#counter = ((this.#byte() << 8) | this.#byte()) & 0x7ff;
    } else if (++this.#counter > 0xfff) {
      this.#counter = 0;
      this.#millis += 1;
    }
    return uuid(this.#millis, this.#counter, () => this.#byte());
  }

  draw(): number {
    return Math.random();
  }

  #byte(): number {
    if (this.#used === this.#pool.length) {
      randomFillSync(this.#pool);
      this.#used = 0;
    }
    return this.#pool[this.#used++] as number;
  }
}

function uuid(millis: number, counter: number, byte: () => number): string {
  const high = Math.floor(millis / 0x1_0000);
  const time = `${hex(high >>> 24)}${hex(high >>> 16)}${hex(high >>> 8)}${hex(high)}-${hex(millis >>> 8)}${hex(millis)}`;
  const tail = `${hex(byte())}${hex(byte())}${hex(byte())}${hex(byte())}${hex(byte())}${hex(byte())}`;
  return `${time}-${hex(0x70 | (counter >>> 8))}${hex(counter)}-${hex(0x80 | (byte() & 0x3f))}${hex(byte())}-${tail}`;
}

/** The machine's own clock and ids. */
export const SYSTEM: Origin = { clock: new SystemClock(), ids: new SystemIds() };

interface Sleeper {
  readonly at: number;
  readonly wake: () => void;
}

/** A clock that stands still until it is told to move: for tests. */
export class ManualClock implements Clock {
  #now: number;
  readonly #sleepers = new Set<Sleeper>();
  readonly #waiting: Array<() => void> = [];

  /** A clock that shows `start`. */
  constructor(start: Date | number = Date.UTC(2026, 0, 1)) {
    this.#now = Number(start);
  }

  now(): number {
    return this.#now;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (ms <= 0 || signal?.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const sleeper: Sleeper = {
        at: this.#now + ms,
        wake: () => {
          this.#sleepers.delete(sleeper);
          resolve();
        },
      };
      signal?.addEventListener("abort", sleeper.wake, { once: true });
      this.#sleepers.add(sleeper);
      for (const told of this.#waiting.splice(0)) told();
    });
  }

  /** Moves the time on by `ms` milliseconds and wakes every sleep that is due, earliest first. */
  advance(ms: number): void {
    this.#now += ms;
    const due = [...this.#sleepers].filter(({ at }) => at <= this.#now);
    for (const { wake } of due.sort((a, b) => a.at - b.at)) wake();
  }

  /** Milliseconds until the earliest sleep ends; waits for one when nothing sleeps. What a test awaits before it advances. */
  async nextWake(): Promise<number> {
    while (this.#sleepers.size === 0) {
      await new Promise<void>((told) => this.#waiting.push(told));
    }
    return Math.min(...[...this.#sleepers].map(({ at }) => at)) - this.#now;
  }
}

/** Ids that count 1, 2, 3, … at the given time, and draws that are all the same: for tests. */
export class ManualIds implements IdSource {
  #count = 0;
  readonly #draw: number;

  /** Every draw is `draw`, which lies in [0, 1). */
  constructor(draw = 0.5) {
    this.#draw = draw;
  }

  next(now: number): string {
    const count = ++this.#count;
    const bytes = [0, 0, 0, count / 0x1_0000_0000, count >>> 24, count >>> 16, count >>> 8, count];
    // uuid() takes the last six bytes first.
    const order = [...bytes.slice(2), 0, 0];
    return uuid(Math.floor(now), 0, () => order.shift() ?? 0);
  }

  draw(): number {
    return this.#draw;
  }
}
