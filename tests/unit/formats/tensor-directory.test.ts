import { describe, expect, test } from "vitest";
import { LlmError } from "../../../src/errors";
import { directoryOf, requireTensor, type StoredTensor } from "../../../src/formats/tensor-directory";
import { memorySource } from "../../support/memory-source";

const source = memorySource(new Uint8Array(8), { name: "model-00001-of-00002.safetensors" });
const stored = (name: string, type: string, shape: readonly number[]): StoredTensor => ({
  name,
  type,
  shape,
  source,
  range: { start: 0, end: 8 },
});
const directory = directoryOf(
  [stored("head", "F16", [2, 2]), stored("ids", "I64", [1]), stored("norm", "F32", [2]), stored("odd", "toString", [1])],
  { format: "safetensors", name: "model.safetensors.index.json", metadata: new Map() },
);

function failureOf(act: () => unknown): LlmError {
  try {
    act();
  } catch (error) {
    if (error instanceof LlmError) return error;
    throw error;
  }
  throw new Error("it succeeded");
}

test("a directory keeps tensors that we can compute with apart from others, each in file order", () => {
  expect([...directory.tensors.keys()]).toEqual(["head", "norm"]);
  expect([...directory.unsupported.keys()]).toEqual(["ids", "odd"]);
});

describe("a required tensor", () => {
  test("is given when it is there, of any shape unless one is expected", () => {
    expect(requireTensor(directory, "head")).toMatchObject({ name: "head", type: "F16" });
    expect(requireTensor(directory, "head", [2, 2]).shape).toEqual([2, 2]);
  });

  test.each([[[2]], [[2, 2, 1]], [[2, 4]], [[4, 2]], [[]]])("of another shape than %j fails with both shapes and the file", (shape) => {
    const { code, message } = failureOf(() => requireTensor(directory, "head", shape));
    expect(code).toBe("bad-weights");
    expect(message).toBe(`"head" in model-00001-of-00002.safetensors: shape [2, 2], expected [${shape.join(", ")}]`);
  });

  test("that is nowhere fails with the name of what was read", () => {
    const { code, message } = failureOf(() => requireTensor(directory, "bias"));
    expect(code).toBe("bad-weights");
    expect(message).toBe('"bias" in model.safetensors.index.json: missing');
  });

  test("of a type that we cannot compute with fails with its type and those that we can", () => {
    const { code, message } = failureOf(() => requireTensor(directory, "ids"));
    expect(code).toBe("unsupported");
    expect(message).toContain('"ids" in model-00001-of-00002.safetensors: type I64, expected one of F32, F16, BF16, Q8_0');
  });
});
