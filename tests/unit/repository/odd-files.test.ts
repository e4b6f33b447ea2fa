// Odd files that people have met: whole GGUFs, each with one thing that its converter did otherwise, and repositories with a setting in another home.
import { describe, expect, test } from "vitest";
import { type DescribeOptions, type DescriptionEvent, describeModel } from "../../../src/repository/model-description";
import { type FileContents, goldenContents, memoryFiles } from "../../support/memory-files";
import { needsFiles } from "../../support/needed-files";
import { readTestFile } from "../../support/test-files";
import { bytePairJson } from "../tokens/golden-tokens";

const FIELD = "../shared/faults/field";
const TEXT = "He said: 12\n";

async function describeGguf(path: string, beside: FileContents = {}, options: DescribeOptions = {}) {
  const events: DescriptionEvent[] = [];
  const files = memoryFiles({ "model.gguf": await readTestFile(`${FIELD}/${path}`), ...beside }, "model.gguf");
  const { tokenizer } = await describeModel(files, { ...options, onEvent: (event) => events.push(event) });
  if (!tokenizer) throw new Error("no tokenizer");
  return { tokenizer, doubts: events.flatMap((event) => (event.type === "tokenizer-doubt" ? event.key : [])) };
}

const CASES: readonly [string, string[]][] = [
  ["00-plain/plain.gguf", []],
  ["01-end-token-not-control/user-defined.gguf", []],
  ["02-eos-id-out-of-range/eos-50279.gguf", ["tokenizer.ggml.eos_token_id"]],
  ["03-no-pre-tokenizer-key/no-pre.gguf", ["tokenizer.ggml.pre"]],
  ["04-not-utf8-in-unread-key/latin1-path.gguf", []],
  ["05-optional-vocabulary-parts/no-token-type.gguf", ["tokenizer.ggml.token_type"]],
  ["05-optional-vocabulary-parts/two-empty-tokens.gguf", []],
  ["06-template-does-not-parse/bad-template.gguf", ["tokenizer.chat_template"]],
];
for (const [path, expected] of CASES)
  test(`a GGUF loads: ${path}`, await needsFiles(`${FIELD}/${path}`), async () => {
    const { tokenizer, doubts } = await describeGguf(path);
    expect([doubts, tokenizer.decode(tokenizer.encode(TEXT)), tokenizer.stopIds.has(2)]).toEqual([expected, TEXT, true]);
  });

const needsNoPre = await needsFiles(`${FIELD}/03-no-pre-tokenizer-key/no-pre.gguf`);
const needsPlain = await needsFiles(`${FIELD}/00-plain/plain.gguf`);
const needsBadTemplate = await needsFiles(`${FIELD}/06-template-does-not-parse/bad-template.gguf`);

describe("a tokenizer.json beside a GGUF", () => {
  const beside = { "tokenizer.json": JSON.stringify(bytePairJson()), "tokenizer_config.json": "{}" };

  test("is used where the file does not say how text is split", needsNoPre, async () => {
    const { tokenizer, doubts } = await describeGguf("03-no-pre-tokenizer-key/no-pre.gguf", beside);
    expect(doubts).toEqual(["the GGUF's tokenizer"]);
    expect([tokenizer.vocabSize > 288, tokenizer.stopIds.has(2)]).toEqual([true, true]);
  });

  test("is not read where the file's own is whole", needsPlain, async () => {
    const { tokenizer, doubts } = await describeGguf("00-plain/plain.gguf", { "tokenizer.json": "broken" });
    expect([doubts, tokenizer.vocabSize]).toEqual([[], 288]);
  });
});

test("a template of the caller's takes the place of one that does not parse", needsBadTemplate, async () => {
  const { tokenizer } = await describeGguf(
    "06-template-does-not-parse/bad-template.gguf",
    {},
    { chatTemplate: "{{ messages[0].content }}" },
  );
  expect(tokenizer.renderChat([{ role: "user", content: "Hi" }])).toBe("Hi");
});

test("an eos_token_id that stands in config.json alone, or in special_tokens_map.json alone, ends answers", async () => {
  const golden = await goldenContents();
  const config = JSON.parse(new TextDecoder().decode(golden["config.json"]));
  const stopsOf = async (contents: FileContents) => {
    const { tokenizer } = await describeModel(memoryFiles({ ...golden, "tokenizer.json": JSON.stringify(bytePairJson()), ...contents }));
    return [...(tokenizer?.stopIds ?? [])];
  };
  expect(await stopsOf({ "config.json": JSON.stringify({ ...config, eos_token_id: 77 }) })).toContain(77);
  expect(await stopsOf({ "config.json": JSON.stringify({ ...config, eos_token_id: [78, 79] }) })).toEqual(expect.arrayContaining([78, 79]));
  const map = { "special_tokens_map.json": JSON.stringify({ eos_token: "<tool_call>" }) };
  const id = (bytePairJson() as { added_tokens: { id: number; content: string }[] }).added_tokens.find(
    ({ content }) => content === "<tool_call>",
  )?.id;
  expect(await stopsOf(map)).toContain(id);
});
