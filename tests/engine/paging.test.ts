// Where K and V lie, and who else lies there, changes no logit; how a prompt is cut changes none beyond rounding.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { EngineCore } from "../../src/engine/engine-core";
import type { EngineOptions } from "../../src/index";
import type { Sequence } from "../../src/steps/sequence";
import { expectGolden, expectSame } from "../support/expect-close";
import { seededRandom } from "../support/random";
import { continueSequence, generateAfresh, loadTestCore } from "../support/test-core";
import { evaluateAll, type Golden, readGolden } from "../support/test-model";

const CASE = "tests/golden/llama-gqa";
const CHUNKS = [1, 7, 16, 72];
const CHUNKING_LIMIT = 1e-3;

let golden: Golden;
/** Logits by chunk size, computed in one page with nobody else in the pool. */
const alone = new Map<number, Float32Array>();

function load(options: EngineOptions): Promise<EngineCore> {
  // In f16, a last bit may become the 2048th part of a K or V: chunking then changes logits by some 3e-3.
  return loadTestCore(CASE, { contextLength: 128, chunkRows: 72, kvFormat: "f32", ...options });
}

async function withCore(options: EngineOptions, use: (core: EngineCore) => Promise<void>): Promise<void> {
  const core = await load(options);
  try {
    await use(core);
  } finally {
    core.dispose();
  }
}

/** Fills pages with K/V of others, then frees some here and there, so that the next sequence lies in dirty ones in no order. */
async function scatter(core: EngineCore, seed: string): Promise<void> {
  const random = seededRandom(seed);
  const others = await Promise.all(
    Array.from({ length: 6 }, async () => {
      const sequence = core.createSequence();
      sequence.append(random.ids(40 + random.integer(30), core.config.vocabSize));
      await continueSequence(core, sequence, { maxTokens: 1 });
      return sequence;
    }),
  );
  for (const index of random.permutation(others.length).slice(0, 4)) {
    const other = others[index];
    if (other) await core.releaseSequence(other);
  }
}

function longPrompt(length: number): number[] {
  return [...seededRandom("long").ids(length, 512)];
}

function pagesOf({ parts }: Sequence): readonly number[] {
  return parts.flatMap(({ places }) => places);
}

beforeAll(async () => {
  golden = await readGolden(CASE);
  await withCore({ pageSize: 128 }, async (core) => {
    for (const chunk of CHUNKS) alone.set(chunk, (await evaluateAll(core, { ids: golden.ids, chunk })).logits);
  });
});
afterAll(() => alone.clear());

describe("logits", () => {
  test.each([16, 32, 64, 128])("in dirty pages of %i positions, in no order, are those of a single clean page", async (pageSize) => {
    await withCore({ pageSize, poolLength: 768 }, async (core) => {
      await scatter(core, `pages of ${pageSize}`);
      // Row by row, as decode goes, on the smallest pages and on the usual ones: a software adapter takes its time.
      for (const chunk of pageSize === 16 || pageSize === 64 ? CHUNKS : CHUNKS.slice(1)) {
        const { logits } = await evaluateAll(core, { ids: golden.ids, chunk });
        expectSame(logits, alone.get(chunk) ?? []);
      }
    });
  });

  test("of chunks of 1, 7 and 16 rows are those of one chunk but for rounding", () => {
    for (const chunk of CHUNKS) expectGolden("llama-gqa chunking", alone.get(chunk) ?? [], alone.get(72) ?? [], CHUNKING_LIMIT);
  });

  test("past 256 positions, where decode splits its attention, are prefill's but for rounding", async () => {
    const ids = longPrompt(264);
    await withCore({ pageSize: 16, contextLength: 512 }, async (core) => {
      const decoded = await evaluateAll(core, { ids, chunk: 1 });
      const { logits } = await evaluateAll(core, { ids });
      expectGolden("llama-gqa long decode", decoded.logits, logits, CHUNKING_LIMIT);
    });
  });

  test("past 256 positions, where decode splits its attention, draw the same tokens in pages of any size", async () => {
    const drawn: (readonly number[])[] = [];
    for (const pageSize of [16, 64, 128]) {
      await withCore({ pageSize, contextLength: 512, poolLength: 1024 }, async (core) => {
        await scatter(core, "long");
        drawn.push(await generateAfresh(core, longPrompt(250), { temperature: 1.5, seed: 7, maxTokens: 20 }));
      });
    }
    expect(drawn).toEqual(Array(3).fill(drawn[0]));
    expect(new Set(drawn[0]).size).toBeGreaterThan(10);
  });
});

describe("sequences", () => {
  test("that grow in turns, their pages interleaved, go on as each would alone", async () => {
    await withCore({ pageSize: 16, poolLength: 512, chunkRows: 7 }, async (core) => {
      const prompts = [golden.ids, golden.ids.slice(0, 20).reverse(), golden.ids.slice(5, 50)];
      const alone = [];
      for (const prompt of prompts) alone.push(await generateAfresh(core, prompt, { maxTokens: 24 }));
      expect(alone[0]).toEqual(golden.greedy);
      const sequences = prompts.map((prompt) => {
        const sequence = core.createSequence();
        sequence.append(prompt);
        return sequence;
      });
      for (let round = 0; round < 4; round++) {
        await Promise.all(sequences.map((sequence) => continueSequence(core, sequence, { maxTokens: 6 })));
      }
      expect(sequences.map(({ tokens }, index) => tokens.slice(prompts[index]?.length))).toEqual(alone);
      const pages = sequences.flatMap(pagesOf);
      expect(new Set(pages).size).toBe(pages.length);
      // Interleaved indeed: no sequence but the first has its pages in a row.
      expect(sequences.some((sequence) => pagesOf(sequence).some((page, at, all) => at > 0 && page !== (all[at - 1] ?? 0) + 1))).toBe(true);
    });
  });

  test("that outgrow the pool take each other's pages, and still go on as each would alone", async () => {
    await withCore({ pageSize: 16, poolLength: 128 }, async (core) => {
      const prompts = [golden.ids, golden.ids.slice(1), golden.ids.slice(2)];
      const alone = [];
      for (const prompt of prompts) alone.push(await generateAfresh(core, prompt, { maxTokens: 6 }));
      const sequences = prompts.map((prompt) => {
        const sequence = core.createSequence();
        sequence.append(prompt);
        return sequence;
      });
      for (let round = 0; round < 3; round++) {
        for (const sequence of sequences) await continueSequence(core, sequence, { maxTokens: 2 });
        // 72 positions and more are 5 pages of the 8: there is room for one.
        expect(sequences.map(({ cachedLength }) => cachedLength > 0)).toEqual([false, false, true]);
      }
      expect(sequences.map(({ tokens }, index) => tokens.slice(prompts[index]?.length))).toEqual(alone);
    });
  });
});
