// How a GGUF's byte-pair vocabulary splits text into words, by llama.cpp's names.
import { GPT2_WORDS, type Step } from "./tokenizer-json";

export interface PreTokenizer {
  readonly words: readonly string[];
  readonly normalizer?: Step;
  /** Words that are tokens stay whole, even if no merges produce them. */
  readonly ignoreMerges?: true;
  readonly addsBos?: true;
}

// Contractions ignore the case of ASCII letters only.
const CONTRACTIONS = "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]";
const MODERN_WORDS = (digits: string) =>
  `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

const NFC: Step = { type: "NFC" }; // llama.cpp omits normalizers

export const PRE_TOKENIZERS: ReadonlyMap<string, PreTokenizer> = new Map<string, PreTokenizer>([
  ["default", { words: ["[\\p{P}$+<=>^~|]+", GPT2_WORDS, "\\p{N}+", "[0-9][0-9][0-9]"] }],
  ["gpt-2", { words: [GPT2_WORDS] }],
  ["olmo", { words: [GPT2_WORDS], normalizer: NFC }],
  ["smollm", { words: ["\\p{N}", GPT2_WORDS] }],
  ["command-r", { words: ["\\p{N}", GPT2_WORDS], normalizer: NFC }],
  ["qwen2", { words: [MODERN_WORDS("\\p{N}")], normalizer: NFC }],
  ["llama-bpe", { words: [MODERN_WORDS("\\p{N}{1,3}")], ignoreMerges: true, addsBos: true }],
  ["dbrx", { words: [MODERN_WORDS("\\p{N}{1,3}")] }],
  ["falcon", { words: ["[\\p{P}$+<=>^~|`]+", GPT2_WORDS, "[0-9][0-9][0-9]"] }],
]);

/** Other names of the same splits: llama.cpp names each model family that it converts. */
const OTHER_NAMES: ReadonlyMap<string, readonly string[]> = new Map([
  ["llama-bpe", ["llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"]],
  ["qwen2", ["deepseek-r1-qwen", "kormo", "megrez", "f2llmv2"]],
  ["dbrx", ["smaug-bpe"]],
  [
    "gpt-2",
    ["phi-2", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de", "gigachat", "a.x-4.0", "mellum", "jais", "trillion", "granite-docling"],
  ],
  ["olmo", ["mpt"]],
  ["smollm", ["starcoder", "refact", "codeshell", "minerva-7b"]],
]);

/** The split that `name` stands for; undefined for one that we do not have. */
export function preTokenizerNamed(name: string): PreTokenizer | undefined {
  const [plain = name] = [...OTHER_NAMES].find(([, others]) => others.includes(name)) ?? [];
  return PRE_TOKENIZERS.get(plain);
}

// Files from before April 2024 name no split. These families had one each; other files read as llama.cpp reads them.
const SPLIT_OF_VOCABULARY: readonly { readonly architecture: string; readonly tokenCount?: number; readonly name: string }[] = [
  { architecture: "qwen2", name: "qwen2" },
  { architecture: "falcon", name: "falcon" },
  { architecture: "llama", tokenCount: 128_256, name: "llama-bpe" },
];

/** The split of a file that names none. */
export function assumedPreTokenizer(architecture: unknown, tokenCount: number): string {
  const known = SPLIT_OF_VOCABULARY.find((each) => each.architecture === architecture && (each.tokenCount ?? tokenCount) === tokenCount);
  return known?.name ?? "default";
}
