import { describe, expect, test } from "vitest";
import { readSafetensors } from "../../../src/formats/safetensors";
import { type IndexEvent, readShardedSafetensors } from "../../../src/formats/safetensors-shards";
import { type WritableTensor, writeSafetensors } from "../../../src/formats/safetensors-writer";
import { requireTensor } from "../../../src/formats/tensor-directory";
import { expectLlmError } from "../../support/expect-llm-error";
import { memorySource } from "../../support/memory-source";
import { readTensorValues } from "../../support/safetensors-values";

const FIRST = "model-00001-of-00002.safetensors";
const SECOND = "model-00002-of-00002.safetensors";
const WEIGHT_MAP = { "norm.weight": SECOND, "embed.weight": FIRST, "head.weight": SECOND };

const vector = (name: string, ...values: number[]): WritableTensor => ({
  name,
  type: "F32",
  shape: [values.length],
  values: Float32Array.from(values),
});

const SHARDS: Readonly<Record<string, readonly WritableTensor[]>> = {
  [FIRST]: [vector("embed.weight", 1, 2)],
  [SECOND]: [vector("head.weight", 3), vector("norm.weight", 4)],
};

const index = (weightMap: object = WEIGHT_MAP) => JSON.stringify({ metadata: { total_size: 16 }, weight_map: weightMap });

function opener(shards: Readonly<Record<string, readonly WritableTensor[]>> = SHARDS) {
  return async (fileName: string) => {
    const tensors = shards[fileName];
    if (tensors === undefined) throw new Error(`asked for ${fileName}`);
    return memorySource(writeSafetensors(tensors, { format: "pt" }), { name: fileName });
  };
}

describe("an honest index", () => {
  test("gives the tensors of all shards, each with its own file as source", async () => {
    const directory = await readShardedSafetensors(index(), opener());
    expect([...directory.tensors.keys()]).toEqual(["embed.weight", "head.weight", "norm.weight"]);
    expect([...directory.tensors.values()].map(({ source }) => source.name)).toEqual([FIRST, SECOND, SECOND]);
    expect([...(await readTensorValues(directory, "embed.weight"))]).toEqual([1, 2]);
    expect([...(await readTensorValues(directory, "norm.weight"))]).toEqual([4]);
    expect(directory.metadata).toEqual(new Map([["format", "pt"]]));
  });

  test("gives what the same tensors in one file give", async () => {
    const sharded = await readShardedSafetensors(index(), opener());
    const whole = await readSafetensors(memorySource(writeSafetensors(Object.values(SHARDS).flat())));
    for (const name of whole.tensors.keys()) {
      expect(await readTensorValues(sharded, name)).toEqual(await readTensorValues(whole, name));
    }
    expect(sharded.tensors.size).toBe(whole.tensors.size);
  });

  test("may name tensors of types that we do not compute with", async () => {
    const shards = { [FIRST]: [{ name: "ids", type: "I64", shape: [1], values: BigInt64Array.of(1n) }] as const };
    const directory = await readShardedSafetensors(index({ ids: FIRST }), opener(shards));
    expect(directory.unsupported.get("ids")?.type).toBe("I64");
  });

  test("hands the signal on to whoever opens the shards", async () => {
    const { signal } = new AbortController();
    const seen: (AbortSignal | undefined)[] = [];
    const open = opener();
    await readShardedSafetensors(
      index(),
      (fileName, given) => {
        seen.push(given);
        return open(fileName);
      },
      { signal },
    );
    expect(seen).toEqual([signal, signal]);
  });

  test("is named when a tensor that is in no shard is asked for", async () => {
    const directory = await readShardedSafetensors(index(), opener(), { name: "https://hub/model.safetensors.index.json" });
    expect(() => requireTensor(directory, "bias")).toThrow('"bias" in https://hub/model.safetensors.index.json: missing');
  });
});

describe("a lying index", () => {
  test.each([
    ["that is no JSON", "{", "not the JSON"],
    ["that is null", "null", "weight_map"],
    ["without a weight map", "{}", "weight_map"],
    ["whose weight map is a list", '{"weight_map":[]}', "weight_map"],
    ["that names a tensor twice", `{"weight_map":{"a":"${FIRST}","a":"${SECOND}"}}`, "not the JSON"],
    ["that names no file for a tensor", index({ a: 1 }), '"a" lies in 1'],
    ["that names another folder", index({ a: "../secret.safetensors" }), "expected the plain name"],
    ["that names another folder in escapes", index({ a: "..%2fsecret.safetensors" }), "expected the plain name"],
    ["that names another site", index({ a: "https://elsewhere/x.safetensors" }), "expected the plain name"],
    ["that names a file of another kind", index({ a: "pytorch_model.bin" }), "expected the plain name"],
    ["of too many shards", index(Object.fromEntries(Array.from({ length: 1001 }, (_, i) => [i, `${i}.safetensors`]))), "1001 shards"],
  ])("%s is refused before a shard is opened", async (_, text, words) => {
    const open = async () => {
      throw new Error("a shard was opened");
    };
    await expectLlmError(readShardedSafetensors(text, open), "bad-file", "model.safetensors.index.json", words);
  });

  test("of a shard that cannot be opened fails with the opener's error", async () => {
    await expect(readShardedSafetensors(index({ a: "other.safetensors" }), opener())).rejects.toThrow("asked for other.safetensors");
  });
});

// A repository whose weights were saved anew beside an old index did not load, though its headers say all that is needed.
describe("a stale index loads by the shards' own headers, and an event says where it differs", () => {
  const none = { missing: [], moved: [], unlisted: [] };

  test.each<[string, Record<string, string>, Partial<IndexEvent>]>([
    ["that names a tensor which no shard holds", { ...WEIGHT_MAP, "tied.weight": SECOND }, { missing: ["tied.weight"] }],
    ["that names the wrong shard of a tensor", { ...WEIGHT_MAP, "norm.weight": FIRST }, { moved: ["norm.weight"] }],
    ["that leaves a tensor out", { "embed.weight": FIRST, "head.weight": SECOND }, { unlisted: ["norm.weight"] }],
  ])("%s", async (_, weightMap, expected) => {
    const events: IndexEvent[] = [];
    const { tensors } = await readShardedSafetensors(index(weightMap), opener(), { onEvent: (event) => events.push(event) });
    expect([...tensors.keys()].sort()).toEqual(["embed.weight", "head.weight", "norm.weight"]);
    expect(events).toEqual([{ type: "index-differs", index: "model.safetensors.index.json", ...none, ...expected }]);
  });

  test("of a tensor that lies in two shards, the one that the index names counts", async () => {
    const shards = { [FIRST]: [vector("a", 1), vector("b", 2)], [SECOND]: [vector("a", 3), vector("b", 4)] };
    const { tensors } = await readShardedSafetensors(index({ a: FIRST, b: SECOND }), opener(shards));
    expect([...tensors].map(([name, { source }]) => [name, source.name])).toEqual([
      ["a", FIRST],
      ["b", SECOND],
    ]);
  });
});

test("an honest index is no event", async () => {
  await readShardedSafetensors(index(), opener(), { onEvent: (event) => expect.unreachable(event.type) });
});
