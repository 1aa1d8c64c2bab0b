/**
 * When to try again.
 *
 * @packageDocumentation
 */
import { InvalidRetryPolicyError } from "./errors.js";
import { attempt, native } from "./native.js";

/** An error class, or its name. */
export type ErrorType = string | (abstract new (...args: never[]) => unknown);

/**
 * When to try again. The delay before retry `n` (1-based) is the smaller of `initialMs * multiplier^(n-1)` and `maxDelayMs`, spread by
 * `jitter`: 1 (full jitter) gives anything from 0 to the delay, 0 the delay itself.
 */
export interface RetryPolicy {
  /** Retries after the first attempt. Default 0 for a command, 3 for an event. */
  readonly maxRetries?: number;
  /** Milliseconds before the first retry. Default 100. */
  readonly initialMs?: number;
  /** Growth from one retry to the next, at least 1. Default 2. */
  readonly multiplier?: number;
  /** Milliseconds that no delay exceeds. Default 30,000. */
  readonly maxDelayMs?: number;
  /** Share of the delay that is random, 0 to 1. Default 1. */
  readonly jitter?: number;
  /** Only errors of these classes are retried, derived ones too. Default all. */
  readonly retryOn?: readonly ErrorType[];
  /** Errors of these classes are never retried. Stronger than `retryOn`. */
  readonly giveUpOn?: readonly ErrorType[];
}

/** Whether `value` is a whole number from 0 that the core can count to. */
export function isCount(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 0xffff_ffff;
}

/**
 * Checks a number of retries.
 *
 * @throws {InvalidRetryPolicyError} if it is no whole number from 0.
 */
export function checkRetries(maxRetries: number | undefined): void {
  if (maxRetries === undefined || isCount(maxRetries)) return;
  const reason = `expected a whole number from 0, found ${String(maxRetries)}`;
  throw new InvalidRetryPolicyError(`retry policy: max_retries: ${reason}`, {
    field: "max_retries",
    reason,
  });
}

/** The policy as the core reads it. */
export function policyToWire(policy: RetryPolicy): object {
  checkRetries(policy.maxRetries);
  const names = (types: readonly ErrorType[]): string[] =>
    types.map((type) => (typeof type === "string" ? type : type.name));
  return {
    max_retries: policy.maxRetries ?? null,
    initial: (policy.initialMs ?? 100) / 1000,
    multiplier: policy.multiplier ?? 2,
    max_delay: (policy.maxDelayMs ?? 30_000) / 1000,
    jitter: policy.jitter ?? 1,
    retry_on: names(policy.retryOn ?? []),
    give_up_on: names(policy.giveUpOn ?? []),
  };
}

/**
 * The milliseconds before retry `retry` (1-based) under `policy`, for a `draw` from [0, 1).
 *
 * @throws {InvalidRetryPolicyError} if a number of the policy is out of its range.
 */
export function retryDelay(policy: RetryPolicy, retry: number, draw: number): number {
  return attempt(() => native.retryDelay(JSON.stringify(policyToWire(policy)), retry, draw));
}
