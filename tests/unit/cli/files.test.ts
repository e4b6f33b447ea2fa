import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openFile } from "../../../src/bytes/file-source";
import { readLogits, writeLogitsFile } from "../../../src/cli/logits-file";
import { readPlanFlag } from "../../../src/cli/plan-flag";
import { LlmError } from "../../../src/errors";
import { readSafetensors } from "../../../src/formats/safetensors";
import { writeSafetensors } from "../../../src/formats/safetensors-writer";
import { expectLlmError } from "../../support/expect-llm-error";
import { memorySource } from "../../support/memory-source";
import { readTensorValues } from "../../support/safetensors-values";

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "crescendo-cli-"));
  path = join(folder, "file");
});
afterEach(() => rm(folder, { recursive: true }));

describe("a file of logits", () => {
  const ids = [3, 1];
  const logits = Float32Array.of(1, 2, 3, 4, 5, Number.NEGATIVE_INFINITY, 7, 8);
  const open = async () => readSafetensors(await openFile(path));

  test("returns what was written, including residuals", async () => {
    const hidden = [Float32Array.of(1, 2), Float32Array.of(3, 4)];
    writeLogitsFile(path, { ids, logits, hidden });
    expect(await readLogits(await open(), ids, 4)).toEqual(logits);
    expect(await readTensorValues(await open(), "hidden.1")).toEqual(hidden[1]);
  });

  test("with other ids, more ids or another vocabulary is refused", async () => {
    writeLogitsFile(path, { ids, logits, hidden: [] });
    await expectLlmError(readLogits(await open(), [3, 2], 4), "bad-weights", "id 1 at position 1, expected 2");
    await expectLlmError(readLogits(await open(), [3, 1, 0], 4), "bad-weights", "[2, 4]", "[3, 4]");
    await expectLlmError(readLogits(await open(), ids, 5), "bad-weights", "[2, 4]", "[2, 5]");
  });

  test("of another program can be read: with 64-bit ids, or without ids", async () => {
    const values = { name: "logits", type: "F32", shape: [2, 4], values: logits } as const;
    const wide = { name: "input_ids", type: "I64", shape: [2], values: BigInt64Array.of(3n, 1n) } as const;
    const read = async (...tensors: Parameters<typeof writeSafetensors>[0][]) =>
      readLogits(await readSafetensors(memorySource(writeSafetensors([...tensors].flatMap((each) => [...each])))), ids, 4);
    expect(await read([values, wide])).toEqual(logits);
    expect(await read([values])).toEqual(logits);
    await expectLlmError(read([values, { ...wide, values: BigInt64Array.of(3n, 2n) }]), "bad-weights", "id 2");
    await expectLlmError(read([values, { ...wide, shape: [1], values: BigInt64Array.of(3n) }]), "bad-weights", "[1]", "[2]");
    await expectLlmError(read([{ ...values, type: "F16", values: new Uint16Array(8) }]), "unsupported", "F16");
    await expectLlmError(read([wide]), "bad-weights", "logits");
  });
});

describe("--plan", () => {
  const files = { name: "model", weightsFile: null, open: async (file: string) => memorySource(new TextEncoder().encode(file)) };

  test("auto and whole leave the model's files unchanged, and default hides only its plan", async () => {
    expect(readPlanFlag("auto", files)).toEqual({ files, plan: "auto" });
    expect(readPlanFlag("whole", files)).toEqual({ files, plan: "whole" });
    const { files: hiding, plan } = readPlanFlag("default", files);
    expect(plan).toBe("auto");
    expect(await hiding.open("progressive.json")).toBeNull();
    expect((await hiding.open("config.json"))?.size).toBe("config.json".length);
  });

  test("reads a plan from its file", async () => {
    await writeFile(path, '{"stages": []}');
    expect(readPlanFlag(path, files).plan).toEqual({ stages: [] });
  });

  test.each([
    ["{", "bad-file"],
    ['{"stages": [], "stages": []}', "bad-file"],
    ["3", "bad-file"],
    ["null", "bad-file"],
    ['"whole"', "bad-file"],
  ] as const)("refuses a file that is %s, naming it", async (text, code) => {
    await writeFile(path, text);
    const read = async () => readPlanFlag(path, files);
    await expectLlmError(read(), code, path);
  });

  test("lists the possible values if there is no such file", () => {
    expect(() => readPlanFlag("wohle", files)).toThrow(LlmError);
    expect(() => readPlanFlag("wohle", files)).toThrow(/wohle.*auto, whole, default/);
  });
});
