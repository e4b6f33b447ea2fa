// What a Node process of its own needs in its environment to find this machine's adapter: on SwiftShader, where its driver and Vulkan's loader are.
import { existsSync, realpathSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { adapterKind, findChromium } from "./chromium";

const DRIVER = "vk_swiftshader_icd.json";

/** Chromium brings both along. */
export function nodeGpuEnvironment(): Readonly<Record<string, string>> {
  if (adapterKind() !== "swiftshader") return {};
  const executable = findChromium();
  // What lies at the path of a system's Chromium may be a script.
  const folders = ["/usr/lib/chromium", ...(executable ? [dirname(realpathSync(executable))] : [])];
  const folder = folders.find((each) => existsSync(join(each, DRIVER)));
  if (!folder) throw new Error(`No ${DRIVER} in ${folders.join(" or ")}. Set CHROMIUM to a Chromium that brings SwiftShader along.`);
  const { LD_LIBRARY_PATH: before, XDG_RUNTIME_DIR: runtime = "/tmp" } = process.env;
  return {
    VK_ICD_FILENAMES: join(folder, DRIVER),
    LD_LIBRARY_PATH: before ? `${before}${delimiter}${folder}` : folder,
    XDG_RUNTIME_DIR: runtime, // the loader warns without it
  };
}
