// Which browsers have WebGPU, and what a visitor without it is told: what holds for their own browser and system.

/** What a page knows of the browser that it is in. */
export interface Visitor {
  /** Empty outside browsers. */
  readonly userAgent: string;
  /** Whether the page came over https or from localhost: WebGPU is hidden from others. */
  readonly isSecure: boolean;
  /** An iPad says that it is a Mac, which has no touch screen. */
  readonly touchPoints: number;
}

export function visitorOfPage(): Visitor {
  const { navigator, isSecureContext } = globalThis;
  return {
    userAgent: navigator?.userAgent ?? "",
    isSecure: isSecureContext !== false,
    touchPoints: navigator?.maxTouchPoints ?? 0,
  };
}

type System = "windows" | "mac" | "linux" | "android" | "ios" | "node";
type Browser = "chrome" | "firefox" | "safari" | "other";

function systemOf({ userAgent, touchPoints }: Visitor): System {
  if (/iPhone|iPad|iPod/.test(userAgent)) return "ios";
  if (/Macintosh|Mac OS X/.test(userAgent)) return touchPoints > 1 ? "ios" : "mac";
  if (/Windows/.test(userAgent)) return "windows";
  if (/Android/.test(userAgent)) return "android";
  if (/Linux|CrOS|X11/.test(userAgent)) return /CrOS/.test(userAgent) ? "windows" : "linux"; // ChromeOS has what Windows has
  return "node";
}

function browserOf({ userAgent }: Visitor): { readonly browser: Browser; readonly version: number } {
  const version = (pattern: RegExp) => Number(pattern.exec(userAgent)?.[1] ?? 0);
  if (/Firefox\//.test(userAgent)) return { browser: "firefox", version: version(/Firefox\/(\d+)/) };
  if (/Chrom(?:e|ium)\//.test(userAgent)) return { browser: "chrome", version: version(/Chrom(?:e|ium)\/(\d+)/) };
  if (/Safari\//.test(userAgent)) return { browser: "safari", version: version(/Version\/(\d+)/) };
  return { browser: "other", version: 0 };
}

/** The oldest Chrome that runs our shaders: those before have no `unpack4xI8`. Edge has the same numbers. */
const CHROME = 123;
const SAFARI = 26;
/** Firefox has WebGPU by default on these systems alone, from these versions on. */
const FIREFOX = { windows: 141, mac: 147 } as const;

const CHROME_FLAGS = "chrome://flags/#enable-unsafe-webgpu and chrome://flags/#enable-vulkan";
const FIREFOX_SWITCH = "dom.webgpu.enabled in about:config";

/** For a page whose browser has no `navigator.gpu`. */
export function noWebGpuMessage(visitor: Visitor): string {
  const system = systemOf(visitor);
  if (system === "node")
    return 'There is no WebGPU here. In Node pass `gpu`, for example from the package "webgpu"; in Deno run with --unstable-webgpu.';
  const missing = "This browser has no WebGPU.";
  if (!visitor.isSecure) return `${missing} Browsers hide it from pages that are not secure: open this one over https or from localhost.`;
  return `${missing} ${withWebGpu(system, visitor)}`;
}

/** What to use, or to turn on, on a system. */
function withWebGpu(system: Exclude<System, "node">, visitor: Visitor): string {
  const { browser, version } = browserOf(visitor);
  switch (system) {
    case "ios":
      return "On iPhone and iPad every browser has it from iOS 26 on. Update the system.";
    case "android":
      return `Use Chrome ${CHROME} or later, on Android 12 or later${browser === "firefox" ? "; Firefox for Android has none by default" : ""}.`;
    case "linux":
      if (browser === "firefox")
        return `Firefox on Linux has none by default: turn on ${FIREFOX_SWITCH}, or use Chrome ${CHROME} or later.`;
      if (browser === "chrome" && version >= CHROME) return `On Linux it may have to be turned on: ${CHROME_FLAGS}.`;
      return `Use Chrome ${CHROME} or later.`;
    case "mac":
      if (browser === "firefox" && version >= FIREFOX.mac)
        return `On a Mac with an Intel processor Firefox has none: use Chrome ${CHROME} or later.`;
      return `Use Chrome or Edge ${CHROME} or later, Safari ${SAFARI} or, on Apple silicon, Firefox ${FIREFOX.mac}.`;
    case "windows":
      return `Use Chrome or Edge ${CHROME} or later, or Firefox ${FIREFOX.windows}.`;
    default:
      return system satisfies never;
  }
}

/** For a page whose browser has WebGPU and finds nothing to run it on. */
export function noAdapterMessage(visitor: Visitor): string {
  const system = systemOf(visitor);
  const found = "WebGPU is there but found no graphics adapter.";
  if (system === "node") return `${found} Install a Vulkan driver, or give "webgpu" the backend that this machine has.`;
  const { browser } = browserOf(visitor);
  const usual = "Turn on hardware acceleration in the browser's settings, or update the graphics driver.";
  if (system === "linux" && browser === "chrome") return `${found} ${usual} On Linux it may also have to be turned on: ${CHROME_FLAGS}.`;
  if (system === "android")
    return `${found} It needs Android 12 and a graphics chip that the browser supports. Update the browser and the system.`;
  if (system === "ios") return `${found} Turn off Lockdown Mode for this page, or update the system.`;
  return `${found} ${usual}`;
}
