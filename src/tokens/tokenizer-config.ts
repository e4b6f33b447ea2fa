// The files that define a tokenizer, and what their configurations add to tokenizer.json: the tokens that begin a text, end it, or have a name.
import { LlmError } from "../errors";
import { quoted } from "../quoted";
import type { AddedToken } from "./tokenizer-json";

/** The parsed files of a Hugging Face repository that define a tokenizer. */
export interface TokenizerFiles {
  /** tokenizer.json */
  readonly tokenizer: unknown;
  /** tokenizer_config.json */
  readonly config?: unknown;
  /** generation_config.json */
  readonly generationConfig?: unknown;
  /** chat_template.jinja, which takes precedence over the template in `config`. */
  readonly chatTemplate?: string | undefined;
}

export interface TokenizerConfig {
  readonly specialIds: ReadonlySet<number>;
  readonly bosId: number | null;
  readonly stopIds: ReadonlySet<number>;
  readonly chatTemplate: string | null;
  /** Tokens that a chat template may use by name: `bos_token`, `eos_token`, … */
  readonly tokenNames: Readonly<Record<string, string>>;
}

const NAMES = ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"];

// Models end a turn with tokens that their configuration often omits (Qwen2.5's GGUF names one of its two). Those of these names that the
// vocabulary has as control tokens end an answer.
const ENDS = [
  "</s>",
  "<eos>",
  "<|endoftext|>",
  "<|end_of_text|>",
  "<|im_end|>",
  "<|eot_id|>",
  "<|eom_id|>",
  "<|end|>",
  "<end_of_turn>",
  "<|end_of_turn|>",
];

/** @throws LlmError "bad-tokenizer" if a file is not an object or a value has the wrong type. */
export function readTokenizerConfig(files: TokenizerFiles, addedTokens: readonly AddedToken[]): TokenizerConfig {
  const config = asRecord(files.config ?? {}, "tokenizer_config.json");
  const idOf = new Map(addedTokens.map(({ content, id }) => [content, id]));
  const tokenNames: Record<string, string> = {};
  for (const name of NAMES) {
    const content = tokenContent(config[name], name);
    if (content !== null) tokenNames[name] = content;
  }
  const specialIds = new Set(addedTokens.filter(({ special }) => special).map(({ id }) => id));
  for (const content of Object.values(tokenNames)) addIfKnown(specialIds, idOf.get(content));
  const stopIds = new Set(generationEnds(files.generationConfig));
  addIfKnown(stopIds, idOf.get(tokenNames.eos_token ?? ""));
  for (const end of ENDS) {
    const id = idOf.get(end);
    if (id !== undefined && specialIds.has(id)) stopIds.add(id);
  }
  return {
    specialIds,
    bosId: idOf.get(tokenNames.bos_token ?? "") ?? null,
    stopIds,
    chatTemplate: files.chatTemplate ?? defaultTemplate(config.chat_template),
    tokenNames,
  };
}

function addIfKnown(ids: Set<number>, id: number | undefined): void {
  if (id !== undefined) ids.add(id);
}

/** The text of a special token, which is given as a string or as an object with the string. */
function tokenContent(token: unknown, name: string): string | null {
  if (token === undefined || token === null) return null;
  if (typeof token === "string") return token;
  const { content } = asRecord(token, `tokenizer_config.json: ${name}`);
  if (typeof content === "string") return content;
  throw broken(`tokenizer_config.json: ${name} is ${quoted(token)}, expected a token's text`);
}

function generationEnds(json: unknown): number[] {
  const { eos_token_id: ends } = asRecord(json ?? {}, "generation_config.json");
  const ids: unknown[] = ends === undefined || ends === null ? [] : Array.isArray(ends) ? ends : [ends];
  return ids.map((id) => {
    if (typeof id === "number" && Number.isInteger(id) && id >= 0) return id;
    throw broken(`generation_config.json: eos_token_id is ${quoted(ends)}, expected token ids`);
  });
}

/** The only template, or the one named "default". */
function defaultTemplate(json: unknown): string | null {
  if (json === undefined || json === null) return null;
  if (typeof json === "string") return json;
  const named = Array.isArray(json) ? json.map((item) => asRecord(item, "tokenizer_config.json: chat_template")) : [];
  const template = named.find(({ name }) => name === "default")?.template;
  if (typeof template === "string") return template;
  throw broken('tokenizer_config.json: chat_template is neither a template nor a list with one named "default"');
}

function asRecord(json: unknown, where: string): Readonly<Record<string, unknown>> {
  if (typeof json === "object" && json !== null && !Array.isArray(json)) return json as Readonly<Record<string, unknown>>;
  throw broken(`${where} is ${quoted(json)}, expected an object`);
}

function broken(what: string): LlmError {
  return new LlmError("bad-tokenizer", `${what}.`);
}
