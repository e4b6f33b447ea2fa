// Reads a checkpoint that is split over several safetensors files by an index, `model.safetensors.index.json`, as on a hub.
import type { ByteSource } from "../bytes/byte-source";
import { LlmError } from "../errors";
import { quoted, shortened } from "../quoted";
import { readSafetensors } from "./safetensors";
import { parseStrictJson } from "./strict-json";
import { directoryOf, type StoredTensor, type TensorDirectory } from "./tensor-directory";
import { MAX_TENSOR_COUNT } from "./tensor-extent";

const MAX_SHARD_COUNT = 1000; // the largest checkpoints come in fewer than 200

export interface ShardedReadOptions {
  /** The index's URL or path, for messages. */
  readonly name?: string;
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: ((event: IndexEvent) => void) | undefined;
}

/** The index and the shards' own headers differ, as after a file was saved anew: the headers count. */
export interface IndexEvent {
  readonly type: "index-differs";
  readonly index: string;
  /** Named by the index, stored in no shard. Fails the load only where the model needs them. */
  readonly missing: readonly string[];
  /** Stored in another shard than the index names. */
  readonly moved: readonly string[];
  /** Stored, and not named. */
  readonly unlisted: readonly string[];
}

/**
 * The tensors of all shards that `indexText` names, in the order of the shards' names. `open` gets a file name without any folder, to be found
 * beside the index. Reads the shards' headers only, and goes by them: where the index says otherwise, an event tells.
 *
 * @throws LlmError "bad-file" when the index is wrong; what `open` and `readSafetensors` throw.
 */
export async function readShardedSafetensors(
  indexText: string,
  open: (fileName: string, signal?: AbortSignal) => Promise<ByteSource>,
  { name = "model.safetensors.index.json", signal, onEvent }: ShardedReadOptions = {},
): Promise<TensorDirectory> {
  const namesByShard = parseIndex(indexText, name);
  const shards = await Promise.all(
    [...namesByShard].map(async ([fileName, listed]) => ({
      listed,
      directory: await readSafetensors(await open(fileName, signal), { signal }),
    })),
  );
  const stored = storedTensors(shards);
  const differences = compare(shards, stored);
  if (Object.values(differences).some((names) => names.length > 0)) onEvent?.({ type: "index-differs", index: name, ...differences });
  // Of free text ("format": "pt"), the same in every shard.
  const metadata = new Map(shards.flatMap(({ directory }) => [...directory.metadata]));
  return directoryOf(stored.values(), { format: "safetensors", name, metadata });
}

interface Shard {
  readonly directory: TensorDirectory;
  /** What the index says it holds. */
  readonly listed: ReadonlySet<string>;
}

/** What the shards hold. Of a tensor that lies in several, the one that the index names counts. */
function storedTensors(shards: readonly Shard[]): ReadonlyMap<string, StoredTensor> {
  const stored = new Map<string, StoredTensor>();
  for (const { directory, listed } of shards) {
    for (const [name, tensor] of [...directory.tensors, ...directory.unsupported]) {
      if (!stored.has(name) || listed.has(name)) stored.set(name, tensor);
    }
  }
  return stored;
}

function compare(shards: readonly Shard[], stored: ReadonlyMap<string, StoredTensor>): Omit<IndexEvent, "type" | "index"> {
  const listed = new Set(shards.flatMap((shard) => [...shard.listed]));
  const isHere = ({ directory }: Shard, name: string) => directory.tensors.has(name) || directory.unsupported.has(name);
  const elsewhere = shards.flatMap((shard) => [...shard.listed].filter((name) => !isHere(shard, name)));
  return {
    missing: elsewhere.filter((name) => !stored.has(name)),
    moved: elsewhere.filter((name) => stored.has(name)),
    unlisted: [...stored.keys()].filter((name) => !listed.has(name)),
  };
}

/** Tensor names by the shard that must hold them, shards in the order of their names. */
function parseIndex(text: string, indexName: string): ReadonlyMap<string, ReadonlySet<string>> {
  const weightMap = Object.entries(parseWeightMap(text, indexName));
  if (weightMap.length > MAX_TENSOR_COUNT) {
    throw new LlmError("bad-file", `${indexName}: ${weightMap.length} tensors, expected at most ${MAX_TENSOR_COUNT}`);
  }
  const namesByShard = new Map<string, Set<string>>();
  for (const [tensorName, fileName] of weightMap) {
    if (typeof fileName !== "string" || !/^[^/\\:?#%]+\.safetensors$/.test(fileName)) {
      // A path or URL would make us read what lies outside the model's own folder.
      throw new LlmError(
        "bad-file",
        `${indexName}: "${shortened(tensorName)}" lies in ${quoted(fileName)}, expected the plain name of a .safetensors file`,
      );
    }
    const names = namesByShard.get(fileName) ?? new Set();
    namesByShard.set(fileName, names.add(tensorName));
  }
  if (namesByShard.size > MAX_SHARD_COUNT) {
    throw new LlmError("bad-file", `${indexName}: ${namesByShard.size} shards, expected at most ${MAX_SHARD_COUNT}`);
  }
  return new Map([...namesByShard].sort(([a], [b]) => (a < b ? -1 : 1)));
}

function parseWeightMap(text: string, indexName: string): object {
  let index: unknown;
  try {
    index = parseStrictJson(text);
  } catch (cause) {
    throw new LlmError("bad-file", `${indexName}: not the JSON of a safetensors index`, { cause });
  }
  const weightMap = typeof index === "object" && index !== null && "weight_map" in index ? index.weight_map : undefined;
  if (typeof weightMap !== "object" || weightMap === null || Array.isArray(weightMap)) {
    throw new LlmError("bad-file", `${indexName}: no "weight_map" object. Is it the index of a sharded safetensors checkpoint?`);
  }
  return weightMap;
}
