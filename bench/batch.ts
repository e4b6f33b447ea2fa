// How many tokens a second do several sequences get that decode at the same time? Through the public API, so that engines of any version compare.
import { type Engine, type LoadOptions, loadEngine, type ModelLocation } from "../src/index";
import { testIds } from "./loaded-core";

export interface BatchOptions extends LoadOptions {
  /** How many sequences to start together. */
  readonly sequences?: readonly number[];
  /** Length of each prompt. */
  readonly context?: number;
  /** Tokens that each sequence generates, greedily. */
  readonly newTokens?: number;
  readonly repeats?: number;
}

export interface BatchSpeed {
  readonly sequences: number;
  /** Of all sequences together while they decode: the time that the prompts alone take is subtracted. Median of `runs`. */
  readonly tokensPerSecond: number;
  /** The prompts' time included. Median. */
  readonly withPrefill: number;
  /** `tokensPerSecond` relative to the smallest number of sequences. */
  readonly speedup: number;
  /** How many of the sequences generated exactly the ids that they generate alone. */
  readonly equalToAlone: number;
  /** The first difference of each of the others. */
  readonly differences: readonly { readonly sequence: number; readonly token: number }[];
  readonly runs: readonly number[];
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

/** Results are checked before anything is timed. A difference does not end the run: it stands in the result, beside the speed. */
export async function measureBatch(model: ModelLocation, options: BatchOptions = {}) {
  const { sequences: counts = [1, 2, 4, 8], context = 128, newTokens = 256, repeats = 3, ...load } = options;
  const contextLength = 64 * Math.ceil((context + newTokens + 1) / 64); // whole pages
  const most = Math.max(...counts);
  const memory = { contextLength, poolLength: most * contextLength };
  const fixed = { plan: "whole", prefixCache: false, needsTokenizer: false, tuning: "off" } as const;
  using engine = await loadEngine(model, { ...fixed, ...memory, ...load });
  const prompts = Array.from({ length: most }, (_, sequence) => promptOf(sequence, context, engine.config.vocabSize));
  const alone: (readonly number[])[] = [];
  for (const prompt of prompts) alone.push((await generateTogether(engine, [prompt], newTokens)).ids[0] ?? []);
  const batch: BatchSpeed[] = [];
  for (const sequences of counts) {
    const together = prompts.slice(0, sequences);
    const { ids } = await generateTogether(engine, together, newTokens); // also warms up: drivers compile at the first dispatch
    const differences = ids.flatMap((own, sequence) => differenceOf(own, alone[sequence] ?? [], sequence));
    const times = await timesOf(engine, together, newTokens, repeats);
    const runs = times.map(({ totalMs, prefillMs }) => (1000 * sequences * (newTokens - 1)) / (totalMs - prefillMs));
    const tokensPerSecond = median(runs);
    batch.push({
      ...{ sequences, tokensPerSecond },
      withPrefill: median(times.map(({ totalMs }) => (1000 * sequences * newTokens) / totalMs)),
      speedup: tokensPerSecond / (batch[0]?.tokensPerSecond ?? tokensPerSecond),
      equalToAlone: sequences - differences.length,
      ...{ differences, runs },
    });
  }
  const name = typeof model === "string" ? model : "name" in model ? model.name : String(model);
  return { model: name, adapter: engine.adapterName, context, newTokens, batch };
}

/** Different for each sequence, from its first token on. */
function promptOf(sequence: number, context: number, vocabSize: number): readonly number[] {
  return testIds(context + 7 * sequence, vocabSize).slice(7 * sequence);
}

async function timesOf(engine: Engine, prompts: readonly (readonly number[])[], newTokens: number, repeats: number) {
  const times = [];
  for (let i = 0; i < repeats; i++) {
    const { ms: prefillMs } = await generateTogether(engine, prompts, 1);
    const { ms: totalMs } = await generateTogether(engine, prompts, newTokens);
    times.push({ prefillMs, totalMs });
  }
  return times;
}

/** Starts all sequences in one task. */
async function generateTogether(engine: Engine, prompts: readonly (readonly number[])[], maxTokens: number) {
  const start = performance.now();
  const results = await Promise.all(prompts.map((prompt) => engine.generateIds(prompt, { temperature: 0, maxTokens })));
  return { ms: performance.now() - start, ids: results.map(({ ids }) => ids) };
}

function differenceOf(found: readonly number[], expected: readonly number[], sequence: number): BatchSpeed["differences"] {
  const length = Math.max(found.length, expected.length);
  const token = Array.from({ length }, (_, index) => index).find((index) => found[index] !== expected[index]);
  return token === undefined ? [] : [{ sequence, token }];
}
