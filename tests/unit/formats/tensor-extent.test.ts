import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { LlmError } from "../../../src/errors";
import { TENSOR_BLOCKS, type TensorType } from "../../../src/formats/tensor-directory";
import { tensorByteLength } from "../../../src/formats/tensor-extent";

const lengthOf = (type: TensorType, shape: readonly number[]) =>
  tensorByteLength({ type, block: TENSOR_BLOCKS[type], shape, where: '"a" in file' });

test.each<[TensorType, number[], number]>([
  ["F32", [], 4],
  ["F32", [2, 3], 24],
  ["BF16", [5], 10],
  ["Q8_0", [2, 64], 136],
  ["Q6_K", [3, 512], 1260],
  ["Q4_0", [0, 32], 0],
  ["F32", [7, 0], 0],
])("%s of %j takes %i bytes", (type, shape, bytes) => {
  expect(lengthOf(type, shape)).toBe(bytes);
});

describe("a shape", () => {
  test.each([[[-2, -3]], [[0.5, 2]], [[Number.NaN]], [[Number.POSITIVE_INFINITY]], [[2 ** 53]], [[2 ** 27, 2 ** 27]], [[0, -1]]])(
    "of %j is refused",
    (shape) => {
      expect(() => lengthOf("F32", shape)).toThrow(LlmError);
    },
  );

  test("whose rows break a block is refused though its elements fill whole blocks", () => {
    expect(() => lengthOf("Q8_0", [2, 16])).toThrow("rows of 16 elements, expected a multiple of 32 for type Q8_0 (shape [2, 16])");
    expect(() => lengthOf("Q8_0", [])).toThrow("rows of 1 elements");
  });

  test("has a length that is exact, as big integers have it, or is refused", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 2 ** 31 }), { maxLength: 4 }), (shape) => {
        const exact = shape.reduce((product, size) => product * BigInt(size), 4n);
        let bytes: number;
        try {
          bytes = lengthOf("F32", shape);
        } catch {
          const largest = shape.filter((size) => size > 0).reduce((product, size) => product * BigInt(size), 4n);
          expect(largest).toBeGreaterThanOrEqual(2n ** 53n);
          return;
        }
        expect(BigInt(bytes)).toBe(exact);
      }),
    );
  });
});
