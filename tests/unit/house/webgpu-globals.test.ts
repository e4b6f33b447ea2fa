// WebGPU's constants and classes are globals in a browser. In Node they are not: there `GpuOptions.gpu` is all that an application gives.
import { expect, test } from "vitest";
import { BUFFER_USAGE, MAP_MODE, SHADER_STAGE } from "../../../src/gpu/webgpu-flags";
import { readText, repositoryFiles } from "./source-files";

const GLOBAL_VALUES = [
  /\bGPU(?:BufferUsage|MapMode|ShaderStage|TextureUsage|ColorWrite)\b/,
  /\b(?:new|instanceof)\s+GPU\w+/,
  /\bGPU\w+\s*\.\s*\w/,
];

/** Lines of code that take a global of WebGPU for a value; types may be named anywhere. */
function globalValues(text: string): string[] {
  const code = text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/(^|\s)\/\/.*$/gm, "$1");
  return code.split("\n").filter((line) => GLOBAL_VALUES.some((pattern) => pattern.test(line)));
}

test("src uses no global of WebGPU but its types", () => {
  const sources = repositoryFiles("src").filter((path) => path.endsWith(".ts"));
  expect(sources.length).toBeGreaterThan(0);
  expect(sources.flatMap((path) => globalValues(readText(path)).map((line) => `${path}: ${line.trim()}`))).toEqual([]);
});

test("the reader of globals sees values, and neither types nor comments", () => {
  const values = [
    "f(GPUBufferUsage.STORAGE);",
    "const { READ } = GPUMapMode;",
    "if (error instanceof GPUError) f();",
    "new GPUValidationError(text);",
  ];
  expect(values.filter((line) => globalValues(line).length === 0)).toEqual([]);
  expect(globalValues("let usage: GPUBufferUsageFlags; // GPUMapMode.READ\nlet error: GPUError | null;\n/* new GPUError() */")).toEqual([]);
});

test("the flags have the numbers of the specification", () => {
  // The bits in the order of the specification's text.
  expect(BUFFER_USAGE).toEqual({ MAP_READ: 1, MAP_WRITE: 2, COPY_SRC: 4, COPY_DST: 8, STORAGE: 128, QUERY_RESOLVE: 512 });
  expect([MAP_MODE, SHADER_STAGE]).toEqual([{ READ: 1, WRITE: 2 }, { COMPUTE: 4 }]);
});
