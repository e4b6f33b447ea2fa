// The same measurements in Node, on Dawn:
//   npx vite build --mode bench-node && node dist-bench/node.js QUESTION [MODEL.gguf] '{"decodeContexts":[128]}'
import { create, globals } from "webgpu";
import { localFiles } from "../src/cli/local-model";
import { filesOf, question } from "./questions";
import { isSynthetic } from "./synthetic-model";

const [, , name = "", ...rest] = process.argv;
const path = rest.find((argument) => !argument.startsWith("{"));
const options = JSON.parse(rest.find((argument) => argument.startsWith("{")) ?? "{}") as Record<string, unknown>;
Object.assign(globalThis, globals);
const gpu = create(["enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia"]);
const files = path && !isSynthetic(path) ? localFiles(path) : filesOf(path ?? null);
const result = await question(name)(files, { ...options, gpu });
console.log(JSON.stringify({ date: new Date().toISOString(), ...result }, null, 1));
process.exit(0);
