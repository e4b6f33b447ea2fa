import { describe, expect, test } from "vitest";
import { stageLine } from "../../../src/cli/stage-lines";
import { LlmError } from "../../../src/errors";

const A = { index: 0, name: "A", bytes: 10, quality: null };
const B = { index: 1, name: "B\n2", bytes: 20, quality: { klNats: 0.5, text: "a text" } };

describe("the line of an event", () => {
  test("names the stage, its bytes and its quality if known", () => {
    expect(stageLine({ type: "stage-ready", stage: A, isLast: false })).toBe('stage-ready stage="A" bytes=10 quality="not measured"');
    expect(stageLine({ type: "stage-ready", stage: B, isLast: true })).toBe(
      'stage-ready stage="B\\n2" bytes=20 quality={"klNats":0.5,"text":"a text"}',
    );
  });

  test("has every figure of an upgrade", () => {
    expect(stageLine({ type: "upgrade-start", stage: A, policy: "blocking" })).toBe('upgrade-start stage="A" policy="blocking"');
    const kept = { carry: "keep", restoredBytes: 0 } as const;
    const report = { boundary: 2, policy: "background", recomputedPositions: 30, rereadPositions: 0, ...kept, upgradeMs: 1.23456 } as const;
    const figures = 'boundary=2 policy="background" recomputedPositions=30 rereadPositions=0 carry="keep" restoredBytes=0 upgradeMs=1.23';
    expect(stageLine({ type: "upgrade-end", stage: A, ...report })).toBe(`upgrade-end stage="A" ${figures}`);
  });

  test("says why an upgrade failed, on one line", () => {
    const failed = (error: unknown) => stageLine({ type: "upgrade-failed", stage: A, error });
    expect(failed(new LlmError("bad-hash", "two\nlines"))).toBe('upgrade-failed stage="A" error="bad-hash: two\\nlines"');
    expect(failed(new Error("plain"))).toBe('upgrade-failed stage="A" error="plain"');
  });

  test("is absent for other events, and for a model that loads whole", () => {
    expect(stageLine({ type: "load-end", loadMs: 1 })).toBeNull();
    expect(stageLine({ type: "stage-ready", stage: A, isLast: true })).toBeNull();
  });
});
