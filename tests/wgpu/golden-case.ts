// The golden case that other implementations of WebGPU run, and what they are to give.
import { existsSync } from "node:fs";
import { expect } from "vitest";
import { largestDifference } from "../support/stage-plans";
import { type Golden, readGolden } from "../support/test-model";

export interface GoldenRun {
  readonly adapter: string;
  readonly logits: readonly number[];
  readonly greedy: readonly number[];
  /** What no error scope caught. */
  readonly errors: readonly string[];
  readonly emptySubmits: number;
}

export function readGoldenCase(): Promise<Golden> {
  return readGolden("tests/golden/llama-gqa");
}

export function expectGoldenRun(run: GoldenRun, golden: Golden): void {
  expect(run.errors).toEqual([]);
  expect(largestDifference(Float32Array.from(run.logits), golden.logits)).toBeLessThan(1e-3);
  expect(run.greedy).toEqual(golden.greedy);
}

// Debian's chromium package brings it along; a machine with a GPU needs none.
const DRIVER = "/usr/lib/chromium/vk_swiftshader_icd.json";

/** Where Vulkan's loader finds SwiftShader, for programs that do not bring it. */
export function softwareDriver(): Readonly<Record<string, string>> {
  return existsSync(DRIVER)
    ? { VK_ICD_FILENAMES: DRIVER, VK_DRIVER_FILES: DRIVER, XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR ?? "/tmp" }
    : {};
}
