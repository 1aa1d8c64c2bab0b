/**
 * The native part as TypeScript sees it. Private: structure crosses as JSON text, events on their way to the store as fields between separators
 * that JSON has escaped only (`src/pages.rs`); errors are read by `fromNative`.
 *
 * @packageDocumentation
 */
import { fromNative } from "./errors.js";
import addon from "./load.cjs";

/** A task's number while it waits; its text, or nothing, when it ended at once. */
export type Started = number | string | null;

/** The mailbox between core futures and this thread. */
export interface NativeBridge {
  drain(): Array<number | string | null>;
  cancel(task: number): void;
  nextWarning(): Started;
}

/** The types and handlers of an app. */
export interface NativeRegistry {
  readonly app: string;
  readonly appPrefix: string;
  addType(json: string): number;
  addCommandHandler(json: string): number;
  addEventHandler(json: string): number;
  addProjection(json: string): string;
  handler(index: number): string;
  commandHandler(typeName: string): number;
  eventHandlers(typeName: string): number[];
  typeNamed(name: string): number | null;
  topicFor(typeName: string): string;
}

/** What follows on an attempt that did not succeed: milliseconds to the next, or the reason to give up. */
export type NextAttempt = number | string;

/** A message on its way to one handler. */
export interface NativeDelivery {
  readonly attempts: number;
  begin(): number;
  failed(types: string[], errors: string, nowMicros: number, draw: number): NextAttempt;
  retryAfter(delayMs: number, errors: string, nowMicros: number): NextAttempt;
}

/** The stores of an app: settings first, adapters once opened. */
export interface NativeStores {
  readonly memoryOnly: boolean;
  readonly hasBroker: boolean;
  readonly maxPayloadBytes: number;
  open(app: string): Started;
  close(): Started;
  append(stream: string, expected: number | string, events: string): Started;
  appendMany(
    streams: readonly string[],
    expected: readonly (number | string)[],
    events: readonly string[],
  ): Started;
  readStream(stream: string, from: number | undefined, backwards: boolean, limit: number): Started;
  readAll(registry: NativeRegistry, json: string): Started;
  head(): Started;
  deleteStream(stream: string, expected: number | string, hard: boolean): Started;
  readonly sqliteFiles: string[];
  readonly stateSchema: string | null;
  enqueue(registry: NativeRegistry, json: string): Started;
  outgoing(registry: NativeRegistry, json: string): string;
  outboxBacklog(): Started;
  purgeStreams(json: string): Started;
  purgeDeadLetters(olderThanMs: number, handler: string | undefined): Started;
  purgeOutbox(olderThanMs: number): Started;
  purgeInbox(olderThanMs: number): Started;
  wasHandled(handler: string, id: string): Started;
  recordHandled(handler: string, id: string): Started;
  caughtUp(name: string, position: number): Started;
  projectionState(name: string): Started;
  parkEvent(work: NativeWork, handler: string, json: string, nowMicros: number): Started;
  recordDeadLetter(delivery: NativeDelivery, json: string, nowMicros: number): Started;
  listDeadLetters(filter: string): Started;
  deadLetter(id: string): Started;
  requeueDeadLetter(id: string, body: string | undefined): Started;
  takeBackDeadLetter(id: string, body: string): Started;
  discardDeadLetter(id: string): Started;
  send(registry: NativeRegistry, json: string): number[];
  busHealth(): string;
  pauseBus(): Started;
  startRelay(registry: NativeRegistry): Started;
  nextParked(): Started;
  requeueOverBus(registry: NativeRegistry, letter: string, nowMicros: number): Started;
  busLetters(limit: number): Started;
  drainBusLetters(limit: number | undefined): Started;
}

/** The queues of an app's handlers, a lane each. */
export interface NativeConsumers {
  consume(registry: NativeRegistry, handler: number): Started;
  start(): void;
  claimed(ticket: number): void;
  ready(lane: number): Started;
  take(wants: number[]): string | null;
  done(tickets: number[]): void;
  answered(tickets: number[], results: string[]): void;
  unanswerable(ticket: number, error: string): void;
  giveBack(tickets: number[]): void;
  giveBackAll(): void;
  rejected(ticket: number, reason: string, data: string): void;
  failed(ticket: number, types: string[], errors: string, nowMicros: number, draw: number): Started;
  retryAfter(ticket: number, delayMs: number, errors: string, nowMicros: number): Started;
  undecodable(ticket: number, errors: string, nowMicros: number): Started;
  bury(ticket: number): Started;
}

/** A named reader of the log. */
export interface NativeSubscription {
  open(): Started;
  next(): Started;
  ack(position: number): Started;
  rewind(position: number): void;
  goBack(handled: number | undefined): void;
  release(): Started;
}

/** The reader of a view. */
export interface NativeProjection {
  suffix(): string;
  isUnprepared(): boolean;
  prepared(): void;
  checkpoint(position: number | undefined): string;
  failed(): void;
  rewind(): void;
  open(): Started;
  next(): Started;
  tryNext(): Started;
  saved(position: number | undefined): Started;
  handled(position: number | undefined): Started;
  found(row: string | undefined): Started;
  progress(): Started;
  pauseLive(): Started;
  switch(): Started;
  switched(): Started;
  notSwitched(): Started;
  release(): Started;
}

/** A batch on its way into a view. */
export interface NativeWork {
  step(): string;
  attempt(): number;
  succeeded(): void;
  failed(types: string[], errors: string, nowMicros: number, draw: number): void;
  away(errors: string, nowMicros: number, draw: number): void;
  retryAfter(delayMs: number, errors: string, nowMicros: number): void;
  undecodable(errors: string, nowMicros: number): void;
  rejected(): void;
  waited(): void;
  givenUp(): void;
}

/** One command on its way through one aggregate. */
export interface NativeExecution {
  advance(): Started;
  decided(events: string): Started;
  refused(): Started;
  snapshot(state: string, revision: number, nowMicros: number): Started;
}

/** The addon. */
export interface Native {
  readonly Stores: new (bridge: NativeBridge, settings: string) => NativeStores;
  readonly Subscription: new (
    stores: NativeStores,
    registry: NativeRegistry,
    json: string,
  ) => NativeSubscription;
  readonly Projection: new (
    stores: NativeStores,
    registry: NativeRegistry,
    json: string,
  ) => NativeProjection;
  readonly Work: new (
    positions: number[],
    end: number | undefined,
    policy: string,
    poison: string,
  ) => NativeWork;
  readonly Consumers: new (stores: NativeStores) => NativeConsumers;
  readonly Execution: new (stores: NativeStores, json: string) => NativeExecution;
  readonly Bridge: new (wakeup: () => void) => NativeBridge;
  readonly Registry: new (name: string, appPrefix: string | undefined) => NativeRegistry;
  readonly Delivery: new (
    registry: NativeRegistry,
    handler: number,
    maxRetries: number | undefined,
  ) => NativeDelivery;
  claimSql(): string;
  viewSql(dialect: string): string;
  saveRefusal(json: string): string;
  switchRefusal(json: string): string | null;
  topicOf(typeName: string, appPrefix: string): string;
  patternMatches(pattern: string, topic: string): boolean;
  messageId(text: string): string;
  eventIdOf(commandId: string, index: number): string;
  checkMetadata(json: string): void;
  retryDelay(policy: string, retry: number, draw: number): number;
  checkPayload(typeName: string, payload: string, maxBytes: number): void;
  eventStatus(states: string[]): string;
  errorCatalogue(): string;
  encodeMessage(kind: string, json: string): string;
  decodeMessage(body: string, receivedAtMicros: number): string;
  runCommand(args: string[], command: string[]): { code: number; target?: string | null };
}

/** The addon itself: its methods throw a JSON reason. Call through {@link native} or {@link attempt}. */
export const native = addon as Native;

/** What `call` returns, its error as one of ours. */
export function attempt<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw fromNative(error);
  }
}
