import { expect, test } from "vitest";
import {
  addCounts,
  countOutcomes,
  describeCounts,
  describeSkipped,
  describeSlowest,
  playwrightOutcomes,
  type TestOutcome,
} from "../../../tools/test-results";

const outcome = (name: string, state: TestOutcome["state"], ms = 0, reason?: string): TestOutcome => ({
  suite: "unit",
  file: "a.test.ts",
  name,
  state,
  ms,
  ...(reason ? { reason } : {}),
});

test("the last line counts every outcome and every check", () => {
  const outcomes = [outcome("a", "passed"), outcome("b", "failed"), outcome("c", "skipped"), outcome("d", "passed")];
  const counts = addCounts([{ passed: 1, failed: 0, skipped: 0 }, countOutcomes(outcomes)]);
  expect(describeCounts(counts)).toBe("3 passed, 1 failed, 1 skipped");
});

test("the slowest tests come first, and none that did not run", () => {
  const outcomes = [
    outcome("quick", "passed", 20),
    outcome("slow", "failed", 61_240),
    outcome("skipped", "skipped"),
    outcome("b", "passed", 300),
  ];
  expect(describeSlowest(outcomes, 2)).toEqual(["   61.2 s  unit  a.test.ts > slow", "    0.3 s  unit  a.test.ts > b"]);
});

test("what was skipped is told of by its reason", () => {
  const outcomes = [outcome("a", "skipped", 0, "no file"), outcome("b", "skipped", 0, "no GPU"), outcome("c", "skipped", 0, "no file")];
  expect(describeSkipped([...outcomes, outcome("d", "skipped"), outcome("e", "passed")])).toEqual([
    "    2  no file",
    "    1  no GPU",
    "    1  no reason given",
  ]);
});

test("Playwright's report is read: groups in groups, retries, and why a test was skipped", () => {
  const spec = (
    title: string,
    status: "expected" | "unexpected" | "flaky" | "skipped",
    durations: readonly number[],
    description?: string,
  ) => ({
    title,
    file: "e.test.ts",
    tests: [
      { status, results: durations.map((duration) => ({ duration })), annotations: description ? [{ type: "skip", description }] : [] },
    ],
  });
  const inner = { title: "inner", specs: [spec("three", "flaky", [5, 6]), spec("four", "skipped", [], "no camera")] };
  const group = { title: "group", specs: [spec("two", "unexpected", [7])], suites: [inner] };
  const found = playwrightOutcomes({ suites: [{ title: "e.test.ts", specs: [spec("one", "expected", [3])], suites: [group] }] });
  expect(found.map(({ name, state, ms, reason }) => [name, state, ms, reason])).toEqual([
    ["one", "passed", 3, undefined],
    ["group > two", "failed", 7, undefined],
    ["group > inner > three", "failed", 11, undefined],
    ["group > inner > four", "skipped", 0, "no camera"],
  ]);
});
