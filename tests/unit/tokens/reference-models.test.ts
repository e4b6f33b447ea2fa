// Real models: the ids, texts and prompts that transformers makes, from tokenizer.json and from the GGUF's own vocabulary. Qwen2.5's GGUF
// is not in ../shared: put it into models-local, as for tests/engine/real-models.test.ts, to have it read too.
import { beforeAll, describe, expect, test } from "vitest";
import { readGguf } from "../../../src/formats/gguf";
import type { ChatMessage } from "../../../src/tokens/chat-template";
import { Tokenizer } from "../../../src/tokens/tokenizer";
import { needsFiles } from "../../support/needed-files";
import { openTestFile, readTestJson } from "../../support/test-files";

interface Reference {
  readonly tokenizer: readonly { readonly text: string; readonly ids: readonly number[]; readonly decoded: string }[];
  readonly texts: readonly { readonly text: string; readonly ids: readonly number[] }[];
  readonly chats: readonly {
    readonly messages: readonly ChatMessage[];
    readonly prompt: string;
    readonly prompt_ids: readonly number[];
    readonly greedy: readonly number[];
    readonly text: string;
  }[];
}

const EMBEDDED = "public/models/smollm2-crescendo-64m";
const SMOLLM2 = "../shared/models/smollm2-135m-instruct";
const QWEN = "../shared/models/qwen2.5-coder-0.5b";
const MODELS = [
  {
    name: "smollm2-crescendo-64m",
    reference: "tests/references/smollm2-crescendo-64m/reference-stage-C.json",
    tokenizerJson: `${EMBEDDED}/tokenizer.json`,
    gguf: `${EMBEDDED}/smollm2-crescendo-64m-q4_0.gguf`,
    stopIds: [0, 2],
  },
  {
    name: "smollm2-135m-instruct",
    reference: `${SMOLLM2}/reference.json`,
    tokenizerJson: `${SMOLLM2}/tokenizer.json`,
    gguf: `${SMOLLM2}/SmolLM2-135M-Instruct.Q4_1.gguf`,
    stopIds: [0, 2],
  },
  {
    name: "qwen2.5-coder-0.5b",
    reference: `${QWEN}/reference.json`,
    tokenizerJson: `${QWEN}/tokenizer.json`,
    gguf: "models-local/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    stopIds: [151643, 151645],
  },
];

for (const { name, reference: referenceFile, tokenizerJson, gguf, stopIds } of MODELS) {
  const needsGguf = await needsFiles(gguf);

  describe(name, await needsFiles(referenceFile, tokenizerJson), () => {
    let reference: Reference;
    beforeAll(async () => {
      reference = await readTestJson(referenceFile);
    });

    test("tokenizer.json gives the reference's ids and texts", async () => {
      expectReference(await Tokenizer.fromJson({ tokenizer: await readTestJson(tokenizerJson) }), reference);
    });

    describe("GGUF", needsGguf, () => {
      let tokenizer: Tokenizer;
      beforeAll(async () => {
        tokenizer = await Tokenizer.fromGguf((await readGguf(await openTestFile(gguf))).metadata);
      });

      test("the vocabulary gives the reference's ids and texts", () => expectReference(tokenizer, reference));

      test("the chat template writes the reference's prompts", () => {
        for (const { messages, prompt, prompt_ids: ids } of reference.chats) {
          expect(tokenizer.renderChat(messages)).toBe(prompt);
          expect(tokenizer.encode(tokenizer.renderChat(messages), { addSpecialTokens: false })).toEqual(ids);
        }
      });

      test("an answer ends at its stop token, and reads as transformers decodes it", () => {
        expect([...tokenizer.stopIds].sort((a, b) => a - b)).toEqual(stopIds);
        for (const { greedy, text } of reference.chats) {
          expect(tokenizer.decode(greedy)).toBe(text);
          expect(greedy.slice(0, -1).some((id) => tokenizer.stopIds.has(id))).toBe(false);
        }
      });
    });
  });
}

function expectReference(tokenizer: Tokenizer, { tokenizer: strings, texts, chats }: Reference): void {
  for (const { text, ids, decoded } of strings) {
    expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(ids);
    expect(tokenizer.decode(ids, { skipSpecialTokens: false })).toBe(decoded);
  }
  for (const { text, ids } of texts) expect(tokenizer.encode(text)).toEqual(ids);
  for (const { prompt, prompt_ids: ids } of chats) expect(tokenizer.encode(prompt)).toEqual(ids);
}
