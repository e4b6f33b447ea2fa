// The soak itself: what it would see, and that one seed is one sequence.
import { describe, expect, test } from "vitest";
import type { ChatMessage } from "../../../src/index";
import { LlmError } from "../../../src/index";
import { describeModel } from "../../../src/repository/model-description";
import { locateModel } from "../../../src/repository/model-files";
import { parsePlanFile } from "../../../src/stages/plan-file";
import {
  alternationFaults,
  type Circumstances,
  errorFaults,
  greedyFaults,
  growthFaults,
  memoryFaults,
  messageSpans,
  transcriptFaults,
} from "../../soak/invariants";
import { chooseOperation, OPERATIONS } from "../../soak/operations";
import { chatContents, choosePhase } from "../../soak/phases";
import { LINK_FAULTS, SoakLink } from "../../soak/soak-link";
import { planFile } from "../../support/stage-plans";
import { GOLDEN_CASES } from "../../support/test-model";

const contents = await chatContents("falcon-new-arch");
const { tokenizer } = await describeModel(new SoakLink("falcon-new-arch", contents).files(), { needsTokenizer: true });
if (!tokenizer) throw new Error("the tiny chat model has a tokenizer");
const decode = (ids: readonly number[]) => tokenizer.decode(ids);

describe("a transcript", () => {
  const messages: ChatMessage[] = [
    { role: "system", content: "Be brief." },
    { role: "user", content: "Tell me of the sea" },
    { role: "assistant", content: "abc <d" },
    { role: "user", content: "And then?\nSo" },
  ];
  const answer = tokenizer.encode("x1 !", { addSpecialTokens: false, continuesText: true });
  const prompt = tokenizer.encode(tokenizer.renderChat(messages, { addGenerationPrompt: true }), { addSpecialTokens: false });
  const ids = [...prompt, ...answer];
  const all = [...messages, { role: "assistant", content: "x1 !" } as const];

  test("is read back from its ids", () => {
    const spans = messageSpans(ids, decode);
    expect(spans.map(({ role, start, end }) => ({ role, content: decode(ids.slice(start, end)) }))).toEqual(all);
    expect(transcriptFaults(ids, all, decode)).toEqual([]);
    expect(transcriptFaults([...ids, 2], all, decode)).toEqual([]);
  });

  test("may end within the last answer's last token, and at no other place", () => {
    expect(transcriptFaults(ids.slice(0, -1), all, decode)).toEqual([]);
    const shortened = all.with(2, { role: "assistant", content: "abc <d!" });
    expect(transcriptFaults(ids, shortened, decode)).toHaveLength(1);
  });

  test("that lost an id, a message or gained one is seen", () => {
    expect(transcriptFaults(ids.toSpliced(12, 1), all, decode)).toHaveLength(1);
    expect(transcriptFaults(prompt, all.slice(1), decode)).toHaveLength(1);
    expect(transcriptFaults(ids, all.slice(0, -2), decode)).toHaveLength(1);
    expect(growthFaults(ids, ids.toSpliced(5, 1))).toHaveLength(1);
    expect(growthFaults(ids, ids.slice(0, -1))).toHaveLength(1);
    expect(growthFaults(prompt, ids)).toEqual([]);
  });

  test("alternates", () => {
    expect(alternationFaults(all)).toEqual([]);
    expect(alternationFaults(all.toSpliced(2, 1))).toHaveLength(1);
  });
});

test("a token is the likeliest but for rounding and for what is forbidden", () => {
  const logits = Float32Array.of(9, 1, 3, 2.9995, Number.NEGATIVE_INFINITY);
  const seen = (token: number) => greedyFaults(logits, token, new Set([0]), 1e-3).length;
  expect([2, 3, 1, 4].map(seen)).toEqual([0, 0, 1, 1]);
});

test("a failure is explained by what happened, and by nothing else", () => {
  const nothing: Circumstances = { signal: null, isGone: false, deviceLost: false, linkCut: false, hasLeft: false, provoked: [] };
  const lost = new LlmError("device-lost", "it is gone");
  const aborted = AbortSignal.abort(new Error("enough"));
  expect(errorFaults(lost, nothing)).toHaveLength(1);
  expect(errorFaults(lost, { ...nothing, deviceLost: true })).toEqual([]);
  expect(errorFaults(new LlmError("disposed", "gone"), { ...nothing, deviceLost: true })).toHaveLength(1);
  expect(errorFaults(aborted.reason, { ...nothing, signal: aborted })).toEqual([]);
  expect(errorFaults(new Error("enough"), { ...nothing, signal: aborted })).toHaveLength(1);
  expect(errorFaults(new LlmError("fetch-failed", "no"), { ...nothing, linkCut: true })).toEqual([]);
});

test("more K/V than without chats is a leak, and scratch within its allowance is none", () => {
  const bare = { weights: 100, kv: 200, scratch: 50, total: 350, bufferCount: 9 };
  const allowance = { kvBytes: 0, scratchBytes: 10, weightBytes: 0 };
  expect(memoryFaults({ ...bare, scratch: 60 }, bare, allowance)).toEqual([]);
  expect(memoryFaults({ ...bare, scratch: 61 }, bare, allowance)).toHaveLength(1);
  expect(memoryFaults({ ...bare, kv: 201 }, bare, allowance)).toHaveLength(1);
});

test("every plan that is drawn is one that a plan's file may hold, and one seed draws one", () => {
  for (let index = 0; index < 200; index++) {
    const phase = choosePhase("7", index, GOLDEN_CASES);
    const { stages } = parsePlanFile(
      planFile(phase.stages),
      { layerCount: 6, vocabSize: 512, requiredRows: [{ start: 0, end: 3 }] },
      "the plan",
    );
    expect(stages.length).toBe(phase.stages.length);
    expect(choosePhase("7", index, GOLDEN_CASES)).toEqual(phase);
  }
});

test("every operation comes, as often as its weight says", () => {
  const counts = new Map<string, number>();
  for (let at = 0; at < 1000; at++) {
    const { name } = chooseOperation(OPERATIONS, at / 1000);
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  expect(counts.size).toBe(OPERATIONS.length);
  const total = OPERATIONS.reduce((sum, { weight }) => sum + weight, 0);
  for (const { name, weight } of OPERATIONS) expect(Math.abs((counts.get(name) ?? 0) - (1000 * weight) / total)).toBeLessThan(2);
});

describe("a link", () => {
  const link = new SoakLink("falcon-new-arch", contents);
  const served = () => locateModel(link.url, { fetch: link.fetch, cache: false });

  test("that is whole serves what the files hold", async () => {
    const [fromServer, own] = await Promise.all([
      describeModel(served(), { needsTokenizer: true }),
      describeModel(link.files(), { needsTokenizer: true }),
    ]);
    expect([...fromServer.directory.tensors.keys()]).toEqual([...own.directory.tensors.keys()]);
  });

  test.each(LINK_FAULTS)("that %s keeps the weights back until it is mended", async (fault) => {
    const weights = await link.files().open("model.safetensors");
    link.cut(fault);
    const range = { start: 0, end: 8 };
    const read = weights?.read(range).then(
      ({ length }) => length,
      (error: unknown) => (error instanceof LlmError ? error.code : error),
    );
    await new Promise((resolve) => setTimeout(resolve, 5));
    link.mend();
    expect(await read).toBe({ fails: "fetch-failed", stalls: 8, "ends early": "bytes-truncated" }[fault]);
    expect((await weights?.read(range))?.length).toBe(8);
  });
});
