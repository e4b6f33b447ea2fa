import { describe, expect, test } from "vitest";
import { type Baseline, compareWithBaseline, updateBaseline, worstBySubject } from "../../support/baseline";

const BASELINE: Baseline = {
  "golden/tiny f32": { allowed: 8e-5, measured: { swiftshader: 2e-5 }, test: "tiny" },
  "rms-norm f16": { allowed: 4e-3, measured: { nvidia: 1e-3 } },
  "rms-norm f32": { allowed: 4e-6, measured: { swiftshader: 1e-6, nvidia: 5e-7 }, test: "norm" },
};
const GOOD_RUN = [
  { subject: "golden/tiny f32", worst: 3e-5, limit: 1e-3 },
  { subject: "rms-norm f32", worst: 4e-6 },
];
const NONE: ReadonlySet<string> = new Set();
const RUN = { adapter: "swiftshader", isWhole: true, ran: new Set(["tiny", "norm"]), skipped: NONE };

describe("compareWithBaseline", () => {
  test("a run within its allowances has no findings, and what only another adapter measured is not missed", () => {
    expect(compareWithBaseline(BASELINE, GOOD_RUN, RUN)).toEqual([]);
  });
  test("an error above the allowance is worse", () => {
    const run = [
      { subject: "golden/tiny f32", worst: 8.1e-5 },
      { subject: "rms-norm f32", worst: Number.MAX_VALUE },
    ];
    expect(compareWithBaseline(BASELINE, run, RUN).map(({ type }) => type)).toEqual(["worse", "worse"]);
  });
  test("a golden case is held to its own limit even where the baseline was edited to allow more", () => {
    const run = [{ subject: "golden/tiny f32", worst: 6e-5, limit: 5e-5 }];
    expect(compareWithBaseline(BASELINE, run, { ...RUN, ran: NONE, isWhole: false })).toMatchObject([{ type: "worse", allowed: 5e-5 }]);
  });
  // A clone without ../shared once failed: 17 subjects were missed whose tests were skipped.
  test("a subject is missed where its test ran without measuring it, in a part of the suite too", () => {
    for (const isWhole of [true, false]) {
      expect(compareWithBaseline(BASELINE, GOOD_RUN.slice(0, 1), { ...RUN, isWhole })).toEqual([
        { type: "missing", subject: "rms-norm f32" },
      ]);
    }
  });
  test("a subject whose test was skipped, or left out of a part of the suite, is not missed", () => {
    const run = GOOD_RUN.slice(0, 1);
    const ran = new Set(["tiny"]);
    expect(compareWithBaseline(BASELINE, run, { ...RUN, ran, skipped: new Set(["norm"]) })).toEqual([]);
    expect(compareWithBaseline(BASELINE, run, { ...RUN, ran, isWhole: false })).toEqual([]);
  });
  test("a subject whose test has another name now, or is gone, is told of in a whole run", () => {
    const findings = compareWithBaseline(BASELINE, GOOD_RUN.slice(0, 1), {
      ...RUN,
      ran: new Set(["tiny"]),
      skipped: new Set(["norm (no file)"]),
    });
    expect(findings).toEqual([{ type: "untested", subject: "rms-norm f32", test: "norm" }]);
  });
  test("a subject without an allowance is a finding", () => {
    expect(compareWithBaseline(BASELINE, [...GOOD_RUN, { subject: "rope f32", worst: 0 }], RUN)).toMatchObject([{ type: "unknown" }]);
  });
});

describe("updateBaseline", () => {
  const updated = updateBaseline(
    BASELINE,
    [
      { subject: "rms-norm f32", worst: 2.04e-6, test: "new name" },
      { subject: "gelu f32", worst: 0 },
    ],
    { adapter: "swiftshader", isWhole: true, skipped: NONE },
  );
  test("allows four times the worst of all adapters, and never less than 1e-6", () => {
    expect(updated["rms-norm f32"]).toEqual({ allowed: 8e-6, measured: { nvidia: 5e-7, swiftshader: 2e-6 }, test: "new name" });
    expect(updated["gelu f32"]?.allowed).toBe(1e-6);
  });
  test("keeps what other adapters measured and drops what none does", () => {
    expect(Object.keys(updated)).toEqual(["gelu f32", "rms-norm f16", "rms-norm f32"]);
    expect(updated["rms-norm f16"]).toEqual(BASELINE["rms-norm f16"]);
  });
  test("keeps what a test that was skipped had measured, and all that a part of the suite leaves out", () => {
    const { "golden/tiny f32": tiny, "rms-norm f32": norm } = BASELINE;
    const skipped = updateBaseline(BASELINE, [], { adapter: "swiftshader", isWhole: true, skipped: new Set(["tiny"]) });
    expect(skipped["golden/tiny f32"]).toEqual(tiny);
    expect(skipped["rms-norm f32"]).toEqual({ ...norm, measured: { nvidia: 5e-7 } });
    expect(updateBaseline(BASELINE, [], { adapter: "swiftshader", isWhole: false, skipped: NONE })).toEqual(BASELINE);
  });
  test("allows no golden case more than its limit", () => {
    const run = [{ subject: "golden/tiny f32", worst: 9e-4, limit: 1e-3 }];
    const { "golden/tiny f32": golden } = updateBaseline({}, run, { adapter: "swiftshader", isWhole: true, skipped: NONE });
    expect(golden?.allowed).toBe(1e-3);
  });
});

test("the worst of a subject's measurements stands for it", () => {
  const run = worstBySubject([1, 3, 2].map((worst) => ({ subject: "a", worst })));
  expect(run).toEqual([{ subject: "a", worst: 3 }]);
});
