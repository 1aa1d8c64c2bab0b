import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const built = (file: string): string =>
  fileURLToPath(new URL(`./bindings-node/dist/esm/${file}`, import.meta.url));

// The tests import `orkestra` as users do, and get what was built.
export default defineConfig({
  resolve: {
    alias: [
      { find: /^orkestra$/, replacement: built("index.js") },
      { find: /^orkestra\/nestjs$/, replacement: built("nestjs.js") },
      { find: /^orkestra\/testing$/, replacement: built("testing.js") },
    ],
  },
  test: {
    include: ["bindings-node/tests/**/*.test.ts", "examples/node/**/*.test.{ts,mjs}"],
    testTimeout: 30_000,
  },
});
