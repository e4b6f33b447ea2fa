// K/V of a sequence in CPU memory: taken by buffer copies and asynchronous mapping, written back by buffer copies, with no arithmetic either way.
import { sleep } from "../bytes/abort";
import type { TrackedBuffer } from "../gpu/buffer";
import type { Gpu } from "../gpu/device";
import type { Upload } from "../gpu/uploads";
import { BUFFER_USAGE, MAP_MODE } from "../gpu/webgpu-flags";
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

export interface SnapshotOptions {
  /** Beside decode steps, which it must not hold up: a piece at a time, and longer pauses than pieces. */
  readonly gentle?: boolean;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Copies what `held` has of `ids`. The pages must not be written to, and the groups be held, until it resolves.
 *
 * @throws LlmError "out-of-memory"; the signal's reason.
 */
export async function takeKvSnapshot(
  gpu: Gpu,
  held: readonly HeldPages[],
  ids: readonly number[],
  options: SnapshotOptions = {},
): Promise<KvSnapshot> {
  const pageSize = held[0]?.group.layout.pageSize ?? 1;
  const buffers = held.map(({ group }) => group.pagedBuffers()); // a group may give its residuals up meanwhile
  const downloads = await PageDownloads.create(gpu, Math.max(0, ...buffers.flat().map((paged) => paged.pageBytes)), options);
  try {
    const groups: GroupSnapshot[] = [];
    for (const [index, { group, pages, cachedLength, recordedLength }] of held.entries()) {
      const length = Math.min(cachedLength, ids.length);
      const used = pages.slice(0, Math.ceil(length / pageSize));
      const contents = new Map<string, Uint8Array<ArrayBuffer>>();
      for (const paged of buffers[index] ?? []) {
        if (paged.name === RESIDUALS && recordedLength === 0) continue;
        contents.set(paged.name, await downloads.read(paged, used));
      }
      const names = pageHashes(group.signature, ids.slice(0, length), pageSize);
      groups.push({ signature: group.signature, pages: names, length, recordedLength: Math.min(recordedLength, length), contents });
    }
    return { ids, pageSize, groups };
  } finally {
    downloads.destroy();
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
 * tokens, or pages of another size or layout.
 */
export function findRestorable(snapshot: KvSnapshot, group: KvGroup, ids: readonly number[]): Restorable | null {
  const { pageSize } = group.layout;
  if (snapshot.pageSize !== pageSize) return null;
  const found = snapshot.groups.find((each) => each.signature === group.signature && fits(each, group));
  if (!found) return null;
  const names = pageHashes(group.signature, ids.slice(0, found.length), pageSize);
  let pageCount = 0;
  while (pageCount < names.length && names[pageCount] === found.pages[pageCount]) pageCount++;
  const length = Math.min(pageCount * pageSize, found.length);
  // Names are hashes; the ids are there to be compared.
  if (pageCount === 0 || !snapshot.ids.slice(0, length).every((id, at) => id === ids[at])) return null;
  const recordedLength = found.contents.has(RESIDUALS) ? Math.min(found.recordedLength, length) : 0;
  return { snapshot: found, pageCount, length, recordedLength };
}

/** Writes the pages into `pages` of the group, and gives the bytes moved. Throws as `Uploads.write` does. */
export async function restorePages(
  gpu: Gpu,
  group: KvGroup,
  pages: readonly number[],
  { snapshot, pageCount }: Restorable,
  signal?: AbortSignal,
): Promise<number> {
  const uploads: Upload[] = [];
  for (const { name, buffer, pageBytes } of group.pagedBuffers()) {
    const content = snapshot.contents.get(name);
    if (!content) continue;
    for (const { page, first, count } of pageRuns(pages.slice(0, pageCount))) {
      uploads.push({ buffer, offset: page * pageBytes, bytes: content.subarray(first * pageBytes, (first + count) * pageBytes) });
    }
  }
  await gpu.uploads.write(uploads, signal);
  return uploads.reduce((sum, { bytes }) => sum + bytes.byteLength, 0);
}

/** Whether the snapshot has each of the group's buffers, page for page. Only residuals may be missing. */
function fits({ contents, pages }: GroupSnapshot, group: KvGroup): boolean {
  return group.pagedBuffers().every(({ name, pageBytes }) => {
    const content = contents.get(name);
    return content ? content.byteLength === pages.length * pageBytes : name === RESIDUALS;
  });
}

/** Pages that lie side by side in the pool, so that one copy moves them. */
function pageRuns(pages: readonly number[]): { readonly page: number; readonly first: number; count: number }[] {
  const runs: { readonly page: number; readonly first: number; count: number }[] = [];
  for (const [index, page] of pages.entries()) {
    const last = runs.at(-1);
    if (last && page === last.page + last.count) last.count++;
    else runs.push({ page, first: index, count: 1 });
  }
  return runs;
}

// What is copied and mapped at once: a page's thread and the browser's GPU process copy it too, and are to be held up for less than a step.
const PIECE_BYTES = 2 ** 20;
const PIECES_AT_ONCE = 4;
const PAUSE_FACTOR = 2;

class PageDownloads {
  readonly #gpu: Gpu;
  readonly #staging: readonly TrackedBuffer[];
  readonly #options: SnapshotOptions;

  private constructor(gpu: Gpu, staging: readonly TrackedBuffer[], options: SnapshotOptions) {
    this.#gpu = gpu;
    this.#staging = staging;
    this.#options = options;
  }

  static async create(gpu: Gpu, largestPageBytes: number, options: SnapshotOptions): Promise<PageDownloads> {
    const usage = BUFFER_USAGE.COPY_DST | BUFFER_USAGE.MAP_READ;
    const bytes = Math.max(PIECE_BYTES, largestPageBytes);
    const count = options.gentle ? 1 : PIECES_AT_ONCE;
    const staging = await gpu.checked(
      "a snapshot on its way",
      () => Array.from({ length: count }, () => gpu.createBuffer("snapshot", bytes, "scratch", usage)),
      destroyAll,
    );
    return new PageDownloads(gpu, staging, options);
  }

  /** The pages, one after another. */
  async read(paged: PagedBuffer, pages: readonly PageId[]): Promise<Uint8Array<ArrayBuffer>> {
    const { gentle, signal } = this.#options;
    const content = new Uint8Array(pages.length * paged.pageBytes);
    const atOnce = Math.max(1, Math.floor(PIECE_BYTES / paged.pageBytes));
    for (let start = 0; start < pages.length; start += this.#staging.length * atOnce) {
      signal?.throwIfAborted();
      const startMs = performance.now();
      await Promise.all(
        this.#staging.map(({ raw }, index) => {
          const first = start + index * atOnce;
          return this.#readPiece(raw, paged, pages.slice(first, first + atOnce), content.subarray(first * paged.pageBytes));
        }),
      );
      if (gentle) await sleep(PAUSE_FACTOR * (performance.now() - startMs), signal);
    }
    return content;
  }

  async #readPiece(staging: GPUBuffer, { buffer, pageBytes }: PagedBuffer, pages: readonly PageId[], into: Uint8Array): Promise<void> {
    const bytes = pages.length * pageBytes;
    if (bytes === 0) return;
    this.#gpu.checkLive(); // the device may be another engine's too, which would hear of the error
    const encoder = this.#gpu.device.createCommandEncoder();
    for (const { page, first, count } of pageRuns(pages)) {
      encoder.copyBufferToBuffer(buffer, page * pageBytes, staging, first * pageBytes, count * pageBytes);
    }
    this.#gpu.device.queue.submit([encoder.finish()]);
    await this.#gpu.mapped(staging, MAP_MODE.READ, 0, bytes);
    into.set(new Uint8Array(staging.getMappedRange(0, bytes)));
    staging.unmap();
  }

  destroy(): void {
    destroyAll(this.#staging);
  }
}

function destroyAll(buffers: readonly TrackedBuffer[]): void {
  for (const buffer of buffers) buffer.destroy();
}
