// Timing loops, and the one line of JSON that each measurement prints.

const WARM_UP_MS = 300;
const MEASURE_MS = 1000;

/** Prints what `run.py` reads: a value, its unit and any facts beside it. */
export function emit(value, unit, details = {}) {
  process.stdout.write(`${JSON.stringify({ value, unit, details })}\n`);
}

/**
 * Returns the median ns per call of `batch`, an async function that makes
 * `calls` calls and resolves to the ms that its timed part took.
 */
export async function medianNs(batch, calls) {
  const warm = performance.now() + WARM_UP_MS;
  while (performance.now() < warm) await batch();
  const taken = [];
  const until = performance.now() + MEASURE_MS;
  while (performance.now() < until) taken.push(((await batch()) * 1e6) / calls);
  return median(taken);
}

/** Returns the middle of `values`. */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
