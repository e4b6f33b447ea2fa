// Where Chromium is and how it is started, so that WebGPU answers headless: on this machine's GPU, or on SwiftShader.
import { existsSync } from "node:fs";
import { platform } from "node:os";
import { chromium, type LaunchOptions } from "playwright";

export type AdapterKind = "hardware" | "swiftshader";

/** CRESCENDO_ADAPTER decides; without it, hardware where the machine has a GPU that a browser can reach. */
export function adapterKind(): AdapterKind {
  const asked = process.env.CRESCENDO_ADAPTER;
  if (asked === "hardware" || asked === "swiftshader") return asked;
  if (asked) throw new Error(`CRESCENDO_ADAPTER is "${asked}", expected "hardware" or "swiftshader".`);
  if (platform() !== "linux") return "hardware";
  return existsSync("/dev/dri") || existsSync("/dev/nvidia0") ? "hardware" : "swiftshader";
}

const SYSTEM_CHROMIUM = [
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
  "C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe",
];

/** The executable: $CHROMIUM, else one that the system has, else Playwright's own download; null if there is none. */
export function findChromium(): string | null {
  const asked = process.env.CHROMIUM;
  if (asked) return asked;
  return [...SYSTEM_CHROMIUM, chromium.executablePath()].find((path) => existsSync(path)) ?? null;
}

/** Playwright's launch options for a headless Chromium with WebGPU on the given adapter. */
export function chromiumLaunchOptions(kind: AdapterKind = adapterKind()): LaunchOptions {
  const executablePath = findChromium();
  const options: LaunchOptions = { headless: true, ...(executablePath ? { executablePath } : {}) };
  const args = ["--headless=new", "--no-sandbox", "--enable-unsafe-webgpu"];
  if (kind === "swiftshader") return { ...options, args: [...args, "--use-webgpu-adapter=swiftshader"] };
  if (platform() !== "linux") return { ...options, args };
  return {
    ...options,
    // Playwright's own defaults would keep the GPU process on software.
    ignoreDefaultArgs: ["--enable-unsafe-swiftshader", "--disable-gpu"],
    args: [
      ...args,
      "--ignore-gpu-blocklist",
      "--use-angle=vulkan",
      "--enable-features=Vulkan,VulkanFromANGLE,DefaultANGLEVulkan",
      "--use-vulkan=native",
      "--disable-vulkan-surface",
      "--disable-gpu-sandbox",
      // Without the toggle NVIDIA's Vulkan driver is offered without shader-f16.
      "--enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia",
      "--use-webgpu-power-preference=force-high-performance",
    ],
  };
}
