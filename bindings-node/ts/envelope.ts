/**
 * What becomes of a message: the state around it.
 *
 * @packageDocumentation
 */
import type { Command, Event } from "./message.js";
import { idOf, metadataOf } from "./message.js";
import type { Metadata } from "./metadata.js";
import { native } from "./native.js";

/** Where a command stands. */
export type CommandStatus = "pending" | "dispatched" | "succeeded" | "failed" | "rejected";
/** Where an event stands with one handler; `skipped` counts as handled. */
export type HandlerState = "pending" | "processing" | "succeeded" | "failed" | "skipped";
/** Where an event stands with all its handlers together. */
export type EventStatus = "pending" | "published" | "handled" | "partially_handled" | "failed";

/** A command and what becomes of it, as middleware sees it. */
export class CommandEnvelope {
  /** The command. */
  readonly command: Command;
  /** Where it stands. */
  status: CommandStatus = "pending";
  /** Attempts so far. */
  attempts = 0;
  /** Retries that the sender wants; `null` leaves it to the handler. */
  readonly maxRetries: number | null;
  /** When it was first sent. */
  dispatchedAt: Date | null = null;
  /** When it was handled, refused or given up. */
  completedAt: Date | null = null;
  /** The handler's result. */
  result: unknown = undefined;
  /** What the last attempt failed with. */
  error: unknown = undefined;
  /** For middleware: what one leaves here the next one finds. */
  readonly context: Record<string, unknown> = {};

  constructor(command: Command, maxRetries: number | null = null) {
    this.command = command;
    this.maxRetries = maxRetries;
  }

  /** The command's id. */
  get id(): string {
    return idOf(this.command);
  }

  /** The command's metadata. */
  get metadata(): Metadata {
    return metadataOf(this.command);
  }

  /** Whether another attempt is allowed: failed, and attempts <= `maxRetries`. */
  get retryable(): boolean {
    return this.status === "failed" && this.attempts <= (this.maxRetries ?? 0);
  }
}

/** An event and what becomes of it. */
export class EventEnvelope {
  /** The event. */
  readonly event: Event;
  /** For middleware: what one leaves here the next one finds. */
  context: Record<string, unknown> = {};
  readonly #names: readonly { readonly fullName: string }[];
  /** Nothing over a broker, where nobody knows them. */
  readonly #states: HandlerState[] | undefined;
  readonly #publishedAt: number;
  /** Work that goes on behind. */
  readonly #behind: readonly Promise<void>[];

  /** @internal */
  constructor(
    event: Event,
    handlers: readonly { readonly fullName: string }[],
    states: HandlerState[] | undefined,
    publishedAt: number,
    behind: readonly Promise<void>[],
  ) {
    this.event = event;
    this.#names = handlers;
    this.#states = states;
    this.#publishedAt = publishedAt;
    this.#behind = behind;
  }

  /** The event's id. */
  get id(): string {
    return idOf(this.event);
  }

  /** The event's metadata. */
  get metadata(): Metadata {
    return metadataOf(this.event);
  }

  /** When it was published. */
  get publishedAt(): Date {
    return new Date(this.#publishedAt);
  }

  /**
   * Each handler's state by its full name `<app>.<handler>`, in order of registration. A handler that waits for a retry is pending. Over a broker,
   * where the handlers may be anybody's, there is none.
   */
  get handlers(): ReadonlyMap<string, HandlerState> {
    return new Map(
      this.#names.map(({ fullName }, i) => [fullName, this.#states?.[i] ?? "pending"]),
    );
  }

  /** Where the event stands: all handled, some failed, all failed, or still published, which it stays over a broker. */
  get status(): EventStatus {
    if (this.#states === undefined) return "published";
    return native.eventStatus(this.#states) as EventStatus;
  }

  /** Waits until every handler has succeeded or given up, retries included; ends at once over a broker. Never rejects because a handler failed. */
  async settled(): Promise<this> {
    for (let i = 0; i < this.#behind.length; i++) await this.#behind[i];
    return this;
  }
}

/** Around sending or handling a message: call `next` once, and return what it returns or something else. */
export type Middleware<E = CommandEnvelope | EventEnvelope> = (
  envelope: E,
  next: () => Promise<unknown>,
) => Promise<unknown>;
