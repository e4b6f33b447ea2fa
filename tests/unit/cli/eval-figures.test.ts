import { describe, expect, test } from "vitest";
import { EvalFigures } from "../../../src/cli/eval-figures";
import { NegativeLogLikelihood } from "../../../src/cli/negative-log-likelihood";

const ABSENT = Number.NEGATIVE_INFINITY;
const ids = [0, 1, 2, 0];
// Four positions with three tokens each.
const reference = Float32Array.of(0, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0);

describe("the likelihood of a text", () => {
  test("omits ids that a stage cannot produce, and counts them", () => {
    const nll = new NegativeLogLikelihood(ids, 3);
    nll.add(0, Float32Array.of(0, 0, ABSENT));
    nll.add(1, Float32Array.of(0, 0, ABSENT, 0, 0, ABSENT, 0, 0, ABSENT));
    expect(nll.mean).toBeCloseTo(Math.log(2), 12);
    expect(nll.absentCount).toBe(1);
  });
});

describe("the figures of an evaluation", () => {
  const figuresOf = (...parts: readonly (readonly [stage: string, firstRow: number, rows: readonly number[]])[]) => {
    const figures = new EvalFigures({ ids, vocabSize: 3, isText: true, reference });
    for (const [stage, firstRow, rows] of parts) figures.add(stage, firstRow, Float32Array.from(rows));
    return figures;
  };
  const zeros = (rows: number) => Array<number>(3 * rows).fill(0);

  test("of one stage are one line, whatever the number of chunks", () => {
    const whole = figuresOf(["whole", 0, [...reference]]);
    const chunked = figuresOf(["whole", 0, [...reference.subarray(0, 3)]], ["whole", 1, [...reference.subarray(3)]]);
    expect(whole.nllLines()).toEqual(["tokens 4, mean NLL 0.55144, perplexity 1.7358"]);
    expect(whole.comparisonLines("f")).toEqual([
      "against f: KL 0 nats a token, same first choice 100.00 %, largest |Δlogit| 0 (position 0, token 0)",
    ]);
    expect(chunked.nllLines()).toEqual(whole.nllLines());
    expect(chunked.comparisonLines("f")).toEqual(whole.comparisonLines("f"));
  });

  test("of several stages are one line each, over that stage's positions", () => {
    const figures = figuresOf(["A", 0, zeros(1)], ["A", 1, zeros(1)], ["B", 2, [...reference.subarray(6)]]);
    expect(figures.nllLines()).toEqual([
      "stage A at positions 0 to 1, mean NLL 1.09861, perplexity 3.0000",
      "stage B at positions 2 to 3, mean NLL 0.55144, perplexity 1.7358",
    ]);
    const [first, second] = figures.comparisonLines("f");
    expect(first).toMatch(/^against f, stage A at positions 0 to 1: KL 0\.\d+ .*largest \|Δlogit\| 1\.000 \(position 0, token 1\)$/);
    expect(second).toMatch(/^against f, stage B at positions 2 to 3: KL 0 .*100\.00 %, largest \|Δlogit\| 0 \(position 2, token 0\)$/);
  });

  test("include the cost of absent tokens", () => {
    const figures = figuresOf(["A", 0, [0, ABSENT, 0, 0, ABSENT, 0, 0, ABSENT, 0, 0, ABSENT, 0]]);
    expect(figures.nllLines()).toEqual(["tokens 4, mean NLL 0.69315, perplexity 2.0000, absent and left out: 1"]);
    expect(figures.comparisonLines("f")[0]).toMatch(/KL 0\.\d+ nats a token \(absent tokens 0\.\d+\), same first choice 50\.00 %/);
  });
});
