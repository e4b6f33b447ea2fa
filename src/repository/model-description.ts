// What a model's files say before any weight is read: configuration, tensors, tokenizer.
import type { ByteSource } from "../bytes/byte-source";
import { LlmError } from "../errors";
import { readGguf } from "../formats/gguf";
import { readSafetensors } from "../formats/safetensors";
import { readShardedSafetensors } from "../formats/safetensors-shards";
import { parseStrictJson } from "../formats/strict-json";
import type { TensorDirectory } from "../formats/tensor-directory";
import { Tokenizer, type TokenizerEvent } from "../tokens/tokenizer";
import { configFromGguf } from "../weights/config-from-gguf";
import { configFromJson } from "../weights/config-from-json";
import type { ModelConfig } from "../weights/model-config";
import type { ModelFiles } from "./model-files";

export interface ModelDescription {
  readonly config: ModelConfig;
  readonly directory: TensorDirectory;
  /** Null only where none was asked for. */
  readonly tokenizer: Tokenizer | null;
}

export interface DescribeOptions {
  /** False: the files need no tokenizer (evaluation of ids). Default true. */
  readonly needsTokenizer?: boolean;
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: TokenizerEvent) => void;
}

const PLAN_FILE = "progressive.json";
const NAMES_ADVICE = "Check the names of repository, revision and file.";
const GGUF_ADVICE = 'Check its name; a GGUF is named by its file: "owner/name/file.gguf".';

/** @throws LlmError "not-found" | "bad-file" | "bad-config" | "bad-tokenizer" | "unsupported", and those of the sources. */
export function describeModel(files: ModelFiles, options: DescribeOptions = {}): Promise<ModelDescription> {
  return files.weightsFile && /\.gguf$/i.test(files.weightsFile)
    ? describeGguf(files, files.weightsFile, options)
    : describeRepository(files, options);
}

async function describeGguf(
  files: ModelFiles,
  file: string,
  { needsTokenizer = true, signal, onEvent }: DescribeOptions,
): Promise<ModelDescription> {
  const directory = await readGguf(await openRequired(files, file, signal), { signal });
  const config = await configFromGguf(directory, signal);
  return { config, directory, tokenizer: needsTokenizer ? await Tokenizer.fromGguf(directory.metadata, { onEvent, signal }) : null };
}

async function describeRepository(files: ModelFiles, { needsTokenizer = true, signal }: DescribeOptions): Promise<ModelDescription> {
  const reading = {
    config: readConfig(files, signal),
    directory: readSafetensorsDirectory(files, signal),
    tokenizer: needsTokenizer ? readTokenizer(files, signal) : null,
  };
  // Of several failures the first in this order says most: what lacks its weights needs no advice on tokenizers.
  await Promise.allSettled(Object.values(reading));
  return { directory: await reading.directory, config: await reading.config, tokenizer: await reading.tokenizer };
}

async function readConfig(files: ModelFiles, signal?: AbortSignal): Promise<ModelConfig> {
  const json = await readJson(files, "config.json", signal);
  if (json === undefined) throw missing(files, "config.json", GGUF_ADVICE);
  return configFromJson(json, `config.json of ${files.name}`);
}

async function readSafetensorsDirectory(files: ModelFiles, signal?: AbortSignal): Promise<TensorDirectory> {
  const single = await files.open(files.weightsFile ?? "model.safetensors", signal);
  if (single) return readSafetensors(single, { signal });
  if (files.weightsFile) throw missing(files, files.weightsFile, NAMES_ADVICE);
  const indexName = "model.safetensors.index.json";
  const index = await readText(files, indexName, signal);
  if (index === undefined) throw missing(files, `model.safetensors and no ${indexName}`, GGUF_ADVICE);
  return readShardedSafetensors(index, (shard) => openRequired(files, shard, signal), { name: indexName, signal });
}

async function readTokenizer(files: ModelFiles, signal?: AbortSignal): Promise<Tokenizer> {
  const [tokenizer, config, generationConfig, chatTemplate] = await Promise.all([
    readJson(files, "tokenizer.json", signal),
    readJson(files, "tokenizer_config.json", signal),
    readJson(files, "generation_config.json", signal),
    readText(files, "chat_template.jinja", signal),
  ]);
  if (tokenizer === undefined) {
    throw new LlmError(
      "bad-tokenizer",
      `${files.name} has no tokenizer.json: add one beside the weights, or use a GGUF, which holds its vocabulary.`,
    );
  }
  return Tokenizer.fromJson({ tokenizer, config, generationConfig, chatTemplate }, signal);
}

async function openRequired(files: ModelFiles, file: string, signal?: AbortSignal): Promise<ByteSource> {
  const source = await files.open(file, signal);
  if (!source) throw missing(files, file, NAMES_ADVICE);
  return source;
}

function missing(files: ModelFiles, file: string, advice: string): LlmError {
  return new LlmError("not-found", `${files.name} has no ${file}. ${advice}`);
}

const MAX_TEXT_BYTES = 64 * 2 ** 20; // the largest tokenizer.json in use is 35 MB

async function readText(files: ModelFiles, file: string, signal?: AbortSignal): Promise<string | undefined> {
  const source = await files.open(file, signal);
  if (!source) return undefined;
  if (source.size > MAX_TEXT_BYTES)
    throw new LlmError("bad-file", `${source.name} has ${source.size} bytes; such files have at most ${MAX_TEXT_BYTES}.`);
  const text = new TextDecoder().decode(await source.read({ start: 0, end: source.size }, signal));
  // Servers of single-page applications answer with their page, and status 200, what they do not have.
  return /^\s*<(!doctype html|html)/i.test(text) ? undefined : text;
}

/** The plan that the model's maker put beside the weights, and what to call it; null where there is none. */
export async function readPlanFile(
  files: ModelFiles,
  signal?: AbortSignal,
): Promise<{ readonly value: unknown; readonly where: string } | null> {
  const text = await readText(files, PLAN_FILE, signal);
  const where = `${PLAN_FILE} of ${files.name}`;
  if (text === undefined) return null;
  try {
    return { value: parseStrictJson(text), where };
  } catch (cause) {
    throw new LlmError("bad-file", `${where} is no JSON: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
}

async function readJson(files: ModelFiles, file: string, signal?: AbortSignal): Promise<unknown> {
  const text = await readText(files, file, signal);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new LlmError("bad-file", `${file} of ${files.name} is no JSON: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
}
