// Real models from ../shared: ids, texts and prompts compared with transformers, from tokenizer.json and from the GGUF's own vocabulary.
// Qwen2.5's GGUF is not stored there: set QWEN_GGUF to the path of a copy to test it too.
import { beforeAll, describe, expect, test } from "vitest";
import { readGguf } from "../../../src/formats/gguf";
import type { ChatMessage } from "../../../src/tokens/chat-template";
import { Tokenizer } from "../../../src/tokens/tokenizer";
import { hasTestFile, openTestFile, readTestJson } from "../../support/test-files";

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

const MODELS = [
  { folder: "smollm2-135m-instruct", reference: "reference.json", gguf: "SmolLM2-135M-Instruct.Q4_1.gguf", stopIds: [0, 2] },
  { folder: "smollm2-crescendo-64m", reference: "reference-stage-C.json", gguf: "smollm2-crescendo-64m-q4_0.gguf", stopIds: [0, 2] },
  { folder: "qwen2.5-coder-0.5b", reference: "reference.json", gguf: process.env.QWEN_GGUF, stopIds: [151643, 151645] },
];

for (const { folder, reference: referenceFile, gguf, stopIds } of MODELS) {
  const path = (file: string) => (file.includes("/") ? file : `../shared/models/${folder}/${file}`);
  const isThere = await hasTestFile(path(referenceFile));

  describe.skipIf(!isThere)(folder, () => {
    let reference: Reference;
    beforeAll(async () => {
      reference = await readTestJson(path(referenceFile));
    });

    test("tokenizer.json gives the reference's ids and texts", async () => {
      expectReference(await Tokenizer.fromJson({ tokenizer: await readTestJson(path("tokenizer.json")) }), reference);
    });

    describe.skipIf(gguf === undefined)("GGUF", () => {
      let tokenizer: Tokenizer;
      beforeAll(async () => {
        tokenizer = await Tokenizer.fromGguf((await readGguf(await openTestFile(path(gguf ?? "")))).metadata);
      });

      test("the vocabulary gives the reference's ids and texts", () => expectReference(tokenizer, reference));

      test("the chat template gives the reference's prompts", () => {
        for (const { messages, prompt, prompt_ids: ids } of reference.chats) {
          expect(tokenizer.renderChat(messages)).toBe(prompt);
          expect(tokenizer.encode(tokenizer.renderChat(messages), { addSpecialTokens: false })).toEqual(ids);
        }
      });

      test("an answer ends at its stop token, and its text is what transformers decodes", () => {
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
