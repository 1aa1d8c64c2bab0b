/**
 * One of a projection's two views, the live one or one that is rebuilt: brings events of the log into it.
 *
 * @packageDocumentation
 */

import { Checkpoint, type CheckpointFacts, type ViewSave, type ViewSwitch } from "./checkpoint.js";
import type { Origin } from "./clock.js";
import type { Deliveries } from "./delivery.js";
import {
  CheckpointMismatchError,
  OrkestraError,
  StaleLeaseError,
  SubscriptionStoppedError,
} from "./errors.js";
import type { Poison } from "./handlers.js";
import { attempt, type NativeProjection, type NativeWork, native, type Started } from "./native.js";
import { knownAs } from "./outage.js";
import { errorRecords, errorTypes, Reject, RetryAfter } from "./outcome.js";
import type { Declared, Progress } from "./projections.js";
import { type RecordedEvent, type Row, recordedOf } from "./recorded.js";
import type { SubscriptionHost } from "./subscription.js";

/** What views need of their app. */
export interface ViewHost extends SubscriptionHost {
  readonly origin: Origin;
  readonly deliveries: Deliveries;
  readonly warn: (message: string, error: unknown) => void;
}

/** What a view is to handle next. */
export interface ViewBatch {
  readonly events: readonly Row[];
  /** How far was read, over unwanted events too. */
  readonly position: number | null;
  /** Whether all of it is history. */
  readonly replaying: boolean;
}

/** What to do next with a batch. */
type Step =
  | {
      readonly do: "handle";
      readonly from: number;
      readonly to: number;
      readonly position: number | null;
    }
  | { readonly do: "wait"; readonly afterMs: number }
  | {
      readonly do: "giveUp";
      readonly event: number;
      readonly poison: Poison;
      readonly reason: string;
      readonly position: number | null;
    }
  | { readonly do: "done" };

/** One of a projection's two views. */
export class View {
  readonly #host: ViewHost;
  readonly #declared: Declared;
  readonly #native: NativeProjection;
  /** What the last attempt failed with. */
  #failure: unknown;
  /** Whether it was ever saved in a transaction of the view's. */
  hasSaved = false;
  /** What it tries again after. */
  error: string | null = null;

  /** The live view, or with `rebuild` one that is built beside it, which may resume an earlier one. */
  constructor(host: ViewHost, declared: Declared, rebuild: boolean | null) {
    const { fullName, topics, streamPrefix, start, batchSize } = declared;
    const json = JSON.stringify({
      name: fullName,
      rebuild,
      topics,
      stream_prefix: streamPrefix,
      start,
      batch_size: batchSize,
    });
    this.#host = host;
    this.#declared = declared;
    this.#native = attempt(() => new native.Projection(host.stores, host.registry.native, json));
  }

  /** Finds its place. */
  async open(): Promise<void> {
    await this.#run(() => this.#native.open());
  }

  /** Waits for the next events; nothing once the app closes. Waiting does not keep the process alive. */
  next(): Promise<ViewBatch | undefined> {
    return this.#batch(() => this.#native.next(), true);
  }

  /** The next events; nothing when there are none now, or the app closes. */
  tryNext(): Promise<ViewBatch | undefined> {
    return this.#batch(() => this.#native.tryNext(), false);
  }

  async #batch(call: () => Started, background: boolean): Promise<ViewBatch | undefined> {
    const { bridge, closing: signal } = this.#host;
    const text = await bridge.run(call, { signal, background });
    return text === null ? undefined : (JSON.parse(text) as ViewBatch);
  }

  /** What follows the view's place is read again. */
  rewind(): void {
    attempt(() => this.#native.rewind());
  }

  /** How far it is. */
  async progress(): Promise<Progress> {
    return JSON.parse((await this.#run(() => this.#native.progress())) ?? "{}") as Progress;
  }

  /** Has the live view wait; for a rebuild. */
  async pauseLive(): Promise<void> {
    const { bridge, closing: signal } = this.#host;
    await bridge.run(() => this.#native.pauseLive(), { signal });
  }

  /** Lets another process go on at once. */
  async release(): Promise<void> {
    await this.#run(() => this.#native.release());
  }

  /** Has the user make the tables, if that is to be done. */
  async prepare(): Promise<void> {
    if (!attempt(() => this.#native.isUnprepared())) return;
    await this.#declared.prepare?.(this.#checkpoint({ replaying: true }));
    attempt(() => this.#native.prepared());
  }

  /** Has the user put the rebuilt view in the live one's place. */
  async switch(): Promise<void> {
    const json = await this.#run(() => this.#native.switch());
    const facts = JSON.parse(json ?? "{}") as ViewSwitch;
    const checkpoint = this.#checkpoint({ replaying: true, switch: facts });
    try {
      await this.#declared.switch?.(checkpoint);
      checkpoint.requireSwitched(this.hasSaved);
    } catch (error) {
      const kept = this.#run(() => this.#native.notSwitched());
      // What went wrong first is what the caller is told.
      await kept.catch((other) => this.#host.warn(`${this.#declared.fullName}: begin anew`, other));
      throw error;
    }
    await this.#run(() => this.#native.switched());
  }

  /**
   * Brings a batch into the view, as far as it goes: what is left is read again.
   *
   * @throws {SubscriptionStoppedError} if an event cannot be handled and the projection wants to stop there.
   */
  async handle(batch: ViewBatch): Promise<void> {
    await this.prepare();
    const { policy, poison } = this.#declared;
    const { events, position } = batch;
    const positions = events.map((row) => row.position);
    const end = position ?? undefined;
    const work = attempt(() => new native.Work(positions, end, JSON.stringify(policy), poison));
    while (!this.#host.closing.aborted) {
      const step = JSON.parse(work.step()) as Step;
      if (step.do === "done") return;
      if (step.do === "wait") {
        await this.#host.origin.clock.sleep(step.afterMs, this.#host.closing);
        work.waited();
      } else if (step.do === "giveUp") {
        if (!(await this.#giveUp(work, events[step.event] as Row, step))) return;
      } else if (!(await this.#attempt(work, batch, step))) {
        return;
      }
    }
  }

  /** Calls the handler once; whether the batch goes on. */
  async #attempt(
    work: NativeWork,
    { events, replaying }: ViewBatch,
    step: { readonly from: number; readonly to: number; readonly position: number | null },
  ): Promise<boolean> {
    const at = step.position ?? undefined;
    const save = JSON.parse(attempt(() => this.#native.checkpoint(at))) as ViewSave;
    const checkpoint = this.#checkpoint({ replaying, save });
    const { deed } = checkpoint;
    const recorded = this.#decode(work, events.slice(step.from, step.to));
    if (recorded === undefined) return true;
    try {
      await this.#declared.handler(recorded, checkpoint);
      if (!deed.refused) checkpoint.requireAwaited();
    } catch (error) {
      if (!deed.refused) {
        attempt(() => this.#native.failed());
        this.#failed(work, error);
        return true;
      }
    }
    if (deed.refused) {
      // The view stands elsewhere: the reader goes there.
      const row = deed.found === null ? undefined : JSON.stringify(deed.found);
      await this.#run(() => this.#native.found(row));
      return false;
    }
    this.hasSaved ||= deed.done;
    const told = deed.done ? () => this.#native.saved(at) : () => this.#native.handled(at);
    if (!(await this.#tell(told))) return false;
    work.succeeded();
    this.error = null;
    return true;
  }

  /** The events; nothing if one of them cannot be read. */
  #decode(work: NativeWork, rows: readonly Row[]): RecordedEvent<never>[] | undefined {
    const { lookup } = this.#host.registry;
    try {
      // Of the types that the handler expects, as far as the app knows them.
      return rows.map((row) => recordedOf(row, lookup) as RecordedEvent<never>);
    } catch (error) {
      this.#failure = error;
      work.undecodable(JSON.stringify(errorRecords(error)), this.#micros());
      return undefined;
    }
  }

  #micros(): number {
    return Math.round(this.#host.origin.clock.now() * 1000);
  }

  #failed(work: NativeWork, error: unknown): void {
    const { origin, warn } = this.#host;
    this.#failure = error;
    const records = JSON.stringify(errorRecords(error));
    const now = this.#micros();
    if (error instanceof Reject) {
      work.rejected();
      return;
    }
    if (error instanceof RetryAfter) {
      attempt(() => work.retryAfter(error.delayMs, records, now));
      return;
    }
    this.error = textOf(error);
    warn(`${this.#declared.fullName}: attempt ${work.attempt()} failed`, error);
    const draw = origin.ids.draw();
    if (error instanceof OrkestraError && error.transient) {
      attempt(() => work.away(records, now, draw));
      return;
    }
    const types = [...errorTypes(error), ...knownAs(error)];
    attempt(() => work.failed(types, records, now, draw));
  }

  /** Whether the batch goes on without the event. */
  async #giveUp(
    work: NativeWork,
    row: Row,
    step: { readonly poison: Poison; readonly reason: string; readonly position: number | null },
  ): Promise<boolean> {
    const { deliveries, warn } = this.#host;
    const { fullName: name } = this.#declared;
    const { position } = row;
    if (step.poison === "stop") {
      const reason = this.#failure instanceof Error ? this.#failure.message : step.reason;
      const message = `subscription ${name} stopped at position ${position}: ${reason}`;
      throw new SubscriptionStoppedError(message, { name, position, reason });
    }
    if (step.poison === "skip") {
      warn(`${name}: the event at position ${position} is passed over`, this.#failure);
    } else if (!(await deliveries.parkEvent(work, name, row, step.reason))) {
      return false;
    }
    if (!(await this.#tell(() => this.#native.handled(step.position ?? undefined)))) return false;
    work.givenUp();
    this.error = null;
    return true;
  }

  /** Whether the view is still this reader's. */
  async #tell(call: () => Started): Promise<boolean> {
    try {
      await this.#run(call);
      return true;
    } catch (error) {
      if (error instanceof StaleLeaseError || error instanceof CheckpointMismatchError) {
        return false;
      }
      throw error;
    }
  }

  #checkpoint(facts: Pick<CheckpointFacts, "replaying" | "save" | "switch">): Checkpoint {
    return new Checkpoint({
      projection: this.#declared.name,
      suffix: attempt(() => this.#native.suffix()) as "" | "_rebuild",
      storeFiles: this.#host.stores.sqliteFiles,
      ...facts,
    });
  }

  #run(call: () => Started): Promise<string | null> {
    return this.#host.bridge.run(call);
  }
}

/** What went wrong, for people. */
export function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
