import fc from "fast-check";
import { expect, test } from "vitest";
import { readSafetensors } from "../../../src/formats/safetensors";
import { SAFETENSORS_BLOCKS, type SafetensorsType } from "../../../src/formats/safetensors-types";
import { type WritableTensor, writeSafetensors } from "../../../src/formats/safetensors-writer";
import { memorySource } from "../../support/memory-source";
import { findTensor, readTensorIds, readTensorValues } from "../../support/safetensors-values";

const types = Object.keys(SAFETENSORS_BLOCKS) as SafetensorsType[];

const arbitraryTensor = fc
  .record({ type: fc.constantFrom(...types), shape: fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 4 }) })
  .chain(({ type, shape }) => {
    const byteLength = shape.reduce((product, size) => product * size, SAFETENSORS_BLOCKS[type].bytes);
    const name = fc.oneof(
      fc.string({ unit: fc.constantFrom("a", "é", "🌍", '"', "\\", "{", " ", "\n", "\0", "\ufeff") }),
      fc.constantFrom("__proto__", "0", "constructor", "toString"),
    );
    return fc.record({
      name,
      type: fc.constant(type),
      shape: fc.constant(shape),
      values: fc.uint8Array({ minLength: byteLength, maxLength: byteLength }),
    });
  });

test("what is written is read back: names, types, shapes, bytes and metadata", async () => {
  const tensors = fc.uniqueArray(arbitraryTensor, { selector: ({ name }) => name, maxLength: 6 });
  await fc.assert(
    fc.asyncProperty(tensors, async (written) => {
      const directory = await readSafetensors(memorySource(writeSafetensors(written, { format: "test" })));
      expect(directory.tensors.size + directory.unsupported.size).toBe(written.length);
      expect(directory.metadata).toEqual(new Map([["format", "test"]]));
      for (const { name, type, shape, values } of written) {
        const tensor = findTensor(directory, name);
        expect([tensor.type, tensor.shape]).toEqual([type, shape]);
        expect(Buffer.compare(await tensor.source.read(tensor.range), values)).toBe(0);
      }
    }),
  );
});

test("every tensor begins at a multiple of its element's size", async () => {
  await fc.assert(
    fc.asyncProperty(fc.uniqueArray(arbitraryTensor, { selector: ({ name }) => name, maxLength: 6 }), async (written) => {
      const { tensors, unsupported } = await readSafetensors(memorySource(writeSafetensors(written)));
      for (const { type, range } of [...tensors.values(), ...unsupported.values()]) {
        expect(range.start % SAFETENSORS_BLOCKS[type as SafetensorsType].bytes).toBe(0);
      }
    }),
  );
});

test("typed arrays come back as the numbers that they held", async () => {
  const file = writeSafetensors([
    { name: "ids", type: "I64", shape: [2], values: BigInt64Array.of(7n, 151_643n) },
    { name: "logits", type: "F32", shape: [1, 3], values: Float32Array.of(0, -1.5, 3e38).subarray(0) },
    { name: "half", type: "F16", shape: [2], values: Uint16Array.of(0x3c00, 0xc500) },
    { name: "brain", type: "BF16", shape: [2], values: Uint16Array.of(0x3f80, 0xc0a0) },
  ]);
  const directory = await readSafetensors(memorySource(file));
  expect(await readTensorIds(directory, "ids")).toEqual([7, 151_643]);
  expect([...(await readTensorValues(directory, "logits"))]).toEqual([0, -1.5, Math.fround(3e38)]);
  expect([...(await readTensorValues(directory, "half"))]).toEqual([1, -5]);
  expect([...(await readTensorValues(directory, "brain"))]).toEqual([1, -5]);
});

test("a part of a larger buffer is written, not the whole buffer", async () => {
  const values = Float32Array.of(1, 2, 3, 4).subarray(1, 3);
  const directory = await readSafetensors(memorySource(writeSafetensors([{ name: "x", type: "F32", shape: [2], values }])));
  expect([...(await readTensorValues(directory, "x"))]).toEqual([2, 3]);
});

test.each<[string, WritableTensor[]]>([
  ["whose values do not fill its shape", [{ name: "x", type: "F32", shape: [3], values: Float32Array.of(1, 2) }]],
  ["called like another", ["x", "x"].map((name) => ({ name, type: "U8", shape: [1], values: Uint8Array.of(1) }))],
  ["called __metadata__", [{ name: "__metadata__", type: "U8", shape: [1], values: Uint8Array.of(1) }]],
])("a tensor %s is our own mistake", (_, tensors) => {
  expect(() => writeSafetensors(tensors)).toThrow("crescendo: internal");
});

test("the file has the bytes that the reference implementation writes", () => {
  const file = writeSafetensors([{ name: "attn.0", type: "F32", shape: [1, 2, 3], values: Float32Array.of(0, 1, 2, 3, 4, 5) }]);
  const header = '{"attn.0":{"dtype":"F32","shape":[1,2,3],"data_offsets":[0,24]}}';
  expect([...file.subarray(0, 8)]).toEqual([64, 0, 0, 0, 0, 0, 0, 0]);
  expect(new TextDecoder().decode(file.subarray(8, 72))).toBe(header);
  expect([...new Float32Array(file.slice(72).buffer)]).toEqual([0, 1, 2, 3, 4, 5]);
});
