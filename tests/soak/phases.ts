// What a part of a soak runs on: a family's tiny model, the stages it comes in and how its engine shares out memory. All from the seed.
import type { LoadOptions } from "../../src/index";
import { type FileContents, goldenContents } from "../support/memory-files";
import { type Random, seededRandom } from "../support/random";
import type { StageContents } from "../support/stage-plans";
import { GOLDEN_CASES } from "../support/test-model";
import { END_ID, tinyChatFiles } from "../support/tiny-chat-model";

export type Family = (typeof GOLDEN_CASES)[number];

/** Every golden case has as many. */
const LAYER_COUNT = 6;
const VOCAB_SIZE = 512;

export interface Phase {
  readonly family: Family;
  readonly stages: readonly StageContents[];
  readonly options: LoadOptions;
  /** The files come from a server instead of the application's own `ModelFiles`. */
  readonly isServed: boolean;
}

export function choosePhase(seed: string, index: number, families: readonly Family[]): Phase {
  const random = seededRandom(`${seed} phase ${index}`);
  const family = families[random.integer(families.length)] ?? GOLDEN_CASES[0];
  const options: LoadOptions = {
    contextLength: 256,
    // The smaller one has room for few of twelve chats: they evict one another's pages.
    poolLength: pick(random, [512, 2048]),
    pageSize: 16,
    chunkRows: 72,
    // Rounded K/V would make near-ties of tokens that are none.
    kvFormat: "f32",
    stepsAhead: pick(random, [1, 4]),
    prefixCache: pick(random, [true, false]),
    upgradePolicy: pick(random, ["background", "turn-boundary", "blocking"]),
  };
  return { family, stages: chooseStages(random), options, isServed: random.next() < 0.3 };
}

/** One to four stages that add layers, rows or both; the last is the whole model. */
export function chooseStages(random: Random): readonly StageContents[] {
  const stageCount = 2 + random.integer(3);
  const order = [...random.permutation(LAYER_COUNT)];
  const layerCounts = risingCounts(random, stageCount, 2, LAYER_COUNT);
  const rowCounts = random.next() < 0.4 ? risingCounts(random, stageCount, 200, VOCAB_SIZE) : null;
  return layerCounts.map((count, stage) => ({
    layers: order.slice(0, count).sort((a, b) => a - b),
    ...(rowCounts && { rows: rowCounts[stage] ?? VOCAB_SIZE }),
  }));
}

/** A family's files with the tiny chat model's tokenizer and template. */
export async function chatContents(family: Family): Promise<FileContents> {
  const chat = await tinyChatFiles();
  const [contents, tokenizer, tokenizerConfig] = await Promise.all([
    goldenContents(family),
    readAll(chat, "tokenizer.json"),
    readAll(chat, "tokenizer_config.json"),
  ]);
  const config = JSON.parse(new TextDecoder().decode(contents["config.json"]));
  return {
    ...contents,
    // Some families end at an id that is a letter of this tokenizer.
    "config.json": JSON.stringify({ ...config, bos_token_id: null, eos_token_id: END_ID }),
    "tokenizer.json": tokenizer,
    "tokenizer_config.json": tokenizerConfig,
  };
}

export function pick<T>(random: Random, values: readonly [T, ...T[]]): T {
  return values[random.integer(values.length)] ?? values[0];
}

/** So many different whole numbers from `low` on, rising; the last is `high`. */
function risingCounts(random: Random, count: number, low: number, high: number): number[] {
  const rest = [...random.permutation(high - low)].slice(0, count - 1).map((value) => low + value);
  return [...rest.sort((a, b) => a - b), high];
}

async function readAll(files: Awaited<ReturnType<typeof tinyChatFiles>>, name: string): Promise<Uint8Array> {
  const source = await files.open(name);
  if (!source) throw new Error(`the tiny chat model has no ${name}`);
  return source.read({ start: 0, end: source.size });
}
