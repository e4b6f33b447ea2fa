// The files that define a tokenizer, and what their configurations add to tokenizer.json: the tokens that begin a text, end it, or have a name.
import { LlmError } from "../errors";
import { quoted } from "../quoted";
import { knownEnds, type TokenFacts } from "./token-roles";
import type { OnTokenizerEvent } from "./tokenizer-event";
import type { AddedToken } from "./tokenizer-json";

/** The parsed files of a Hugging Face repository that define a tokenizer. */
export interface TokenizerFiles {
  /** tokenizer.json */
  readonly tokenizer: unknown;
  /** tokenizer_config.json */
  readonly config?: unknown;
  /** special_tokens_map.json */
  readonly specialTokens?: unknown;
  /** generation_config.json */
  readonly generationConfig?: unknown;
  /** config.json */
  readonly modelConfig?: unknown;
  /** chat_template.jinja, which takes precedence over the template in `config`. */
  readonly chatTemplate?: string | undefined;
  /** What errors call the template in `config`, where it is not tokenizer_config.json's. */
  readonly chatTemplateName?: string | undefined;
}

export interface TokenizerConfig {
  readonly specialIds: ReadonlySet<number>;
  readonly bosId: number | null;
  /** The most certain first. */
  readonly stopIds: ReadonlySet<number>;
  readonly chatTemplate: { readonly source: string; readonly where: string } | null;
  /** Tokens that a chat template may use by name: `bos_token`, `eos_token`, … */
  readonly tokenNames: Readonly<Record<string, string>>;
}

/** What tokenizer.json says of tokens. */
export interface VocabularyFacts extends TokenFacts {
  readonly addedTokens: readonly AddedToken[];
  readonly idOf: (token: string) => number | undefined;
  readonly isToken: (id: number) => boolean;
}

type Json = Readonly<Record<string, unknown>>;

const NAMES = ["bos_token", "eos_token", "eot_token", "eom_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"];
const END_NAMES = ["eos_token", "eot_token", "eom_token"];
const LISTS = ["additional_special_tokens", "extra_special_tokens"];

/** @throws LlmError "bad-tokenizer" if a file is not an object or a value has the wrong type. */
export function readTokenizerConfig(files: TokenizerFiles, vocabulary: VocabularyFacts, onEvent: OnTokenizerEvent): TokenizerConfig {
  const config = asRecord(files.config ?? {}, "tokenizer_config.json");
  const map = optionalRecord(files.specialTokens, "special_tokens_map.json", onEvent);
  const named = (name: string) =>
    [tokenContent(config[name], `tokenizer_config.json: ${name}`), mapContent(map[name])].flatMap((token) => token ?? []);
  const tokenNames: Record<string, string> = {};
  for (const name of NAMES) {
    const [content] = named(name);
    if (content !== undefined) tokenNames[name] = content;
  }
  const { idOf, addedTokens } = vocabulary;
  const addedIds = new Set(addedTokens.map(({ id }) => id));
  const specialIds = new Set(addedTokens.filter(({ special }) => special).map(({ id }) => id));
  const alsoSpecial = [...Object.values(tokenNames), ...[config, map].flatMap((file) => LISTS.flatMap((list) => contentsOf(file[list])))];
  for (const content of alsoSpecial) addIf(specialIds, idOf(content), addedIds);

  const stopIds = new Set<number>();
  for (const content of END_NAMES.flatMap(named)) addIf(stopIds, idOf(content));
  for (const id of statedEnds(files, vocabulary, onEvent)) stopIds.add(id);
  for (const id of stopIds) addIf(specialIds, id, addedIds);
  const isSpecial = (token: string) => specialIds.has(idOf(token) ?? -1);
  for (const end of knownEnds({ ...vocabulary, isSpecial })) {
    addIf(stopIds, idOf(end));
    addIf(specialIds, idOf(end));
  }
  return {
    specialIds,
    bosId: idOf(tokenNames.bos_token ?? "") ?? null,
    stopIds,
    chatTemplate: templateOf(files, config),
    tokenNames,
  };
}

function addIf(ids: Set<number>, id: number | undefined, among?: ReadonlySet<number>): void {
  if (id !== undefined && (among === undefined || among.has(id))) ids.add(id);
}

/** The text of a special token, which is given as a string or as an object with the string. */
function tokenContent(token: unknown, where: string): string | null {
  if (token === undefined || token === null || token === false) return null;
  if (typeof token === "string") return token;
  const { content } = asRecord(token, where);
  if (typeof content === "string") return content;
  throw broken(`${where} is ${quoted(token)}, expected a token's text`);
}

/** As `tokenContent`, from a file that only repeats others: what it has wrong is left out. */
function mapContent(token: unknown): string | null {
  const content = typeof token === "object" && token !== null ? (token as Json).content : token;
  return typeof content === "string" ? content : null;
}

function contentsOf(list: unknown): string[] {
  return typeof list === "object" && list !== null ? Object.values(list).flatMap((token) => mapContent(token) ?? []) : [];
}

/** The ids that generation_config.json and config.json name. Those that are no token's are left out. */
function statedEnds(files: TokenizerFiles, { isToken }: VocabularyFacts, onEvent: OnTokenizerEvent): number[] {
  const generation = asRecord(files.generationConfig ?? {}, "generation_config.json").eos_token_id;
  const config = optionalRecord(files.modelConfig, "config.json", () => undefined);
  const text = optionalRecord(config.text_config, "config.json: text_config", () => undefined);
  const wrong = listOf(generation).find((id) => typeof id !== "number");
  if (wrong !== undefined) throw broken(`generation_config.json: eos_token_id is ${quoted(generation)}, expected token ids`);
  const stated: readonly [string, unknown][] = [
    ["generation_config.json: eos_token_id", generation],
    ["config.json: eos_token_id", config.eos_token_id],
    ["config.json: text_config.eos_token_id", text.eos_token_id],
  ];
  return stated.flatMap(([key, ids]) =>
    listOf(ids).flatMap((id) => {
      if (typeof id === "number" && isToken(id)) return [id];
      onEvent({ type: "tokenizer-doubt", key, found: quoted(id), instead: "left out: it is no token's id" });
      return [];
    }),
  );
}

function listOf(json: unknown): readonly unknown[] {
  return json === undefined || json === null ? [] : Array.isArray(json) ? json : [json];
}

function templateOf(files: TokenizerFiles, config: Json): TokenizerConfig["chatTemplate"] {
  if (files.chatTemplate !== undefined) return { source: files.chatTemplate, where: "chat_template.jinja" };
  const source = defaultTemplate(config.chat_template);
  return source === null ? null : { source, where: files.chatTemplateName ?? "chat_template of tokenizer_config.json" };
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

function optionalRecord(json: unknown, where: string, onEvent: OnTokenizerEvent): Json {
  if (json === undefined || json === null) return {};
  if (typeof json === "object" && !Array.isArray(json)) return json as Json;
  onEvent({ type: "tokenizer-doubt", key: where, found: quoted(json), instead: "left out: it is no object" });
  return {};
}

function broken(what: string): LlmError {
  return new LlmError("bad-tokenizer", `${what}.`);
}
