// What a person is told when a model's files are not what they should be, before any weight is read.
import { beforeAll, describe, expect, test } from "vitest";
import { type DescribeOptions, describeModel } from "../../../src/repository/model-description";
import { expectLlmError } from "../../support/expect-llm-error";
import { type FileContents, goldenContents, memoryFiles } from "../../support/memory-files";

const PAGE = "\n<!DOCTYPE html><html><body>Welcome</body></html>";

let golden: FileContents;

beforeAll(async () => {
  golden = await goldenContents();
});

function describeFiles(contents: FileContents, options: DescribeOptions = {}) {
  return describeModel(memoryFiles(contents), options);
}

test("a repository is its config, its tensors and, where one is needed, its tokenizer", async () => {
  const { config, directory, tokenizer } = await describeFiles(golden, { needsTokenizer: false });
  expect([config.layerCount, directory.tensors.size > config.layerCount, tokenizer]).toEqual([expect.any(Number), true, null]);
  await expectLlmError(
    describeFiles(golden),
    "bad-tokenizer",
    "test/model has no tokenizer.json",
    "add one beside the weights, or use a GGUF",
  );
});

describe("what is missing is named, with what to do", () => {
  test.each(["config.json", "model.safetensors"])("%s", async (file) => {
    const { [file]: _, ...others } = golden;
    await expectLlmError(
      describeFiles(others, { needsTokenizer: false }),
      "not-found",
      `test/model has no ${file}`,
      '"owner/name/file.gguf"',
    );
  });

  test("a GGUF", async () => {
    await expectLlmError(describeModel(memoryFiles({}, "model.gguf")), "not-found", "test/model has no model.gguf", "Check the names");
  });

  test("a safetensors file that was asked for by name, though an index lies beside it", async () => {
    const files = memoryFiles({ ...golden, "model.safetensors.index.json": "{}" }, "other.safetensors");
    await expectLlmError(describeModel(files, { needsTokenizer: false }), "not-found", "has no other.safetensors", "Check the names");
  });

  test("a shard", async () => {
    const index = JSON.stringify({ weight_map: { "lm_head.weight": "a.safetensors" } });
    const contents = { "config.json": golden["config.json"] ?? "", "model.safetensors.index.json": index };
    await expectLlmError(describeFiles(contents, { needsTokenizer: false }), "not-found", "has no a.safetensors");
  });

  test("of a repository without anything: its weights, not its tokenizer", async () => {
    await expectLlmError(describeFiles({}), "not-found", "no model.safetensors");
  });
});

test("a file that is no JSON is named", async () => {
  await expectLlmError(
    describeFiles({ ...golden, "config.json": "{" }, { needsTokenizer: false }),
    "bad-file",
    "config.json of test/model is no JSON",
  );
  await expectLlmError(describeFiles({ ...golden, "tokenizer.json": "" }), "bad-file", "tokenizer.json of test/model is no JSON");
});

test("a page in place of a file that is not there counts as not there", async () => {
  const pages = { "tokenizer.json": PAGE, "tokenizer_config.json": PAGE, "generation_config.json": PAGE, "chat_template.jinja": PAGE };
  await expectLlmError(describeFiles({ ...golden, ...pages }), "bad-tokenizer", "no tokenizer.json");
  await expectLlmError(describeFiles({ ...golden, "config.json": PAGE }, { needsTokenizer: false }), "not-found", "no config.json");
});

test("a text file is not read that is larger than any such file", async () => {
  const files = memoryFiles(golden);
  const huge = { name: "config.json", size: 2 ** 30, read: () => Promise.reject(new Error("it was read")) };
  const open = async (name: string) => (name === "config.json" ? huge : files.open(name));
  await expectLlmError(
    describeModel({ ...files, open }, { needsTokenizer: false }),
    "bad-file",
    "config.json has 1073741824 bytes",
    "at most",
  );
});
