/**
 * The files of an app's own stores, which nothing else may open.
 *
 * @packageDocumentation
 */
import { statSync } from "node:fs";
import { StoreFileError } from "../errors.js";
import type { Steps } from "./link.js";

/**
 * Refuses a SQLite connection on one of these files: two SQLite libraries in one process do not exclude each other and destroy data.
 *
 * @throws {StoreFileError} if the connection has one of them open.
 */
export function* refuseStoreFile(storeFiles: readonly string[]): Steps<void> {
  if (storeFiles.length === 0) return;
  for (const [, , path] of yield { sql: "PRAGMA database_list", parameters: [] }) {
    if (typeof path !== "string" || path === "") continue;
    if (storeFiles.some((own) => isSame(path, own))) {
      throw new StoreFileError(`${path}: expected another file than the store's own`, { path });
    }
  }
}

function isSame(one: string, other: string): boolean {
  try {
    const [a, b] = [statSync(one), statSync(other)];
    return a.dev === b.dev && a.ino === b.ino;
  } catch {
    return false;
  }
}
