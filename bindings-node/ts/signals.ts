/**
 * Abort signals put together.
 *
 * @packageDocumentation
 */

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
