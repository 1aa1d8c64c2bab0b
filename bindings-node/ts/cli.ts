#!/usr/bin/env node
/**
 * The command `orkestra`.
 *
 * @packageDocumentation
 */
import { OrkestraError } from "./errors.js";
import { native } from "./native.js";
import { runWorker } from "./worker.js";

// Node's own handlers of these end the process. With listeners that come and go the system's are there instead, which the command may replace.
for (const signal of ["SIGINT", "SIGTERM"]) {
  const listener = (): void => undefined;
  process.on(signal, listener).off(signal, listener);
}

/** What starts this command again. */
const again = [process.execPath, ...process.execArgv, process.argv[1] ?? ""];
const { code, target } = native.runCommand(process.argv.slice(2), again);
process.exitCode = code;
if (typeof target === "string") {
  runWorker(target).catch((error: unknown) => {
    process.stderr.write(`orkestra: ${described(error)}\n`);
    process.exit(1);
  });
}

/** Ours say what is wrong in a line; of anybody else's error people need the stack. */
function described(error: unknown): string {
  if (error instanceof OrkestraError) return `${error.name}: ${error.message}`;
  return error instanceof Error ? (error.stack ?? String(error)) : String(error);
}
