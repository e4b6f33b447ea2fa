import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { comparePosition, summarise } from "../../../src/cli/logits-comparison";

const ABSENT = Number.NEGATIVE_INFINITY;
const SIZE = 8;
const values = fc.array(fc.float({ min: -30, max: 30, noNaN: true }), { minLength: SIZE, maxLength: SIZE });
const logits = values.map((list) => Float32Array.from(list));
/** Which tokens are present; at least one. */
const presence = fc.array(fc.boolean(), { minLength: SIZE, maxLength: SIZE }).filter((list) => list.includes(true));

function without(row: Float32Array, present: readonly boolean[]): Float32Array {
  return row.map((value, token) => (present[token] ? value : ABSENT));
}

function chances(row: Float32Array): number[] {
  const highest = Math.max(...row);
  const weights = [...row].map((value) => Math.exp(value - highest));
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return weights.map((weight) => weight / sum);
}

describe("of one position", () => {
  test("KL is Σ p log(p / q) if all tokens are present", () => {
    fc.assert(
      fc.property(logits, logits, (reference, row) => {
        const q = chances(row);
        const expected = chances(reference).reduce((sum, p, token) => sum + (p > 0 ? p * Math.log(p / (q[token] ?? 0)) : 0), 0);
        const { klNats, absentNats } = comparePosition(reference, row);
        expect(klNats).toBeCloseTo(expected, 8);
        expect(absentNats).toBe(0);
      }),
    );
  });

  test("with absent tokens, KL is that of the renormalised reference plus −log of the present probability", () => {
    fc.assert(
      fc.property(logits, logits, presence, (reference, row, present) => {
        const q = chances(without(row, present));
        const p = chances(reference).map((chance, token) => (present[token] ? chance : 0));
        const mass = p.reduce((sum, chance) => sum + chance, 0);
        const kept = p.reduce(
          (sum, chance, token) => sum + (chance > 0 ? (chance / mass) * Math.log(chance / mass / (q[token] ?? 0)) : 0),
          0,
        );
        const { klNats, absentNats } = comparePosition(reference, without(row, present));
        expect(absentNats).toBeCloseTo(-Math.log(mass), 6);
        expect(klNats).toBeCloseTo(kept - Math.log(mass), 6);
      }),
    );
  });

  test("a stage that lacks only rows costs −log of the remaining probability, and no logit differs", () => {
    fc.assert(
      fc.property(logits, presence, (reference, present) => {
        const { klNats, absentNats, largest } = comparePosition(reference, without(reference, present));
        expect(klNats).toBeCloseTo(absentNats, 10);
        expect(largest?.delta).toBe(0);
      }),
    );
  });

  test("tokens that only the reference lacks have no probability there, and cost what this stage gives them", () => {
    const { klNats, absentNats } = comparePosition(Float32Array.of(1, ABSENT), Float32Array.of(1, 1));
    expect(klNats).toBeCloseTo(Math.log(2), 12);
    expect(absentNats).toBe(0);
  });

  test("no token in common is infinitely far, not NaN", () => {
    const { klNats, largest } = comparePosition(Float32Array.of(1, ABSENT), Float32Array.of(ABSENT, 1));
    expect([klNats, largest]).toEqual([Number.POSITIVE_INFINITY, null]);
  });

  test("the largest difference is over tokens that both have, and names the token", () => {
    const reference = Float32Array.of(1, 9, 3, ABSENT, 2);
    expect(comparePosition(reference, Float32Array.of(1.5, ABSENT, 1, 7, 2)).largest).toEqual({ delta: 2, token: 2 });
  });

  test("the reference's first choice counts even if it is absent here", () => {
    expect(comparePosition(Float32Array.of(1, 9, 3), Float32Array.of(1, ABSENT, 3)).isSameFirstChoice).toBe(false);
    expect(comparePosition(Float32Array.of(1, 2, 3), Float32Array.of(0, ABSENT, 3)).isSameFirstChoice).toBe(true);
  });

  test("NaN is reported, wherever it is", () => {
    const { klNats, largest } = comparePosition(Float32Array.of(1, 2, 3), Float32Array.of(9, Number.NaN, 3));
    expect([klNats, largest]).toEqual([Number.NaN, { delta: Number.NaN, token: 1 }]);
  });
});

describe("over positions", () => {
  const rows = [
    [Float32Array.of(0, 0), Float32Array.of(0, 0)],
    [Float32Array.of(2, 0), Float32Array.of(2, ABSENT)],
    [Float32Array.of(0, 1), Float32Array.of(3, 1)],
  ] as const;
  const positions = rows.map(([reference, row]) => comparePosition(reference, row));

  test("KL and first choices are means, and the difference is the largest with its place", () => {
    const summary = summarise(positions);
    expect(summary.klNats).toBeCloseTo(positions.reduce((sum, { klNats }) => sum + klNats, 0) / 3, 12);
    expect(summary.absentNats).toBeCloseTo(Math.log(1 + Math.exp(-2)) / 3, 6);
    expect(summary.sameFirstChoice).toBeCloseTo(2 / 3, 12);
    expect(summary.largest).toEqual({ delta: 3, token: 0, index: 2 });
  });

  test("a NaN is not replaced by a number before or after it", () => {
    const broken = comparePosition(Float32Array.of(Number.NaN, 0), Float32Array.of(0, 0));
    for (const list of [
      [broken, ...positions],
      [...positions, broken],
    ])
      expect(summarise(list).largest?.delta).toBeNaN();
  });
});
