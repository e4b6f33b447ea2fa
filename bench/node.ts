// The same measurements in Node, on Dawn:  npx vite build --mode bench-node && node dist-bench/node.js [speed|upgrade] MODEL.gguf '{"decodeContexts":[128]}'
import { create, globals } from "webgpu";
import { localFiles } from "../src/cli/local-model";
import { measureSpeed, type SpeedOptions } from "./speed";
import { measureUpgrade, type UpgradeBenchOptions } from "./upgrade";

const [question, path, options = "{}"] = process.argv.slice(2);
if (!path || (question !== "speed" && question !== "upgrade"))
  throw new Error("usage: node dist-bench/node.js speed|upgrade MODEL.gguf [OPTIONS]");
Object.assign(globalThis, globals);
const gpu = create(["enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia"]);
const result =
  question === "speed"
    ? await measureSpeed(localFiles(path), { ...(JSON.parse(options) as SpeedOptions), gpu })
    : await measureUpgrade(localFiles(path), { ...(JSON.parse(options) as UpgradeBenchOptions), gpu });
console.log(JSON.stringify({ date: new Date().toISOString(), ...result }, null, 2));
process.exit(0);
