// Gives Node the browser's WebGPU, from Dawn (npm `webgpu`), so that the GPU tests run without a browser while one develops.
import { existsSync } from "node:fs";
import { create, globals } from "webgpu";
import { adapterKind } from "./chromium";

const SWIFTSHADER_DRIVER = "/usr/lib/chromium/vk_swiftshader_icd.json";

if (adapterKind() === "swiftshader" && existsSync(SWIFTSHADER_DRIVER)) process.env.VK_ICD_FILENAMES ??= SWIFTSHADER_DRIVER;
process.env.XDG_RUNTIME_DIR ??= "/tmp"; // the Vulkan loader warns without it

Object.assign(globalThis, globals);
const gpu = create(["enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia"]);
// The property also keeps the object referenced: Dawn's process crashes when it is collected.
if (globalThis.navigator) Object.defineProperty(globalThis.navigator, "gpu", { value: gpu });
else Object.defineProperty(globalThis, "navigator", { value: { gpu, userAgent: `Dawn in Node ${process.version}` } });
