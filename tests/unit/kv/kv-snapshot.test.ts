// What of a snapshot goes back into a group of layers: pages that the same weights wrote for the same tokens, in the same layout, whole.
import { describe, expect, test } from "vitest";
import type { KvGroup } from "../../../src/kv/kv-cache";
import { findRestorable, type GroupSnapshot, type KvSnapshot } from "../../../src/kv/kv-snapshot";
import { pageHashes } from "../../../src/kv/page-hash";

const PAGE_SIZE = 16;
const PAGE_BYTES = PAGE_SIZE * 8;
const IDS = Array.from({ length: 40 }, (_, index) => index);

function groupOf(signature: string, buffers: readonly string[]): KvGroup {
  const paged = buffers.map((name) => ({ name, buffer: null, pageBytes: name === "residuals" ? 2 * PAGE_BYTES : PAGE_BYTES }));
  return { signature, layout: { pageSize: PAGE_SIZE }, pagedBuffers: () => paged } as unknown as KvGroup;
}

const group = groupOf("a", ["keys.0", "values.0", "residuals"]);

function snapshotWith(changes: Partial<GroupSnapshot> = {}, contents: Readonly<Record<string, number | null>> = {}): KvSnapshot {
  const pages = pageHashes("a", IDS, PAGE_SIZE);
  const sizes: Record<string, number | null> = {
    "keys.0": 3 * PAGE_BYTES,
    "values.0": 3 * PAGE_BYTES,
    residuals: 6 * PAGE_BYTES,
    ...contents,
  };
  const held = Object.entries(sizes).filter((entry): entry is [string, number] => entry[1] !== null);
  const saved = {
    signature: "a",
    pages,
    length: 40,
    recordedLength: 40,
    contents: new Map(held.map(([name, size]) => [name, new Uint8Array(size)])),
  };
  return { ids: IDS, pageSize: PAGE_SIZE, groups: [{ ...saved, ...changes }] };
}

describe("a group gets back", () => {
  test("all that a snapshot has of its tokens", () => {
    expect(findRestorable(snapshotWith(), group, IDS)).toMatchObject({ pageCount: 3, length: 40, recordedLength: 40 });
  });

  test("whole pages up to the first token that differs", () => {
    expect(findRestorable(snapshotWith(), group, IDS.with(20, 500))).toMatchObject({ pageCount: 1, length: 16, recordedLength: 16 });
    expect(findRestorable(snapshotWith(), group, IDS.with(3, 500))).toBeNull();
  });

  test.each<[string, KvSnapshot]>([
    ["of other weights", snapshotWith({ signature: "b" })],
    ["whose pages have another size", { ...snapshotWith(), pageSize: 32 }],
    ["whose keys are cut to half", snapshotWith({}, { "keys.0": (3 * PAGE_BYTES) / 2 })],
    ["whose keys and values are cut to half", snapshotWith({}, { "keys.0": 1.5 * PAGE_BYTES, "values.0": 1.5 * PAGE_BYTES })],
    ["of twice the bytes", snapshotWith({}, { "keys.0": 6 * PAGE_BYTES, "values.0": 6 * PAGE_BYTES })],
    ["without values", snapshotWith({}, { "values.0": null })],
    ["whose residuals are cut", snapshotWith({}, { residuals: 6 * PAGE_BYTES - 4 })],
    ["whose pages have other names", snapshotWith({ pages: ["0", "1", "2"] })],
    ["whose ids are others under the same names", { ...snapshotWith(), ids: IDS.map((id) => id + 1) }],
  ])("nothing of one %s", (_, snapshot) => expect(findRestorable(snapshot, group, IDS)).toBeNull());

  test("no residuals where the snapshot says it has them and has not", () => {
    expect(findRestorable(snapshotWith({}, { residuals: null }), group, IDS)).toMatchObject({ length: 40, recordedLength: 0 });
  });

  test("what fits where another group of the same signature does not", () => {
    const broken = snapshotWith({}, { "keys.0": PAGE_BYTES }).groups;
    const { groups } = snapshotWith();
    expect(findRestorable({ ...snapshotWith(), groups: [...broken, ...groups] }, group, IDS)).toMatchObject({ length: 40 });
  });
});
