// Reads a checkpoint that is split over several safetensors files by an index, `model.safetensors.index.json`, as on a hub.
import type { ByteSource } from "../bytes/byte-source";
import { LlmError } from "../errors";
import { readSafetensors } from "./safetensors";
import { parseStrictJson } from "./strict-json";
import type { TensorDirectory } from "./tensor-directory";
import { MAX_TENSOR_COUNT } from "./tensor-extent";

const MAX_SHARD_COUNT = 1000; // the largest checkpoints come in fewer than 200

export interface ShardedReadOptions {
  /** The index's URL or path, for messages. */
  readonly name?: string;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The tensors of all shards that `indexText` names, in the order of the shards' names. `open` gets a file name without any folder, to be found
 * beside the index. Reads the shards' headers only.
 *
 * @throws LlmError "bad-file" when the index is wrong or a shard holds other tensors than the index says; what `open` and
 * `readSafetensors` throw.
 */
export async function readShardedSafetensors(
  indexText: string,
  open: (fileName: string, signal?: AbortSignal) => Promise<ByteSource>,
  { name = "model.safetensors.index.json", signal }: ShardedReadOptions = {},
): Promise<TensorDirectory> {
  const namesByShard = parseIndex(indexText, name);
  const shards = await Promise.all(
    [...namesByShard].map(async ([fileName, tensorNames]) => {
      const shard = await readSafetensors(await open(fileName, signal), { signal });
      checkShard(shard, { tensorNames, fileName, indexName: name });
      return shard;
    }),
  );
  return {
    format: "safetensors",
    name,
    tensors: new Map(shards.flatMap((shard) => [...shard.tensors])),
    unsupported: new Map(shards.flatMap((shard) => [...shard.unsupported])),
    metadata: new Map(shards.flatMap((shard) => [...shard.metadata])), // free text ("format": "pt"), the same in every shard
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
        `${indexName}: "${tensorName}" lies in ${JSON.stringify(fileName)}, expected the plain name of a .safetensors file`,
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

function checkShard(
  shard: TensorDirectory,
  {
    tensorNames,
    fileName,
    indexName,
  }: { readonly tensorNames: ReadonlySet<string>; readonly fileName: string; readonly indexName: string },
): void {
  for (const tensorName of tensorNames) {
    if (!shard.tensors.has(tensorName) && !shard.unsupported.has(tensorName)) {
      throw new LlmError("bad-file", `"${tensorName}" in ${shard.name}: missing, though ${indexName} says that ${fileName} holds it`);
    }
  }
  for (const tensorName of [...shard.tensors.keys(), ...shard.unsupported.keys()]) {
    if (!tensorNames.has(tensorName)) {
      throw new LlmError("bad-file", `"${tensorName}" in ${shard.name}: there, though ${indexName} does not say that ${fileName} holds it`);
    }
  }
}
