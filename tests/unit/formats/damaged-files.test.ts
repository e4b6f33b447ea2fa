// Valid small files, damaged at random: whatever comes out is a valid directory or an error made for the caller; a read outside the file, a
// hang or any other error fails the test.
import fc from "fast-check";
import { expect, test } from "vitest";
import type { ByteSource } from "../../../src/bytes/byte-source";
import { LlmError } from "../../../src/errors";
import { readGguf } from "../../../src/formats/gguf";
import { readSafetensors } from "../../../src/formats/safetensors";
import { writeSafetensors } from "../../../src/formats/safetensors-writer";
import type { TensorDirectory } from "../../../src/formats/tensor-directory";
import { ggufBytes } from "../../support/gguf-bytes";
import { memorySource } from "../../support/memory-source";

const GGUF = ggufBytes({
  metadata: [
    ["general.architecture", { type: "string", value: "llama" }],
    ["general.alignment", { type: "u32", value: 32 }],
    ["llama.block_count", { type: "u64", value: 2n }],
    ["tokens", { type: "array", of: 8, items: ["a", "b", "é"].map((value) => ({ type: "string", value })) }],
    ["scores", { type: "array", of: 6, items: [0, -1, 2].map((value) => ({ type: "f32", value })) }],
    ["flag", { type: "bool", value: 1 }],
  ],
  tensors: [
    { name: "a.weight", type: 0, dimensions: [3, 2], offset: 0 },
    { name: "b.weight", type: 8, dimensions: [32, 2], offset: 32 },
    { name: "c.weight", type: 20, dimensions: [32], offset: 128 },
  ],
  dataBytes: 146,
});

const SAFETENSORS = writeSafetensors(
  [
    { name: "a.weight", type: "F32", shape: [2, 3], values: new Float32Array(6) },
    { name: "b.weight", type: "BF16", shape: [4], values: new Uint16Array(4) },
    { name: "ids", type: "I64", shape: [1], values: new BigInt64Array(1) },
  ],
  { format: "pt" },
);

const TIMEOUT_MS = 60_000; // a second on an idle machine

type Damage =
  | { readonly kind: "set"; readonly at: number; readonly byte: number }
  | { readonly kind: "flip"; readonly at: number; readonly bit: number }
  | { readonly kind: "u64"; readonly at: number; readonly value: bigint }
  | { readonly kind: "cut"; readonly at: number }
  | { readonly kind: "delete"; readonly at: number; readonly count: number }
  | { readonly kind: "repeat"; readonly at: number; readonly count: number };

function arbitraryDamage(length: number): fc.Arbitrary<Damage> {
  const at = fc.nat(length);
  const edge = fc.constantFrom(0n, 1n, 31n, 2n ** 31n, 2n ** 32n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n);
  return fc.oneof(
    fc.record({ kind: fc.constant("set" as const), at, byte: fc.nat(255) }),
    fc.record({ kind: fc.constant("flip" as const), at, bit: fc.nat(7) }),
    fc.record({ kind: fc.constant("u64" as const), at, value: edge }),
    fc.record({ kind: fc.constant("cut" as const), at }),
    fc.record({ kind: fc.constant("delete" as const), at, count: fc.nat(40) }),
    fc.record({ kind: fc.constant("repeat" as const), at, count: fc.nat(40) }),
  );
}

function damaged(bytes: Uint8Array, damages: readonly Damage[]): Uint8Array {
  let result = bytes.slice();
  for (const damage of damages) {
    const at = Math.min(damage.at, result.length);
    switch (damage.kind) {
      case "set":
        if (at < result.length) result[at] = damage.byte;
        break;
      case "flip":
        if (at < result.length) result[at] = (result[at] ?? 0) ^ (1 << damage.bit);
        break;
      case "u64":
        if (at + 8 <= result.length) new DataView(result.buffer).setBigUint64(at, damage.value, true);
        break;
      case "cut":
        result = result.slice(0, at);
        break;
      case "delete":
        result = Uint8Array.of(...result.subarray(0, at), ...result.subarray(at + damage.count));
        break;
      case "repeat":
        result = Uint8Array.of(...result.subarray(0, at + damage.count), ...result.subarray(at));
        break;
    }
  }
  return result;
}

function expectSound(directory: TensorDirectory, size: number): void {
  const ranges = [...directory.tensors.values(), ...directory.unsupported.values()].map(({ range }) => range);
  ranges.sort((a, b) => a.start - b.start || a.end - b.end);
  let end = 0;
  for (const range of ranges) {
    expect(range.start).toBeGreaterThanOrEqual(end);
    expect(range.end).toBeGreaterThanOrEqual(range.start);
    end = range.end;
  }
  expect(end).toBeLessThanOrEqual(size);
}

test.each([
  ["GGUF", GGUF, readGguf],
  ["safetensors", SAFETENSORS, readSafetensors],
] as const)(
  "a damaged %s file gives a sound directory or an error for the caller",
  async (_, valid, read: (source: ByteSource) => Promise<TensorDirectory>) => {
    const outcomes = new Map<string, number>();
    const damages = fc.array(arbitraryDamage(valid.length), { minLength: 1, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(damages, async (list) => {
        const bytes = damaged(valid, list);
        let outcome = "directory";
        try {
          expectSound(await read(memorySource(bytes)), bytes.length);
        } catch (error) {
          if (!(error instanceof LlmError)) throw error;
          expect(["bad-file", "bytes-truncated", "unsupported"]).toContain(error.code);
          outcome = error.code;
        }
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      }),
      { numRuns: 2000 },
    );
    // Damage that always ended in the same way would have tested nothing.
    expect([...outcomes.keys()]).toEqual(expect.arrayContaining(["bad-file", "bytes-truncated", "directory"]));
  },
  TIMEOUT_MS,
);

test("a damaged safetensors header that is still JSON gives a sound directory or an error for the caller", {
  timeout: TIMEOUT_MS,
}, async () => {
  const oddValue = fc.oneof(
    fc.constantFrom(null, -1, 0.5, 2 ** 53, 1e300, "F32", "I64", [], {}, [0, 24], [24, 0], [2, 3]),
    fc.array(fc.nat(40), { maxLength: 4 }),
    fc.jsonValue({ maxDepth: 1 }),
  );
  const entry = fc.record({ dtype: oddValue, shape: oddValue, data_offsets: oddValue }, { requiredKeys: [] });
  const header = fc.dictionary(fc.constantFrom("a", "b", "__metadata__"), fc.oneof(entry, oddValue));
  await fc.assert(
    fc.asyncProperty(header, fc.nat(60), async (value, dataBytes) => {
      const text = new TextEncoder().encode(JSON.stringify(value));
      const bytes = Uint8Array.of(...new Uint8Array(BigUint64Array.of(BigInt(text.length)).buffer), ...text, ...new Uint8Array(dataBytes));
      try {
        expectSound(await readSafetensors(memorySource(bytes)), bytes.length);
      } catch (error) {
        if (!(error instanceof LlmError)) throw error;
        expect(["bad-file", "bytes-truncated", "unsupported"]).toContain(error.code);
      }
    }),
    { numRuns: 1000 },
  );
});
