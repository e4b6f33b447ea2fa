// Which weights computed something, and how its ids stand for text: what K/V, snapshots and prefixes that are kept are worth later.
import type { ByteSource } from "../bytes/byte-source";
import { Murmur3 } from "../bytes/murmur3";
import type { TensorDirectory } from "../formats/tensor-directory";
import { TimeSlice } from "../time-slice";
import type { ModelConfig } from "../weights/model-config";
import type { RecipeOptions } from "../weights/model-weights";

export interface ModelIdentity {
  /** Equal strings mean equal weights in equal layouts, and so equal K/V. */
  readonly weights: string;
  /** Equal strings mean that ids stand for the same text; null without a tokenizer. */
  readonly tokenizer: string | null;
  /** False where a source tells no version: `weights` is then random, and nothing is restored from it elsewhere. */
  readonly isStable: boolean;
}

/** Nothing tells these files' states apart (no ETag, date or hash): K/V computed with them is worth nothing to another load. */
export interface IdentityEvent {
  readonly type: "identity-unknown";
  readonly sources: readonly string[];
}

// Raise it when packing changes what a stored weight becomes: K/V of an earlier release is then computed anew.
const LAYOUT_VERSION = 1;
const ROUNDS_BETWEEN_LOOKS = 512; // at the clock, which costs as much as a round

export interface WeightsFacts {
  readonly config: ModelConfig;
  readonly directory: TensorDirectory;
  /** What is done to the files' values on the way to the GPU. */
  readonly changes: RecipeOptions;
}

/** The identity of the weights, with the sources that tell no version. `random` names what cannot be recognised. */
export function weightsIdentity(
  { config, directory, changes }: WeightsFacts,
  random: () => string = randomName,
): { readonly weights: string; readonly unknownSources: readonly string[] } {
  const sources = sourcesOf(directory);
  const unknownSources = sources.filter(isUnknown).map(({ name }) => name);
  if (unknownSources.length > 0) return { weights: `random-${random()}`, unknownSources };
  const hash = new Murmur3();
  for (const text of sources.map(stateOf).sort()) hash.text(text);
  addJson(hash, { LAYOUT_VERSION, format: directory.format, quantise: changes.quantise ?? null, config });
  return { weights: hash.digest(), unknownSources };
}

/** Every file that holds a tensor, once. */
function sourcesOf({ tensors }: TensorDirectory): readonly ByteSource[] {
  return [...new Set([...tensors.values()].map(({ source }) => source))];
}

function isUnknown({ version, contentHash }: ByteSource): boolean {
  return version === undefined && contentHash === undefined;
}

/** A hash names the bytes wherever they lie. A version tells states of one file apart, and says nothing of another file. */
function stateOf({ name, size, version, contentHash }: ByteSource): string {
  return contentHash === undefined ? JSON.stringify(["version", name, size, version]) : JSON.stringify(["hash", size, contentHash]);
}

function randomName(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** What of a tokenizer says how ids stand for its text. */
export interface TokenSpellings {
  readonly vocabSize: number;
  tokenSpelling(id: number): string | undefined;
}

/**
 * The identity of a tokenizer that was made from the values of a tokenizer.json. The page runs between slices of the work.
 *
 * @throws the signal's reason when aborted.
 */
export async function jsonTokenizerIdentity(json: unknown, tokens: TokenSpellings, signal?: AbortSignal): Promise<string> {
  const hash = new Murmur3().text("tokenizer.json");
  const slice = new TimeSlice(signal);
  // By id: the order of an object's keys says nothing.
  const absent: number[] = [];
  for (let id = 0; id < tokens.vocabSize; id++) {
    if (id % ROUNDS_BETWEEN_LOOKS === 0 && slice.isOver) await slice.next();
    const token = tokens.tokenSpelling(id);
    if (token === undefined) absent.push(id);
    hash.text(token ?? "");
  }
  const { model, added_tokens, normalizer, pre_tokenizer, post_processor, decoder } = recordOf(json);
  const { merges, vocab: _, ...modelOptions } = recordOf(model);
  for (const [rank, merge] of (Array.isArray(merges) ? merges : []).entries()) {
    if (rank % ROUNDS_BETWEEN_LOOKS === 0 && slice.isOver) await slice.next();
    addMerge(hash, merge);
  }
  addJson(hash, { absent, modelOptions, added_tokens, normalizer, pre_tokenizer, post_processor, decoder });
  return hash.digest();
}

/** "a b" and ["a", "b"] are one merge, written in two ways. */
function addMerge(hash: Murmur3, merge: unknown): void {
  if (!Array.isArray(merge)) hash.text(String(merge));
  else if (merge.some((part) => String(part).includes(" "))) for (const part of merge) hash.text(`part ${part}`);
  else hash.text(merge.join(" "));
}

const GGUF_VOCABULARY = "tokenizer.ggml."; // beside it lie chat templates, which change no token, and copies of a tokenizer.json

/** The identity of the vocabulary that a GGUF's metadata hold. @throws the signal's reason when aborted. */
export async function ggufTokenizerIdentity(metadata: TensorDirectory["metadata"], signal?: AbortSignal): Promise<string> {
  const hash = new Murmur3().text("GGUF");
  const slice = new TimeSlice(signal);
  const keys = [...metadata.keys()].filter((key) => key.startsWith(GGUF_VOCABULARY));
  for (const key of keys.sort()) {
    const value = metadata.get(key);
    hash.text(key);
    if (value instanceof Float64Array) {
      hash.text(`numbers, ${value.length}`).bytes(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
    } else if (Array.isArray(value)) {
      hash.text(`list, ${value.length}`);
      for (let at = 0; at < value.length; at++) {
        if (at % ROUNDS_BETWEEN_LOOKS === 0 && slice.isOver) await slice.next();
        hash.text(String(value[at]));
      }
    } else hash.text(`${typeof value} ${value}`);
    if (slice.isOver) await slice.next();
  }
  return hash.digest();
}

/**
 * Adds a JSON value, whatever the order of its objects' keys. A key without a value counts as none. A value nested deeply must not end in
 * a full stack, so that what is left to add stands in a list.
 */
function addJson(hash: Murmur3, json: unknown): void {
  const left: unknown[] = [json];
  while (left.length > 0) {
    const value = left.pop();
    if (Array.isArray(value)) {
      hash.text(`list of ${value.length}`);
      for (let at = value.length - 1; at >= 0; at--) left.push(value[at]);
    } else if (typeof value === "object" && value !== null) {
      const record = recordOf(value);
      const keys = Object.keys(record).filter((key) => record[key] !== undefined);
      hash.text(`object of ${keys.length}`);
      for (const key of keys.sort().reverse()) left.push(record[key], key);
    } else {
      hash.text(`${typeof value} ${value}`);
    }
  }
}

function recordOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
}
