// The native addon lies beside both builds. CommonJS, so that one source serves `import` and `require`.
const addon: unknown = require("../native/orkestra.node");

export = addon;
