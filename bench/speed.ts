// How fast does a model answer here? Decode and prefill in tokens a second, and the load time.
import { type Engine, type LoadOptions, loadEngine, type ModelLocation } from "../src/index";
import { testIds } from "./loaded-core";

export interface SpeedResult {
  readonly model: string;
  readonly adapter: string;
  readonly userAgent: string;
  /** The whole of loadEngine: reading, repacking, upload and compilation. */
  readonly loadMs: number;
  readonly memory: ReturnType<Engine["memory"]>;
  readonly decode: readonly { readonly context: number; readonly tokensPerSecond: number }[];
  readonly prefill: readonly { readonly tokens: number; readonly tokensPerSecond: number; readonly runs: readonly number[] }[];
}

export interface SpeedOptions extends LoadOptions {
  readonly decodeContexts?: readonly number[];
  readonly decodeTokens?: number;
  readonly prefillTokens?: readonly number[];
  readonly repeats?: number;
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

export async function measureSpeed(model: ModelLocation, options: SpeedOptions = {}): Promise<SpeedResult> {
  const { decodeContexts = [128], decodeTokens = 128, prefillTokens = [1024], repeats = 5, ...load } = options;
  const start = performance.now();
  using engine = await loadEngine(model, { plan: "whole", prefixCache: false, needsTokenizer: false, tuning: "off", ...load });
  const loadMs = performance.now() - start;
  const { vocabSize } = engine.config;
  const generate = (tokens: number, maxTokens: number) => engine.generateIds(testIds(tokens, vocabSize), { temperature: 0, maxTokens });
  await generate(128, 16); // warm-up: drivers compile at the first dispatch
  const prefill = [];
  for (const tokens of prefillTokens) {
    const runs: number[] = [];
    for (let i = 0; i < repeats + 1; i++) runs.push((await generate(tokens, 1)).prefillTokensPerSecond);
    prefill.push({ tokens, tokensPerSecond: median(runs.slice(1)), runs });
  }
  const decode = [];
  for (const context of decodeContexts) {
    const runs: number[] = [];
    for (let i = 0; i < repeats; i++) runs.push((await generate(context, decodeTokens + 1)).decodeTokensPerSecond);
    decode.push({ context, tokensPerSecond: median(runs), runs });
  }
  const name = typeof model === "string" ? model : "name" in model ? model.name : String(model);
  return {
    model: name,
    adapter: engine.adapterName,
    userAgent: globalThis.navigator?.userAgent ?? "Node",
    loadMs,
    memory: engine.memory(),
    decode,
    prefill,
  };
}
