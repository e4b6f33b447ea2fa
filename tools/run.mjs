// Runs a TypeScript tool of this repository on any Node that Vite runs on:  node tools/run.mjs tools/test.ts [arguments]
import { resolve } from "node:path";
import { runnerImport } from "vite";

const [, , tool] = process.argv;
if (!tool) {
  console.error("usage: node tools/run.mjs TOOL.ts [arguments]");
  process.exit(2);
}
process.argv.splice(1, 1);
await runnerImport(resolve(tool), { configFile: false, logLevel: "error" });
