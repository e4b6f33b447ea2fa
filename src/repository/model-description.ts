// What a model's files say before any weight is read: configuration, tensors, tokenizer.
import type { ByteSource } from "../bytes/byte-source";
import { LlmError } from "../errors";
import { readGguf } from "../formats/gguf";
import { readSafetensors } from "../formats/safetensors";
import { type IndexEvent, readShardedSafetensors } from "../formats/safetensors-shards";
import { parseStrictJson } from "../formats/strict-json";
import type { TensorDirectory } from "../formats/tensor-directory";
import { lacksSplit, withGgufRoles } from "../tokens/gguf-vocabulary";
import { Tokenizer, type TokenizerEvent } from "../tokens/tokenizer";
import { configFromGguf } from "../weights/config-from-gguf";
import { configFromJson } from "../weights/config-from-json";
import type { ModelConfig } from "../weights/model-config";
import { absence, askForFile, type FileRefusedEvent, type ModelFiles, openOptional, openRequired } from "./file-answer";
import { ggufTokenizerIdentity, jsonTokenizerIdentity } from "./identity";

export interface ModelDescription {
  readonly config: ModelConfig;
  readonly directory: TensorDirectory;
  /** Null only where none was asked for. */
  readonly tokenizer: Tokenizer | null;
  /** Names how ids stand for text (identity.ts); null without a tokenizer. */
  readonly tokenizerIdentity: string | null;
}

export type DescriptionEvent = TokenizerEvent | FileRefusedEvent | IndexEvent;

export interface DescribeOptions {
  /** False: the files need no tokenizer (evaluation of ids). Default true. */
  readonly needsTokenizer?: boolean;
  /** A Jinja template that takes the place of the files' own. */
  readonly chatTemplate?: string;
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: DescriptionEvent) => void;
}

const PLAN_FILE = "progressive.json";
const TEXT = { maxBytes: 64 * 2 ** 20 }; // the largest tokenizer.json in use is 35 MB
const NAMES_ADVICE = "Check the names of repository, revision and file.";
const GGUF_ADVICE = 'Check its name; a GGUF is named by its file: "owner/name/file.gguf".';

/** @throws LlmError "not-found" | "bad-file" | "bad-config" | "bad-tokenizer" | "unsupported", and those of the sources. */
export function describeModel(files: ModelFiles, options: DescribeOptions = {}): Promise<ModelDescription> {
  return files.weightsFile && /\.gguf$/i.test(files.weightsFile)
    ? describeGguf(files, files.weightsFile, options)
    : describeRepository(files, options);
}

async function describeGguf(files: ModelFiles, file: string, options: DescribeOptions): Promise<ModelDescription> {
  const { needsTokenizer = true, signal } = options;
  const directory = await readGguf(await openRequired(files, file, NAMES_ADVICE, options), { signal });
  const config = await configFromGguf(directory, signal);
  if (!needsTokenizer) return { config, directory, tokenizer: null, tokenizerIdentity: null };
  return { config, directory, ...(await ggufTokenizer(files, directory.metadata, options)) };
}

type DescribedTokenizer = Pick<ModelDescription, "tokenizer" | "tokenizerIdentity">;

/** The GGUF's own tokenizer; the one beside it where its own cannot be read, or does not say how text is split. */
async function ggufTokenizer(
  files: ModelFiles,
  metadata: TensorDirectory["metadata"],
  options: DescribeOptions,
): Promise<DescribedTokenizer> {
  const { signal, onEvent } = options;
  const beside = async (found: string) => {
    const made = await readTokenizer(files, { ...options, ggufMetadata: metadata });
    const key = "the GGUF's tokenizer";
    if (made) onEvent?.({ type: "tokenizer-doubt", key, found, instead: "the tokenizer.json beside the file is used" });
    return made;
  };
  const better = lacksSplit(metadata) ? await beside("it does not say how text is split") : null;
  if (better) return better;
  try {
    const tokenizer = await Tokenizer.fromGguf(metadata, options);
    return { tokenizer, tokenizerIdentity: await ggufTokenizerIdentity(metadata, signal) };
  } catch (error) {
    const isUnreadable = error instanceof LlmError && (error.code === "unsupported" || error.code === "bad-tokenizer");
    const made = isUnreadable ? await beside(error.message) : null;
    if (made) return made;
    throw error;
  }
}

async function describeRepository(files: ModelFiles, options: DescribeOptions): Promise<ModelDescription> {
  const { needsTokenizer = true } = options;
  const modelConfig = readConfigJson(files, options);
  const reading = {
    config: modelConfig.then((json) => configFromJson(json, `config.json of ${files.name}`)),
    directory: readSafetensorsDirectory(files, options),
    tokenizer: needsTokenizer ? requireTokenizer(files, { ...options, modelConfig }) : { tokenizer: null, tokenizerIdentity: null },
  };
  // Of several failures the first in this order says most: what lacks its weights needs no advice on tokenizers.
  await Promise.allSettled(Object.values(reading));
  return { directory: await reading.directory, config: await reading.config, ...(await reading.tokenizer) };
}

async function readConfigJson(files: ModelFiles, options: DescribeOptions): Promise<unknown> {
  const source = await openRequired(files, "config.json", GGUF_ADVICE, { ...options, ...TEXT });
  return readJson(files, "config.json", source, options);
}

const WHOLE_WEIGHTS = "model.safetensors";
const SHARD_INDEX = "model.safetensors.index.json";

async function readSafetensorsDirectory(files: ModelFiles, options: DescribeOptions): Promise<TensorDirectory> {
  const { signal, onEvent } = options;
  if (files.weightsFile) {
    return readSafetensors(await openRequired(files, files.weightsFile, NAMES_ADVICE, options), { signal });
  }
  const whole = await askForFile(files, WHOLE_WEIGHTS, options);
  if (whole.kind === "found") return readSafetensors(whole.source, { signal });
  const index = await askForFile(files, SHARD_INDEX, { ...options, ...TEXT });
  if (index.kind !== "found") throw absence(files, `${WHOLE_WEIGHTS} and no ${SHARD_INDEX}`, whole, GGUF_ADVICE);
  const openShard = (shard: string) => openRequired(files, shard, NAMES_ADVICE, options);
  return readShardedSafetensors(await readText(index.source, signal), openShard, { name: SHARD_INDEX, signal, onEvent });
}

interface TokenizerContext extends DescribeOptions {
  /** The parsed config.json, on its way. */
  readonly modelConfig?: Promise<unknown>;
  /** Of the GGUF beside which the files lie. */
  readonly ggufMetadata?: TensorDirectory["metadata"];
}

async function requireTokenizer(files: ModelFiles, context: TokenizerContext): Promise<DescribedTokenizer> {
  const made = await readTokenizer(files, context);
  if (made) return made;
  throw new LlmError(
    "bad-tokenizer",
    `${files.name} has no tokenizer.json: add one beside the weights, or use a GGUF, which holds its vocabulary.`,
  );
}

/** Null without a tokenizer.json. */
async function readTokenizer(files: ModelFiles, context: TokenizerContext): Promise<DescribedTokenizer | null> {
  const { modelConfig, ggufMetadata, ...options } = context;
  const { signal } = options;
  const text = async (file: string) => {
    const source = await openOptional(files, file, { ...options, ...TEXT });
    return source ? readText(source, signal) : undefined;
  };
  const json = async (file: string) => {
    const source = await openOptional(files, file, { ...options, ...TEXT });
    return source ? readJson(files, file, source, options) : undefined;
  };
  const parts = await Promise.all([
    json("tokenizer.json"),
    json("tokenizer_config.json"),
    json("special_tokens_map.json"),
    json("generation_config.json"),
    text("chat_template.jinja"),
    modelConfig?.catch(() => undefined), // told of by whoever reads the configuration
  ]);
  const [tokenizer, config, specialTokens, generationConfig, chatTemplate, ownConfig] = parts;
  if (tokenizer === undefined) return null;
  const stated = { tokenizer, config, specialTokens, generationConfig, chatTemplate, modelConfig: ownConfig };
  const made = await Tokenizer.fromJson(ggufMetadata ? withGgufRoles(stated, ggufMetadata) : stated, options);
  return { tokenizer: made, tokenizerIdentity: await jsonTokenizerIdentity(tokenizer, made, signal) };
}

async function readText(source: ByteSource, signal?: AbortSignal): Promise<string> {
  return new TextDecoder().decode(await source.read({ start: 0, end: source.size }, signal));
}

/** The plan that the model's maker put beside the weights, and what to call it; null where there is none. */
export async function readPlanFile(
  files: ModelFiles,
  options: Pick<DescribeOptions, "signal" | "onEvent"> = {},
): Promise<{ readonly value: unknown; readonly where: string } | null> {
  const source = await openOptional(files, PLAN_FILE, { ...options, ...TEXT });
  if (source === null) return null;
  const where = `${PLAN_FILE} of ${files.name}`;
  return { value: parsed(await readText(source, options.signal), where, parseStrictJson), where };
}

async function readJson(files: ModelFiles, file: string, source: ByteSource, { signal }: DescribeOptions): Promise<unknown> {
  return parsed(await readText(source, signal), `${file} of ${files.name}`, JSON.parse);
}

function parsed(text: string, where: string, parse: (text: string) => unknown): unknown {
  try {
    return parse(text);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new LlmError("bad-file", `${where} is no JSON: ${reason.slice(0, 200)}`, { cause });
  }
}
