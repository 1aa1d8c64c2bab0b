/**
 * Topics and patterns.
 *
 * @packageDocumentation
 */
import { attempt, native } from "./native.js";

/**
 * The topic of a type name: segments shared with `appPrefix` dropped, each underscored, joined with dots.
 *
 * @throws {InvalidTypeNameError} {@link EmptyTopicError} if nothing is left.
 */
export function topicOf(typeName: string, appPrefix = ""): string {
  return attempt(() => native.topicOf(typeName, appPrefix));
}

/**
 * Whether `pattern` matches `topic`: `*` is exactly one word, `#` zero or more.
 *
 * @throws {InvalidPatternError} if it is too long or has a space in it.
 */
export function patternMatches(pattern: string, topic: string): boolean {
  return attempt(() => native.patternMatches(pattern, topic));
}
