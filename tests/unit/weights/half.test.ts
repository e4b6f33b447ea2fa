import { describe, expect, test } from "vitest";
import { bfloatValue, halfBits, halfOfBfloat, halfValue, isHalfNonFinite } from "../../../src/weights/half";
import * as reference from "../../support/half";
import { seededRandom } from "../../support/random";

const words = new Uint32Array(1);
const floats = new Float32Array(words.buffer);

function floatOf(bits: number): number {
  words[0] = bits;
  return floats[0] ?? 0;
}

function floatBitsOf(value: number): number {
  floats[0] = value;
  return words[0] ?? 0;
}

describe("halfBits", () => {
  test("returns every finite half and both infinities from their value", () => {
    const wrong = allHalves().filter((bits) => !Number.isNaN(reference.halfValue(bits)) && halfBits(reference.halfValue(bits)) !== bits);
    expect(wrong).toEqual([]);
  });

  test("rounds a value half-way between two halves to the even one, and a float next to it to the nearer one", () => {
    const wrong = allHalves().filter((bits) => {
      if (bits >= 0x7bff) return false;
      const middle = (reference.halfValue(bits) + reference.halfValue(bits + 1)) / 2;
      const below = floatOf(floatBitsOf(middle) - 1);
      const above = floatOf(floatBitsOf(middle) + 1);
      return halfBits(middle) !== bits + (bits % 2) || halfBits(below) !== bits || halfBits(-above) !== (0x8000 | (bits + 1));
    });
    expect(wrong).toEqual([]);
  });

  test("agrees with slow exact arithmetic on floats of every size", () => {
    const random = seededRandom("halves");
    const values = Array.from({ length: 300_000 }, () => floatOf(random.integer(2 ** 32)));
    expect(values.filter((value) => !Number.isNaN(value) && halfBits(value) !== reference.halfBits(value))).toEqual([]);
  });

  test("turns values that round past 65504 into infinity, and NaN into NaN", () => {
    expect(halfBits(65519.99609375)).toBe(0x7bff);
    expect(halfBits(65520)).toBe(0x7c00);
    expect(halfBits(-3e38)).toBe(0xfc00);
    expect(halfBits(Number.NaN) & 0x7fff).toBe(0x7e00);
  });
});

test("a half's value matches its bits", () => {
  expect(allHalves().filter((bits) => !Object.is(halfValue(bits), reference.halfValue(bits)))).toEqual([]);
});

test("every bfloat16 becomes the half nearest to it", () => {
  const wrong = allHalves().filter((bits) => {
    const value = floatOf(bits * 0x10000);
    if (Number.isNaN(value)) return !isHalfNonFinite(halfOfBfloat(bits));
    return !Object.is(bfloatValue(bits), value) || halfOfBfloat(bits) !== reference.halfBits(value);
  });
  expect(wrong).toEqual([]);
});

function allHalves(): number[] {
  return Array.from({ length: 0x10000 }, (_, bits) => bits);
}
