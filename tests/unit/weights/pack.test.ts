import { describe, expect, test } from "vitest";
import { LlmError } from "../../../src/errors";
import type { TensorType } from "../../../src/formats/tensor-directory";
import { rowCodeBytes, rowScaleBytes, type WeightFormat } from "../../../src/weight-format";
import { type PackPart, type PackTask, packMatrix, packVector } from "../../../src/weights/pack";
import { type RowRun, rowsInOrder } from "../../../src/weights/row-runs";
import { halfBits, roundToHalf } from "../../support/half";
import { seededRandom } from "../../support/random";
import { relativeRms, worstOfGroup } from "./compare";
import { unpackMatrix } from "./unpack-matrix";

const FORMATS: readonly WeightFormat[] = ["f32", "f16", "q8", "q4", "q4m"];

function floatPart(values: ArrayLike<number>, runs: readonly RowRun[]): PackPart {
  return { where: '"x" in file', type: "F32", bytes: new Uint8Array(Float32Array.from(values).buffer), runs };
}

function floatTask(format: WeightFormat, rows: number, values: ArrayLike<number>): PackTask {
  return { format, rows, columns: values.length / rows, parts: [floatPart(values, rowsInOrder(rows))] };
}

function halfPart(type: TensorType, bits: readonly number[], runs: readonly RowRun[]): PackPart {
  return { where: '"x" in file', type, bytes: new Uint8Array(Uint16Array.from(bits).buffer), runs };
}

function errorOf(run: () => unknown): LlmError {
  try {
    run();
  } catch (error) {
    if (error instanceof LlmError) return error;
    throw error;
  }
  throw new Error("it succeeded");
}

describe("quantising normally distributed weights", () => {
  const weights = seededRandom("weights").normal([64, 1024], 0.02);
  const packed = (format: WeightFormat) => unpackMatrix(packMatrix(floatTask(format, 64, weights)));

  test.each([
    ["q8", 0.0055],
    ["q4", 0.0825],
    ["q4m", 0.0825],
    ["f16", 0.0003],
  ] as const)("to %s costs a relative error of %f at most", (format, bound) => {
    expect(relativeRms(packed(format), weights)).toBeLessThan(bound);
  });

  test("to q4 has a smaller error than the method of Q4_0", () => {
    const asQ4_0 = weights.slice();
    for (let first = 0; first < weights.length; first += 32) {
      const group = weights.subarray(first, first + 32);
      const extreme = group.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a));
      const scale = roundToHalf(extreme / -8);
      group.forEach((weight, i) => {
        asQ4_0[first + i] = scale * Math.max(-8, Math.min(7, Math.round((weight * -8) / extreme)));
      });
    }
    expect(relativeRms(packed("q4"), weights)).toBeLessThan(0.96 * relativeRms(asQ4_0, weights));
  });

  test("to q8 has an error of at most half a step of the group", () => {
    expect(worstOfGroup(packed("q8"), weights)).toBeLessThan((0.5 / 127) * (1 + 2 ** -9));
  });

  test("to f16 rounds each weight to the nearest half", () => {
    expect([...packed("f16")]).toEqual(Array.from(weights, roundToHalf));
  });
});

describe.each(FORMATS)("%s", (format) => {
  test("has the sizes that its layout states", () => {
    for (const columns of [1, 32, 33, 96, 100]) {
      const { codes, scales } = packMatrix(floatTask(format, 3, new Float32Array(3 * columns)));
      expect([codes.length, scales.length]).toEqual([3 * rowCodeBytes(format, columns), 3 * rowScaleBytes(format, columns)]);
    }
  });

  test("holds groups of zeros, of one value, and of values too small for its scale", () => {
    const values = [0, 0.375, -2, 1e-12, -1e-30].flatMap((value) => new Array<number>(32).fill(value));
    const unpacked = unpackMatrix(packMatrix(floatTask(format, 1, values)));
    // Half a unit of the last place of an 11-bit scale, and half the smallest one, which only codes to 8 or 127 stretch.
    for (const [i, value] of values.entries())
      expect(Math.abs((unpacked[i] ?? 0) - value)).toBeLessThanOrEqual(2 ** -11 * Math.abs(value) + 2 ** -22);
  });

  test("puts the rows of parts of several types where their runs say", () => {
    const zeros: RowRun = { from: 0, to: 1, count: 2, fromStep: 1, toStep: 2 };
    const ones = halfPart("F16", new Array<number>(32).fill(halfBits(1)), [{ from: 0, to: 2, count: 1, fromStep: 1, toStep: 1 }]);
    const twos = halfPart("BF16", new Array<number>(32).fill(0x4000), [{ from: 0, to: 0, count: 1, fromStep: 1, toStep: 1 }]);
    const unpacked = unpackMatrix(
      packMatrix({ format, rows: 4, columns: 32, parts: [floatPart(new Float32Array(64), [zeros]), ones, twos] }),
    );
    const rows = [0, 1, 2, 3].map((row) => unpacked.subarray(row * 32, (row + 1) * 32));
    for (const [row, value] of [2, 0, 1, 0].entries()) {
      for (const weight of rows[row] ?? []) expect(Math.abs(weight - value)).toBeLessThan(value * 0.001 + 1e-9);
    }
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY])("refuses %f and names its place", (value) => {
    if (format === "f32") return; // F32 goes over as it is
    const values = new Float32Array(64);
    values[40] = value;
    const error = errorOf(() => packMatrix(floatTask(format, 2, values)));
    expect([error.code, error.message]).toEqual(["bad-weights", expect.stringMatching(/^"x" in file, row 1: .*finite/)]);
  });
});

test("the error for a weight above 65504 names a remedy that works", () => {
  const large = halfPart("BF16", new Array<number>(32).fill(0x4800), rowsInOrder(1)); // 131072
  const task = { rows: 1, columns: 32, parts: [large] };
  const error = errorOf(() => packMatrix({ ...task, format: "f16" }));
  expect(error.message).toBe(
    '"x" in file, row 0: 131072 is too large for a 16-bit float, which ends at 65504. Load the model with quantise: "q8"',
  );
  expect(unpackMatrix(packMatrix({ ...task, format: "q8" }))[0]).toBe(127 * roundToHalf(131072 / 127));
});

test.each(["Q8_0", "Q4_0", "Q4_1", "Q5_0"] as const)("a %s block whose scale is infinite is refused", (type) => {
  const bytes = new Uint8Array({ Q8_0: 34, Q4_0: 18, Q4_1: 20, Q5_0: 22 }[type]);
  new DataView(bytes.buffer).setUint16(0, 0x7c00, true);
  const format = { Q8_0: "q8", Q4_0: "q4", Q4_1: "q4m", Q5_0: "q8" } as const;
  const part = { where: '"x" in file', type, bytes, runs: rowsInOrder(1) };
  const error = errorOf(() => packMatrix({ format: format[type], rows: 1, columns: 32, parts: [part] }));
  expect(error.message).toBe(`"x" in file, row 0: a block's scale is Infinity`);
});

test("bytes at an odd offset of their buffer pack like any others", () => {
  const values = seededRandom("odd").normal([4, 64]);
  const shifted = new Uint8Array(values.byteLength + 1);
  shifted.set(new Uint8Array(values.buffer), 1);
  for (const format of FORMATS) {
    const part = { ...floatPart([], rowsInOrder(4)), bytes: shifted.subarray(1) };
    expect(packMatrix({ format, rows: 4, columns: 64, parts: [part] })).toEqual(packMatrix(floatTask(format, 4, values)));
  }
});

describe("packVector", () => {
  test("gives floats in the order of the runs, whatever their stored type", () => {
    const bias = halfPart("F16", [1, 2, 3, 4].map(halfBits), [{ from: 0, to: 1, count: 2, fromStep: 2, toStep: 2 }]);
    const rest = floatPart([7, 8], [{ from: 0, to: 0, count: 2, fromStep: 1, toStep: 2 }]);
    expect([...packVector(4, [bias, rest])]).toEqual([7, 1, 8, 3]);
  });

  test("refuses values that are not finite", () => {
    const error = errorOf(() => packVector(2, [floatPart([1, Number.NaN], rowsInOrder(2))]));
    expect([error.code, error.message]).toEqual(["bad-weights", '"x" in file, element 1: NaN is not a finite number']);
  });
});
