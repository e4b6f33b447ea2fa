// Copying a page, as a chat does that writes to one which others read too.
import { expect, test } from "vitest";
import { KvGroup, type KvGroupShape } from "../../../src/kv/kv-cache";
import type { PageId } from "../../../src/kv/page-pool";
import { type FakeBuffer, fakeOpenGpu } from "../../support/fake-device";

const LAYOUT = { kvHeadCount: 1, headDim: 16, pageSize: 16, pageCount: 4, format: "f16", residualStride: 32 } as const;

async function group(shape: Partial<KvGroupShape> = {}) {
  const gpu = await fakeOpenGpu();
  return { gpu, group: new KvGroup(gpu, LAYOUT, { first: 0, end: 2, layers: [0, 1], signature: "a", recordsResidual: true, ...shape }) };
}

const page = (index: number) => index as PageId;

// Firefox and Deno refuse a copy within one buffer, and with it all that was submitted together.
test("all that the page holds is copied, nothing else changes, and no copy stays within one buffer", async () => {
  const { gpu, group: kv } = await group();
  const buffers = kv.pagedBuffers().map(({ buffer, pageBytes }) => ({ bytes: (buffer as unknown as FakeBuffer).bytes, pageBytes }));
  expect(buffers.map(({ pageBytes }) => pageBytes)).toEqual([512, 512, 512, 512, 2048]);
  for (const [index, { bytes }] of buffers.entries())
    for (const at of bytes.keys()) bytes[at] = index + Math.floor((at * 4) / bytes.length) * 16;
  kv.copyPage(page(3), page(1));
  for (const [index, { bytes, pageBytes }] of buffers.entries()) {
    const pages = Array.from({ length: 4 }, (_, at) => [...new Set(bytes.subarray(at * pageBytes, (at + 1) * pageBytes))]);
    expect(pages).toEqual([[index], [index + 48], [index + 32], [index + 48]]);
  }
  expect(gpu.memory().scratch).toBe(0);
});

test("a group whose layers are all absent has nothing to copy", async () => {
  const { gpu, group: kv } = await group({ layers: [], recordsResidual: false });
  kv.copyPage(page(0), page(1));
  expect(gpu.memory().bufferCount).toBe(0);
});
