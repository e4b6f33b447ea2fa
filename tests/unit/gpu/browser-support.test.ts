// What a visitor without WebGPU reads holds for their own browser and system.
import { describe, expect, test } from "vitest";
import { noAdapterMessage, noWebGpuMessage, type Visitor } from "../../../src/gpu/browser-support";

const WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64)";
const MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)";
const LINUX = "Mozilla/5.0 (X11; Linux x86_64)";
const ANDROID = "Mozilla/5.0 (Linux; Android 14; Pixel 8)";
const CHROME = (version: number) => `AppleWebKit/537.36 (KHTML, like Gecko) Chrome/${version}.0.0.0 Safari/537.36`;

function visitor(userAgent: string, others: Partial<Visitor> = {}): Visitor {
  return { userAgent, isSecure: true, touchPoints: 0, ...others };
}

describe("without navigator.gpu", () => {
  test.each<[string, Visitor, RegExp, RegExp]>([
    ["an old Chrome on Windows", visitor(`${WINDOWS} ${CHROME(110)}`), /Chrome or Edge 123 or later, or Firefox 141/, /Safari|Linux/],
    ["an old Edge", visitor(`${WINDOWS} ${CHROME(110)} Edg/110.0`), /Chrome or Edge 123/, /Safari/],
    [
      "an old Firefox on Windows",
      visitor(`${WINDOWS.replace(")", "; rv:128.0)")} Gecko/20100101 Firefox/128.0`),
      /Firefox 141/,
      /Safari|147/,
    ],
    [
      "Safari 18",
      visitor(`${MAC} AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15`),
      /Safari 26.*Apple silicon, Firefox 147/,
      /iOS/,
    ],
    [
      "a new Firefox on an Intel Mac",
      visitor(`${MAC.replace(")", "; rv:150.0)")} Gecko/20100101 Firefox/150.0`),
      /Intel.*Chrome 123/,
      /Firefox 1\d\d/,
    ],
    [
      "Firefox on Linux",
      visitor("Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0"),
      /dom\.webgpu\.enabled.*Chrome 123/,
      /14[17]|Safari/,
    ],
    ["a new Chrome on Linux", visitor(`${LINUX} ${CHROME(140)}`), /enable-unsafe-webgpu.*enable-vulkan/, /Firefox|Safari/],
    ["an old Chrome on Linux", visitor(`${LINUX} ${CHROME(110)}`), /Use Chrome 123 or later/, /Firefox|Safari/],
    [
      "Firefox on Android",
      visitor("Mozilla/5.0 (Android 14; Mobile; rv:150.0) Gecko/150.0 Firefox/150.0"),
      /Chrome 123.*Firefox for Android has none/,
      /14[17]|Safari/,
    ],
    ["Chrome on an old Android", visitor(`${ANDROID.replace("14", "10")} ${CHROME(140)}`), /Android 12/, /Firefox|Safari/],
    [
      "an iPhone",
      visitor("Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Version/18.5 Mobile/15E148 Safari/604.1"),
      /iOS 26/,
      /Chrome/,
    ],
    [
      "an iPad that says it is a Mac",
      visitor(`${MAC} AppleWebKit/605.1.15 Version/18.5 Safari/605.1.15`, { touchPoints: 5 }),
      /iOS 26/,
      /Chrome/,
    ],
    ["Chrome on ChromeOS", visitor(`Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) ${CHROME(110)}`), /Chrome or Edge 123/, /flags/],
  ])("%s is told what helps there", (_, who, says, leavesOut) => {
    const message = noWebGpuMessage(who);
    expect(message).toMatch(/^This browser has no WebGPU\. /);
    expect(message).toMatch(says);
    expect(message).not.toMatch(leavesOut);
  });

  test("a page that is not secure is told so, whatever the browser", () => {
    const message = noWebGpuMessage(visitor(`${WINDOWS} ${CHROME(150)}`, { isSecure: false }));
    expect(message).toMatch(/https or from localhost/);
    expect(message).not.toMatch(/Use Chrome/);
  });

  test.each(["", "Node.js/22", "Deno/2.9.6"])("%j is no browser, and is told what to pass", (userAgent) => {
    expect(noWebGpuMessage(visitor(userAgent))).toMatch(/In Node pass `gpu`.*--unstable-webgpu/);
  });
});

describe("without an adapter", () => {
  test.each<[string, string, RegExp]>([
    ["Windows", `${WINDOWS} ${CHROME(140)}`, /hardware acceleration/],
    ["Chrome on Linux", `${LINUX} ${CHROME(140)}`, /hardware acceleration.*enable-vulkan/],
    ["Android", `${ANDROID} ${CHROME(140)}`, /Android 12/],
    ["Node", "Node.js/22", /Vulkan driver/],
  ])("%s is told what helps there", (_, userAgent, says) => {
    expect(noAdapterMessage(visitor(userAgent))).toMatch(/^WebGPU is there but found no graphics adapter\. /);
    expect(noAdapterMessage(visitor(userAgent))).toMatch(says);
  });
});
