// Checks a tokenizer.json and rewrites it so that @huggingface/tokenizers gives the same ids as Hugging Face's Rust library. Files for which that
// is impossible are refused, so that no text silently gets other ids than the model was trained on.
import { LlmError } from "../errors";
import { quoted } from "../quoted";
import { TimeSlice } from "../time-slice";
import type { BytePairOptions, BytePairVocabulary } from "./byte-pair-model";
import { GUARD } from "./special-token-guard";

/** One stage of a tokenizer.json: a normalizer, pre-tokenizer, post-processor or decoder, or a sequence of them. */
export interface Step {
  readonly type: string;
  readonly [field: string]: unknown;
}

export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** A control token, which is not part of readable text. */
  readonly special: boolean;
  /** Found in normalized text, after the others. */
  readonly normalized: boolean;
  /** Take the white space before the token, or after it. */
  readonly lstrip: boolean;
  readonly rstrip: boolean;
}

/** A checked tokenizer.json. */
export interface TokenizerJson {
  /** Input of @huggingface/tokenizers. Without decoder (ours streams), post-processor (ours is a list of ids), model and added tokens (ours are separate). */
  readonly library: Readonly<Record<string, unknown>>;
  readonly vocabulary: BytePairVocabulary;
  readonly modelOptions: BytePairOptions;
  readonly addedTokens: readonly AddedToken[];
  /** Ids around a text: usually none, or one in front. */
  readonly frame: { readonly before: readonly number[]; readonly after: readonly number[] };
  readonly decoder: Step | null;
  /** The highest id + 1. */
  readonly vocabSize: number;
}

type Json = Readonly<Record<string, unknown>>;

const ROUNDS_BETWEEN_LOOKS = 512; // reading the clock costs as much as one round
const MAX_VOCAB_SIZE = 4_194_304; // 16 times the largest in use (Gemma's 262,144); a larger id means a broken file

const MOST_NESTED = 16; // sequences in sequences; real files have one in one

/** How GPT-2 splits text into words. */
export const GPT2_WORDS = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const PUNCTUATION = "[\\p{P}$+<=>^`|~]"; // Unicode's punctuation, and all of ASCII's

// Normalizers that the library applies exactly as the Rust one. Its Lowercase, Strip, Precompiled and BertNormalizer differ in some characters.
const NORMALIZERS = ["NFC", "NFD", "NFKC", "NFKD", "Prepend", "Replace"];

/**
 * The page runs between slices of the work. "model.vocab" may be a `Map`, which is then taken over.
 *
 * @throws LlmError "bad-tokenizer" if the file is broken, "unsupported" if it is not one of the byte-pair tokenizers that decoder models use; the
 * signal's reason when aborted.
 */
export async function readTokenizerJson(json: unknown, signal?: AbortSignal): Promise<TokenizerJson> {
  const root = asRecord(json, "the file");
  const { vocabulary, modelOptions } = await readModel(asRecord(root.model, '"model"'), new TimeSlice(signal));
  const addedTokens = asArray(root.added_tokens ?? [], '"added_tokens"').map(readAddedToken);
  for (const { content, id } of addedTokens) {
    vocabulary.ids.set(content, id);
    vocabulary.tokens[id] = content;
  }
  const preTokenizer = optionalStep(root.pre_tokenizer, '"pre_tokenizer"');
  const normalizer = optionalStep(root.normalizer, '"normalizer"');
  for (const step of normalizer ? flattenSteps(normalizer, "normalizers") : []) checkNormalizer(step);
  const dropGuards: Step = { type: "Replace", pattern: { String: GUARD }, content: "" };
  const words = preTokenizer ? flattenSteps(preTokenizer, "pretokenizers").flatMap(wordSteps) : [];
  return {
    library: {
      model: { type: "BPE", vocab: {}, merges: [] },
      added_tokens: [], // ours are found before
      normalizer,
      pre_tokenizer: { type: "Sequence", pretokenizers: [dropGuards, ...words] },
      post_processor: null,
      decoder: null,
    },
    vocabulary,
    modelOptions,
    addedTokens,
    frame: readFrame(optionalStep(root.post_processor, '"post_processor"')),
    decoder: optionalStep(root.decoder, '"decoder"'),
    vocabSize: vocabulary.tokens.length,
  };
}

function checkNormalizer(step: Step): void {
  if (!NORMALIZERS.includes(step.type)) throw unsupported(`normalizer ${quoted(step.type)}, expected one of ${NORMALIZERS.join(", ")}`);
  if (step.type === "Prepend" && typeof step.prepend !== "string") throw broken(`normalizer Prepend has the text ${quoted(step.prepend)}`);
  if (step.type !== "Replace") return;
  checkPattern(step, "normalizer Replace");
  if (typeof step.content !== "string") throw broken(`normalizer Replace has the content ${quoted(step.content)}, expected a text`);
}

/** `{ "String": … }` or `{ "Regex": … }`. */
function checkPattern({ pattern }: Step, where: string): void {
  const { String: text, Regex: regex } = typeof pattern === "object" && pattern !== null ? (pattern as Json) : {};
  if ((typeof text === "string") === (typeof regex === "string"))
    throw broken(`${where} has the pattern ${quoted(pattern)}, expected a text or an expression`);
}

/** The steps of a stage, with nested sequences flattened. */
export function flattenSteps(step: Step, listName: string, depth = 0): Step[] {
  if (step.type !== "Sequence") return [step];
  if (depth === MOST_NESTED) throw unsupported(`"${listName}" nested more than ${MOST_NESTED} deep`);
  return asArray(step[listName], `"${listName}"`).flatMap((inner) => flattenSteps(asStep(inner, `"${listName}"`), listName, depth + 1));
}

interface ModelJson {
  readonly vocabulary: BytePairVocabulary;
  readonly modelOptions: BytePairOptions;
}

async function readModel(model: Json, slice: TimeSlice): Promise<ModelJson> {
  const type = model.type ?? (model.merges === undefined ? "unknown" : "BPE"); // files before 2021 omit the type
  if (type !== "BPE") throw unsupported(`model ${quoted(type)}, expected "BPE"`);
  for (const field of ["dropout", "continuing_subword_prefix", "end_of_word_suffix"]) {
    if (model[field]) throw unsupported(`model.${field} ${quoted(model[field])}, expected none`);
  }
  const { ids, tokens } = await readVocab(model.vocab, slice);
  const isOwn = model.vocab instanceof Map; // a GGUF's, whose unused tokens are none and may have merges
  const unknown = readUnknown(model.unk_token);
  if (unknown !== null && !ids.has(unknown)) throw broken(`model.unk_token ${quoted(unknown)} is not in the vocabulary`);
  return {
    vocabulary: { ids, tokens, ...(await readMerges(asArray(model.merges, '"model.merges"'), isOwn ? null : ids, slice)) },
    modelOptions: {
      unknown,
      fusesUnknown: model.fuse_unk === true,
      byteFallback: model.byte_fallback === true,
      ignoresMerges: model.ignore_merges === true,
    },
  };
}

/** GPT-2's file has "" for none. */
function readUnknown(json: unknown): string | null {
  if (json === undefined || json === null || json === "") return null;
  if (typeof json !== "string") throw broken(`model.unk_token is ${quoted(json)}, expected a token`);
  return json;
}

async function readVocab(vocab: unknown, slice: TimeSlice): Promise<Pick<BytePairVocabulary, "ids" | "tokens">> {
  const isMap = vocab instanceof Map;
  const ids = isMap ? (vocab as Map<string, number>) : new Map<string, number>();
  const tokens: (string | undefined)[] = [];
  let round = 0;
  for (const [token, value] of isMap ? vocab : recordEntries(asRecord(vocab, '"model.vocab"'))) {
    if (round++ % ROUNDS_BETWEEN_LOOKS === 0 && slice.isOver) await slice.next();
    const id = asId(value, "model.vocab", token);
    tokens[id] = token;
    if (!isMap) ids.set(token, id);
  }
  if (ids.size === 0) throw broken('"model.vocab" is empty, expected tokens');
  return { ids, tokens };
}

function* recordEntries(record: Json): Generator<[string, unknown]> {
  for (const key in record) yield [key, record[key]];
}

/** A merge given as a string is its own key. The parts of a pair may contain spaces, so the guard, which no text contains, separates them. */
async function readMerges(
  merges: readonly unknown[],
  ids: ReadonlyMap<string, number> | null,
  slice: TimeSlice,
): Promise<Pick<BytePairVocabulary, "ranks" | "separator">> {
  const arePairs = Array.isArray(merges[0]);
  const separator = arePairs ? GUARD : " ";
  const ranks = new Map<string, number>();
  for (let rank = 0; rank < merges.length; rank++) {
    const merge = merges[rank];
    if (rank % ROUNDS_BETWEEN_LOOKS === 0 && slice.isOver) await slice.next();
    const key = arePairs ? pairKey(merge) : isSpacedPair(merge) ? merge : null;
    if (key === null) throw broken(`model.merges[${rank}] is ${quoted(merge)}, expected two tokens${arePairs ? " in a list" : ""}`);
    const stranger = ids && strangerIn(key, separator, ids);
    if (stranger !== null) throw broken(`model.merges[${rank}] is ${quoted(merge)}, but ${quoted(stranger)} is no token`);
    ranks.set(key, rank);
  }
  return { ranks, separator };
}

/** A part or the whole of a merge that is no token, as the Rust library refuses it; null where all are. */
function strangerIn(key: string, separator: string, ids: ReadonlyMap<string, number>): string | null {
  const between = key.indexOf(separator);
  const [left, right] = [key.slice(0, between), key.slice(between + 1)];
  if (!ids.has(left + right)) return left + right;
  return [left, right].find((part) => !ids.has(part)) ?? null;
}

function pairKey(merge: unknown): string | null {
  if (!Array.isArray(merge) || merge.length !== 2) return null;
  const [left, right]: readonly unknown[] = merge;
  return typeof left === "string" && typeof right === "string" ? left + GUARD + right : null;
}

function isSpacedPair(merge: unknown): merge is string {
  if (typeof merge !== "string") return false;
  const space = merge.indexOf(" ");
  return space > 0 && space < merge.length - 1 && !merge.includes(" ", space + 1);
}

function readAddedToken(json: unknown, index: number): AddedToken {
  const where = `added_tokens[${index}]`;
  const { id, content, special, normalized, lstrip, rstrip, single_word: singleWord } = asRecord(json, where);
  if (typeof content !== "string" || content === "") throw broken(`${where}.content is ${quoted(content)}, expected a token`);
  if (singleWord === true) throw unsupported(`added token ${quoted(content)} with single_word, which matches whole words only`);
  return {
    id: asId(id, `${where}.id`),
    content,
    special: special === true,
    normalized: (normalized ?? special !== true) === true,
    lstrip: lstrip === true,
    rstrip: rstrip === true,
  };
}

/** The ids that a template adds around one text. */
function readFrame(postProcessor: Step | null): TokenizerJson["frame"] {
  const before: number[] = [];
  const after: number[] = [];
  for (const step of postProcessor ? flattenSteps(postProcessor, "processors") : []) {
    if (step.type === "ByteLevel") continue; // changes offsets only, which we do not use
    if (step.type !== "TemplateProcessing")
      throw unsupported(`post_processor ${quoted(step.type)}, expected ByteLevel or TemplateProcessing`);
    let side = before;
    for (const item of asArray(step.single, "post_processor.single")) {
      const { SpecialToken: token, Sequence: sequence } = asRecord(item, "post_processor.single[…]");
      if (sequence !== undefined) side = after;
      else side.push(...templateIds(asRecord(token, "post_processor.single[…].SpecialToken").id, step));
    }
  }
  return { before, after };
}

function templateIds(name: unknown, template: Step): number[] {
  if (typeof name !== "string") throw broken(`post_processor.single[…].SpecialToken.id is ${quoted(name)}, expected a token`);
  const tokens = asRecord(template.special_tokens, "post_processor.special_tokens");
  const where = `post_processor.special_tokens[${quoted(name)}]`;
  return asArray(asRecord(tokens[name], where).ids, `${where}.ids`).map((id) => asId(id, `${where}.ids`));
}

/** A pre-tokenizer rewritten in terms that both libraries handle alike. */
function wordSteps(step: Step): Step[] {
  switch (step.type) {
    case "Split":
      return [splitStep(step)];
    case "Digits": // the library knows ASCII digits only; the Rust one knows all Unicode numbers
      return [isolate(step.individual_digits === true ? "\\p{N}" : "\\p{N}+")];
    case "Punctuation":
      if ((step.behavior ?? "Isolated") === "Isolated") return [isolate(PUNCTUATION)];
      if (step.behavior === "Contiguous") return [isolate(`${PUNCTUATION}+`)];
      throw unsupported(`pre_tokenizer Punctuation with behavior ${quoted(step.behavior)}, expected "Isolated" or "Contiguous"`);
    case "ByteLevel": // the library's own pattern treats U+FEFF as a space, and U+0085 as none
      if (step.add_prefix_space === true) throw unsupported("pre_tokenizer ByteLevel with add_prefix_space, expected none");
      return [...(step.use_regex === false ? [] : [isolate(GPT2_WORDS)]), { ...step, use_regex: false }];
    case "Metaspace":
      return metaspaceSteps(step);
    default:
      throw unsupported(`pre_tokenizer ${quoted(step.type)}, expected one of ByteLevel, Digits, Metaspace, Punctuation, Split`);
  }
}

/** A pre-tokenizer that makes each match a word, and each run between matches. */
export function isolate(regex: string): Step {
  return { type: "Split", pattern: { Regex: regex }, behavior: "Isolated", invert: false };
}

/** The library treats every behaviour except "Removed" as "Isolated", and an inverted split as a removal. */
function splitStep(step: Step): Step {
  checkPattern(step, "pre_tokenizer Split");
  if (step.behavior === "Removed") return step;
  if (step.behavior === "Isolated") return { ...step, invert: false }; // text between matches is a separate word either way
  throw unsupported(`pre_tokenizer Split with behavior ${quoted(step.behavior)}, expected "Isolated" or "Removed"`);
}

/** The library ignores the split before each ▁, and the flag that older files have instead of prepend_scheme. */
function metaspaceSteps(step: Step): Step[] {
  if ((step.replacement ?? "▁") !== "▁")
    throw unsupported(`pre_tokenizer Metaspace with replacement ${quoted(step.replacement)}, expected "▁"`);
  const marked: Step = { type: "Metaspace", replacement: "▁", prepend_scheme: prependScheme(step) };
  return step.split === false ? [marked] : [marked, isolate("▁[^▁]*")];
}

/** When a Metaspace step adds a space before a text. */
export function prependScheme(metaspace: Step): unknown {
  return metaspace.prepend_scheme ?? (metaspace.add_prefix_space === false ? "never" : "always");
}

function optionalStep(json: unknown, where: string): Step | null {
  return json === undefined || json === null ? null : asStep(json, where);
}

function asStep(json: unknown, where: string): Step {
  const { type, ...fields } = asRecord(json, where);
  if (typeof type !== "string") throw broken(`${where} has the type ${quoted(type)}, expected a name`);
  return { ...fields, type };
}

function asRecord(json: unknown, where: string): Json {
  if (typeof json !== "object" || json === null || Array.isArray(json)) throw broken(`${where} is ${kindOf(json)}, expected an object`);
  return json as Json;
}

function asArray(json: unknown, where: string): readonly unknown[] {
  if (!Array.isArray(json)) throw broken(`${where} is ${kindOf(json)}, expected an array`);
  return json;
}

function asId(json: unknown, where: string, key?: string): number {
  if (typeof json === "number" && Number.isInteger(json) && json >= 0 && json < MAX_VOCAB_SIZE) return json;
  const place = key === undefined ? where : `${where}[${quoted(key)}]`;
  throw broken(`${place} is ${quoted(json)}, expected an integer from 0 to ${MAX_VOCAB_SIZE - 1}`);
}

function kindOf(json: unknown): string {
  if (json === undefined) return "missing";
  return json === null ? "null" : Array.isArray(json) ? "an array" : `a ${typeof json}`;
}

function broken(what: string): LlmError {
  return new LlmError("bad-tokenizer", `tokenizer.json: ${what}.`);
}

/** The error for a valid tokenizer for which we cannot reproduce the ids. */
export function unsupported(what: string): LlmError {
  return new LlmError("unsupported", `tokenizer.json: ${what}. Read otherwise, text would get other ids than the model was trained on.`);
}
