export * from "./errors.js";
export * from "./message.js";
export * from "./metadata.js";
export * from "./bridge.js";
export * from "./payload.js";
