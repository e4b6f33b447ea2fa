// K/V of a sequence in CPU memory: taken by buffer copies and asynchronous mapping, written back by buffer copies, with no arithmetic either way.
import type { Gpu } from "../gpu/device";
import { type KvGroup, type PagedBuffer, RESIDUALS } from "./kv-cache";
import { pageHashes } from "./page-hash";
import type { PageId } from "./page-pool";

/** What a snapshot has of a group of layers. */
export interface GroupSnapshot {
  /** Of the weights that wrote it: see `KvGroupShape`. */
  readonly signature: string;
  /** Names of the pages in order (`pageHashes`); the last one may be filled in part. */
  readonly pages: readonly string[];
  /** Positions that the pages hold. */
  readonly length: number;
  /** Of them, those whose residual leaving the group is among the contents. */
  readonly recordedLength: number;
  /** By the name of a paged buffer: its pages one after another. */
  readonly contents: ReadonlyMap<string, Uint8Array<ArrayBuffer>>;
}

export interface KvSnapshot {
  readonly ids: readonly number[];
  readonly pageSize: number;
  readonly groups: readonly GroupSnapshot[];
}

/** A sequence's pages in a group. */
export interface HeldPages {
  readonly group: KvGroup;
  readonly pages: readonly PageId[];
  readonly cachedLength: number;
  readonly recordedLength: number;
}

export function snapshotBytes({ groups }: KvSnapshot): number {
  return groups.reduce((sum, { contents }) => sum + [...contents.values()].reduce((bytes, content) => bytes + content.byteLength, 0), 0);
}

// What is copied and mapped at once: large enough that a map's round trip counts little, small beside what a page of a chat may hold.
const STAGING_BYTES = 8 * 2 ** 20;

/**
 * Copies what `held` has of `ids`. The pages must not be written to until it resolves.
 *
 * @throws LlmError "out-of-memory"; the signal's reason.
 */
export async function takeKvSnapshot(
  gpu: Gpu,
  held: readonly HeldPages[],
  ids: readonly number[],
  signal?: AbortSignal,
): Promise<KvSnapshot> {
  const pageSize = held[0]?.group.layout.pageSize ?? 1;
  const staging = await Staging.create(gpu);
  try {
    const groups: GroupSnapshot[] = [];
    for (const { group, pages, cachedLength, recordedLength } of held) {
      const length = Math.min(cachedLength, ids.length);
      const used = pages.slice(0, Math.ceil(length / pageSize));
      const contents = new Map<string, Uint8Array<ArrayBuffer>>();
      for (const paged of group.pagedBuffers()) {
        if (paged.name === RESIDUALS && recordedLength === 0) continue;
        signal?.throwIfAborted();
        contents.set(paged.name, await staging.read(paged, used, signal));
      }
      const names = pageHashes(group.signature, ids.slice(0, length), pageSize);
      groups.push({ signature: group.signature, pages: names, length, recordedLength: Math.min(recordedLength, length), contents });
    }
    return { ids, pageSize, groups };
  } finally {
    staging.destroy();
  }
}

/** How much of a sequence's ids a snapshot can give back to a group, and where from. */
export interface Restorable {
  readonly snapshot: GroupSnapshot;
  /** Whole pages from the start, and the last one if it holds no more than the sequence shares. */
  readonly pageCount: number;
  readonly length: number;
  readonly recordedLength: number;
}

/**
 * What `snapshot` has for `group`: the pages from the start whose names are those of `ids`. Null where there are none: other weights wrote it, other
 * tokens, or pages of another size.
 */
export function findRestorable(snapshot: KvSnapshot, group: KvGroup, ids: readonly number[]): Restorable | null {
  const { pageSize } = group.layout;
  const found = snapshot.groups.find(({ signature }) => signature === group.signature);
  if (!found || snapshot.pageSize !== pageSize || !hasBuffers(found, group)) return null;
  const names = pageHashes(group.signature, ids.slice(0, found.length), pageSize);
  let pageCount = 0;
  while (pageCount < names.length && names[pageCount] === found.pages[pageCount]) pageCount++;
  const length = Math.min(pageCount * pageSize, found.length);
  // Names are hashes; the ids are there to be compared.
  if (pageCount === 0 || !snapshot.ids.slice(0, length).every((id, at) => id === ids[at])) return null;
  return { snapshot: found, pageCount, length, recordedLength: Math.min(found.recordedLength, length) };
}

/** Writes the pages into `pages` of the group. Bytes moved. */
export function restorePages(gpu: Gpu, group: KvGroup, pages: readonly PageId[], { snapshot, pageCount }: Restorable): number {
  let bytes = 0;
  for (const { name, buffer, pageBytes } of group.pagedBuffers()) {
    const content = snapshot.contents.get(name);
    if (!content) continue;
    for (const { page, first, count } of pageRuns(pages.slice(0, pageCount))) {
      gpu.device.queue.writeBuffer(buffer, page * pageBytes, content, first * pageBytes, count * pageBytes);
      bytes += count * pageBytes;
    }
  }
  return bytes;
}

function hasBuffers({ contents }: GroupSnapshot, group: KvGroup): boolean {
  return group.pagedBuffers().every(({ name }) => name === RESIDUALS || contents.has(name));
}

/** Pages that lie side by side in the pool, so that one copy moves them. */
function pageRuns(pages: readonly PageId[]): { readonly page: number; readonly first: number; count: number }[] {
  const runs: { readonly page: number; readonly first: number; count: number }[] = [];
  for (const [index, page] of pages.entries()) {
    const last = runs.at(-1);
    if (last && page === last.page + last.count) last.count++;
    else runs.push({ page, first: index, count: 1 });
  }
  return runs;
}

class Staging {
  readonly #gpu: Gpu;
  readonly #buffer: GPUBuffer;
  readonly #release: () => void;

  private constructor(gpu: Gpu, buffer: GPUBuffer, release: () => void) {
    this.#gpu = gpu;
    this.#buffer = buffer;
    this.#release = release;
  }

  static async create(gpu: Gpu): Promise<Staging> {
    const usage = GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ;
    const buffer = await gpu.checked(
      "a snapshot on its way",
      () => gpu.createBuffer("snapshot", STAGING_BYTES, "scratch", usage),
      (made) => made.destroy(),
    );
    return new Staging(gpu, buffer.raw, () => buffer.destroy());
  }

  /** The pages, one after another. */
  async read({ buffer, pageBytes }: PagedBuffer, pages: readonly PageId[], signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    const content = new Uint8Array(pages.length * pageBytes);
    const atOnce = Math.max(1, Math.floor(STAGING_BYTES / pageBytes));
    for (let start = 0; start < pages.length; start += atOnce) {
      signal?.throwIfAborted();
      const some = pages.slice(start, start + atOnce);
      const bytes = some.length * pageBytes;
      const encoder = this.#gpu.device.createCommandEncoder();
      for (const { page, first, count } of pageRuns(some)) {
        encoder.copyBufferToBuffer(buffer, page * pageBytes, this.#buffer, first * pageBytes, count * pageBytes);
      }
      this.#gpu.device.queue.submit([encoder.finish()]);
      await this.#buffer.mapAsync(GPUMapMode.READ, 0, bytes);
      content.set(new Uint8Array(this.#buffer.getMappedRange(0, bytes)), start * pageBytes);
      this.#buffer.unmap();
    }
    return content;
  }

  destroy(): void {
    this.#release();
  }
}
