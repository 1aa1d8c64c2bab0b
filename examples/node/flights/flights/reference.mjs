/** The board computed straight from the CSV, by another tool: awk. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";
import { lines } from "./rows.mjs";

const PROGRAM = fileURLToPath(new URL("../../../flights.awk", import.meta.url));

/**
 * The lines that `Board.lines` must equal, for the first `limit` rows.
 *
 * @param {string} data
 * @param {number | null} [limit]
 */
export async function reference(data, limit = null) {
  const awk = spawn("awk", ["-F,", "-f", PROGRAM], { stdio: ["pipe", "pipe", "inherit"] });
  const ended = once(awk, "close");
  const said = text(awk.stdout);
  await pipeline(Readable.from(withNewlines(data, limit)), awk.stdin);
  const [code] = await ended;
  if (code !== 0) throw new Error(`awk ended with ${code}`);
  return (await said).split("\n").filter(Boolean).sort();
}

/** @param {string} data @param {number | null} limit */
async function* withNewlines(data, limit) {
  let chunk = "";
  for await (const line of lines(data, limit)) {
    chunk += `${line}\n`;
    if (chunk.length < 65_536) continue;
    yield chunk;
    chunk = "";
  }
  yield chunk;
}
