// Compares every tensor type with gguf-py's result in ../shared: random codes, scales from the smallest to the largest.
import { beforeAll, describe, expect, test } from "vitest";
import { readGguf } from "../../../src/formats/gguf";
import { readSafetensors } from "../../../src/formats/safetensors";
import { requireTensor, TENSOR_BLOCKS, type TensorDirectory, type TensorType } from "../../../src/formats/tensor-directory";
import type { WeightFormat } from "../../../src/weight-format";
import { DECODERS } from "../../../src/weights/dequantise";
import { packMatrix } from "../../../src/weights/pack";
import { rowsInOrder } from "../../../src/weights/row-runs";
import { expectLlmError } from "../../support/expect-llm-error";
import { needsFiles } from "../../support/needed-files";
import { readTensorValues } from "../../support/safetensors-values";
import { openTestFile } from "../../support/test-files";
import { mismatchCount, worstOfGroup } from "./compare";
import { unpackMatrix } from "./unpack-matrix";

const FOLDER = "../shared/golden/gguf-types";
const ROWS = 3;
const COLUMNS = 512;
const TYPES = Object.keys(TENSOR_BLOCKS) as TensorType[];

describe("gguf-types", await needsFiles(`${FOLDER}/types.gguf`, `${FOLDER}/expected.safetensors`), () => {
  let stored: TensorDirectory;
  let expected: TensorDirectory;

  beforeAll(async () => {
    stored = await readGguf(await openTestFile(`${FOLDER}/types.gguf`));
    expected = await readSafetensors(await openTestFile(`${FOLDER}/expected.safetensors`));
  });

  async function bytesOf(type: TensorType) {
    const { source, range } = requireTensor(stored, type, [ROWS, COLUMNS]);
    return source.read(range);
  }

  async function packed(type: TensorType, format: WeightFormat) {
    const part = { where: type, type, bytes: await bytesOf(type), runs: rowsInOrder(ROWS) };
    return unpackMatrix(packMatrix({ format, rows: ROWS, columns: COLUMNS, parts: [part] }));
  }

  test.each(TYPES)("%s decodes to exactly the floats of gguf-py", async (type) => {
    const bytes = await bytesOf(type);
    const values = new Float32Array(ROWS * COLUMNS);
    DECODERS[type](new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0, values, values.length);
    expect(mismatchCount(values, await readTensorValues(expected, type))).toBe(0);
  });

  test.each([
    ["F32", "f32"],
    ["F16", "f16"],
    ["Q8_0", "q8"],
    ["Q4_0", "q4"],
    ["Q4_0", "q4m"],
    ["Q4_0", "q8"],
    ["Q4_1", "q4m"],
    ["Q5_0", "q8"],
  ] as const)("%s becomes %s without any error", async (type, format) => {
    expect(mismatchCount(await packed(type, format), await readTensorValues(expected, type))).toBe(0);
  });

  // Half a step of the code, plus the rounding of the scale to a half. Scales below 2^-14 are coarser: half a step is 2^-25 there.
  test.each(["Q4_1", "Q5_1", "Q4_K", "Q5_K", "Q6_K"] as const)(
    "%s becomes q8 within half of 1/127 of a group's largest weight",
    async (type) => {
      const values = await packed(type, "q8");
      expect(worstOfGroup(values, await readTensorValues(expected, type), 2 ** -25)).toBeLessThan((0.5 / 127) * (1 + 2 ** -9));
    },
  );

  test("Q4_K becomes q4m within the rounding of its scale and minimum to halves", async () => {
    const values = await packed("Q4_K", "q4m");
    const exact = await readTensorValues(expected, "Q4_K");
    expect(mismatchCount(values, exact)).toBeGreaterThan(0);
    // 2^-11 of a group's range and minimum, which are at most 3 times its largest weight; 16 · 2^-25 where they are below 2^-14.
    expect(worstOfGroup(values, exact, 2 ** -21)).toBeLessThan(3 * 2 ** -11);
  });

  test.each([
    ["F32", "f16"],
    ["BF16", "f16"],
    ["F32", "q8"],
  ] as const)("%s with values to 3e38 is refused as %s", async (type, format) => {
    await expectLlmError(packed(type, format), "bad-weights", type, "row ", "too large for a 16-bit float");
  });
});
