import { describe, expect, test } from "vitest";
import { parseEvalFlags } from "../../../src/cli/eval-flags";
import { UsageError } from "../../../src/cli/usage";

const parse = (line: string) => parseEvalFlags(line.split(" "));

describe("eval's flags", () => {
  test("default to the whole model without upgrades", () => {
    const request = parse("--model m --ids i --out o");
    expect(request).toMatchObject({ chunk: 256, hidden: false, stage: null, upgrades: [], against: null, out: "o" });
    expect(request.model.plan).toBe("whole");
    expect(request.input).toEqual({ type: "ids", path: "i" });
  });

  test("default to a blocking upgrade that keeps K/V", () => {
    expect(parse("--text t --plan p --upgrade B@3")).toMatchObject({
      policy: "blocking",
      carry: "keep",
      upgrades: [{ stage: "B", at: 3 }],
    });
    expect(parse("--text t --plan p --upgrade B@3,C@4 --policy background --carry restore")).toMatchObject({
      model: { plan: "p" },
      policy: "background",
      carry: "restore",
    });
  });

  test.each([
    ["--model m", "--ids"],
    ["--ids i", "--out"],
    ["--ids i --text t --out o", "not both"],
    ["--ids i --against a --hidden", "--hidden"],
    ["--text t --stage A --upgrade B@3", "--stage"],
    ["--text t --policy blocking", "--policy requires --upgrade"],
    ["--text t --carry keep", "--carry requires --upgrade"],
    ["--text t --upgrade B@3 --policy fast", "background or blocking or turn-boundary"],
    ["--text t --upgrade B@3 --carry on", "keep or restore or recompute"],
    ["--text t --upgrade B@3,C@4 --policy turn-boundary", "turn-boundary"],
    ["--text t --upgrade B", "STAGE@N"],
    ["--text t --chunk 0", "--chunk is 0"],
    ["--text t --chunk ", "--chunk"],
    ["--text t --stages A", "--stages"],
    ["--text t more", "more"],
  ])("%j is refused with a reason", (line, word) => {
    expect(() => parse(line)).toThrow(UsageError);
    expect(() => parse(line)).toThrow(word);
  });
});
