/**
 * A worker of the command `orkestra`: the app that a module exports, run until the process is told to end.
 *
 * @packageDocumentation
 */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { InvalidSettingError } from "./errors.js";

/** What a worker needs of an app; the module's copy of this package need not be ours. */
interface Runnable {
  run(): Promise<void>;
}

/**
 * Runs the handlers of the app that the module `target` exports (as default, or as `app`) until SIGINT or SIGTERM. A second one ends the process at once.
 *
 * @throws {InvalidSettingError} if there is no such module, or no app in it.
 * @throws what the module throws, and what keeps the app from starting.
 */
export async function runWorker(target: string): Promise<void> {
  const app = await appOf(target);
  await app.run();
}

async function appOf(target: string): Promise<Runnable> {
  const path = resolve(target);
  if (!existsSync(path)) throw refuse(target, `there is no file ${path}`);
  const module = (await import(pathToFileURL(path).href)) as Record<string, unknown>;
  // Of a CommonJS module everything is under `default`.
  const inner = module.default as Record<string, unknown> | undefined;
  const app = [inner, module.app, inner?.default, inner?.app].find(isRunnable);
  if (app === undefined)
    throw refuse(target, "it exports no app: expected one as default, or as `app`");
  return app;
}

function isRunnable(value: unknown): value is Runnable {
  return (
    typeof value === "object" &&
    value !== null &&
    typeof (value as { run?: unknown }).run === "function" &&
    typeof (value as { dispatch?: unknown }).dispatch === "function"
  );
}

function refuse(target: string, reason: string): InvalidSettingError {
  return new InvalidSettingError(`target ${target}: ${reason}`, { setting: "target", reason });
}
