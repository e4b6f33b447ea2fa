// Bulk uploads: every byte at its place, whatever the pieces, and nothing of what was called off.
import { expect, test } from "vitest";
import type { GpuTensor } from "../../src/gpu/buffer";
import { readback } from "../../src/gpu/readback";
import { inPieces } from "../../src/gpu/uploads";
import { seededRandom } from "../support/random";
import { getTestGpu } from "../support/test-gpu";

const MIB = 2 ** 20;

async function withTarget(bytes: number, test: (target: GpuTensor, write: Awaited<ReturnType<typeof getTestGpu>>) => Promise<void>) {
  const gpu = (await getTestGpu()).share();
  try {
    const usage = GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST | GPUBufferUsage.STORAGE;
    await test(gpu.createBuffer("target", bytes, "scratch", usage).view(), gpu);
  } finally {
    gpu.dispose();
  }
}

function randomBytes(length: number): Uint8Array<ArrayBuffer> {
  const random = seededRandom(`uploads ${length}`);
  return new Uint8Array(Uint32Array.from({ length: length / 4 }, () => random.integer(2 ** 32)).buffer);
}

test("writes that are larger than a piece, smaller, and under way together put every byte at its place", async () => {
  await withTarget(8 * MIB, async (target, gpu) => {
    const expected = new Uint8Array(8 * MIB);
    const writes = [
      { offset: 0, length: 5 * MIB + 12 },
      { offset: 6 * MIB, length: 4 },
      { offset: 6 * MIB + 8, length: 1024 },
      { offset: 7 * MIB, length: MIB },
    ].map(({ offset, length }) => {
      const bytes = randomBytes(length);
      expected.set(bytes, offset);
      return { buffer: target.buffer, offset, bytes };
    });
    const [first, ...others] = writes;
    await Promise.all([gpu.uploads.write(first ? [first] : []), gpu.uploads.write(others)]);
    const found = new Uint8Array(await readback(gpu, target));
    expect(found.findIndex((byte, at) => byte !== expected[at])).toBe(-1);
  });
});

test("a write that is called off leaves the rest of its buffer alone, and the next write goes through", async () => {
  await withTarget(12 * MIB, async (target, gpu) => {
    const bytes = new Uint8Array(12 * MIB).fill(7);
    const abort = new AbortController();
    const write = gpu.uploads.write([{ buffer: target.buffer, offset: 0, bytes }], abort.signal);
    abort.abort(new Error("called off"));
    await expect(write).rejects.toThrow("called off");
    expect(new Uint8Array(await readback(gpu, target)).at(-1)).toBe(0);
    await gpu.uploads.write([{ buffer: target.buffer, offset: 4, bytes: bytes.subarray(0, 4) }]);
    expect([...new Uint8Array(await readback(gpu, target)).subarray(4, 8)]).toEqual([7, 7, 7, 7]);
  });
});

test("a write on a device that is gone says so", async () => {
  await withTarget(64, async (target, gpu) => {
    gpu.dispose();
    await expect(gpu.uploads.write([{ buffer: target.buffer, offset: 0, bytes: new Uint8Array(4) }])).rejects.toThrow(/disposed/);
  });
});

test("pieces hold all bytes in order, and none is larger than it may be", () => {
  const buffer = {} as GPUBuffer;
  const pieces = inPieces(
    [
      { buffer, offset: 100, bytes: new Uint8Array(10).fill(1) },
      { buffer, offset: 0, bytes: new Uint8Array(4).fill(2) },
    ],
    8,
  );
  expect(pieces.map((piece) => piece.map(({ offset, bytes }) => [offset, bytes.length]))).toEqual([
    [[100, 8]],
    [
      [108, 2],
      [0, 4],
    ],
  ]);
});
