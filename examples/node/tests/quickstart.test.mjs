import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

/** @param {string} path */
const example = (path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));

test("it prints what every language prints", () => {
  const program = example("node/quickstart/main.mjs");

  const said = execFileSync(process.execPath, [program], { cwd: tmpdir(), encoding: "utf8" });

  expect(said).toBe(readFileSync(example("quickstart.txt"), "utf8"));
});
