// The cache's files in OPFS: a directory for each version of each cached file, and in it one file for every range that
// was read.
//
// A range's file is named by it ("4194304-8388608") and written once, whole. Whether it is whole shows in its length, so
// that a crash or a second tab can leave no half range that is taken for one; two tabs that write one range write the
// same bytes. Nothing is ever changed in place: writing into a large OPFS file copies it first (createWritable).

import type { ByteRange } from "./byte-source";
import { sha256Hex } from "./hash";

/** Which state of which file. */
export interface CachedFile {
  readonly url: string;
  readonly version: string;
  readonly size: number;
  /** As `ByteSource.modified`. */
  readonly modified?: string;
}

interface OpenedFile extends CachedFile {
  /** When it was last opened, in milliseconds since 1970. */
  readonly openedMs: number;
}

export interface CacheEntryInfo extends OpenedFile {
  /** How much of the file is here. */
  readonly cachedBytes: number;
}

const META_NAME = "file.json";
const ABSENT = "absent"; // no server's version: an ETag has quotes, a date has commas
// One 404 may be a hiccup of the hub, a captive portal, a server that is being restarted. What still is absent a day later is gone.
const ABSENCE_CONFIRMED_MS = 24 * 3_600_000;

export class CacheDirectory {
  readonly #root: FileSystemDirectoryHandle;

  constructor(root: FileSystemDirectoryHandle) {
    this.#root = root;
  }

  /** The entry for this state of the file, made where there is none. Entries for other states of it are dropped. */
  async open(file: CachedFile): Promise<CacheEntry> {
    const { entry, name, prefix } = await this.#make(file);
    await this.#dropOthers(prefix, name);
    return entry;
  }

  /**
   * Remembers that the server has no such file, which an offline visit needs to know too. What is cached of it stays until the absence is
   * confirmed: by the same answer a day after the first.
   */
  async openAbsent(url: string): Promise<void> {
    const absent = { url, version: ABSENT, size: 0 };
    const { prefix, name } = await namesOf(absent);
    const known = await this.#meta(name);
    if (known === undefined) await this.#make(absent);
    else if (Date.now() - known.openedMs >= ABSENCE_CONFIRMED_MS) await this.#dropOthers(prefix, name);
  }

  /** The state of `url` that was opened last, if one is here; that there is no such file (`isAbsent`) only where nothing else is known. */
  async find(url: string): Promise<CachedFile | undefined> {
    const { prefix } = await namesOf({ url, version: ABSENT, size: 0 });
    const found = await Promise.all((await this.#names(prefix)).map((name) => this.#meta(name)));
    const [latest] = found
      .filter((meta) => meta !== undefined)
      .sort((a, b) => Number(isAbsent(a)) - Number(isAbsent(b)) || b.openedMs - a.openedMs);
    return latest;
  }

  /** Whether every byte of this state of the file is here. */
  async isWhole(file: CachedFile): Promise<boolean> {
    const { name } = await namesOf(file);
    const directory = await unlessMissing(this.#root.getDirectoryHandle(name));
    const extents = directory ? await (await CacheEntry.scan(directory)).wholeExtents() : [];
    return coveredBytes(extents) === file.size;
  }

  async list(): Promise<CacheEntryInfo[]> {
    const entries: CacheEntryInfo[] = [];
    for (const name of await this.#names("")) {
      const meta = await this.#meta(name);
      if (meta === undefined || isAbsent(meta)) continue;
      const entry = await CacheEntry.scan(await this.#root.getDirectoryHandle(name));
      entries.push({ ...meta, cachedBytes: coveredBytes(await entry.wholeExtents()) });
    }
    return entries;
  }

  /** Drops every state of `url`. Returns whether all that was here is gone: what another tab is writing now stays. */
  async delete(url: string): Promise<boolean> {
    let isGone = true;
    const { prefix } = await namesOf({ url, version: ABSENT, size: 0 });
    for (const name of await this.#names(prefix)) isGone = (await this.#drop(name)) && isGone;
    return isGone;
  }

  async #make(file: CachedFile): Promise<{ readonly entry: CacheEntry; readonly name: string; readonly prefix: string }> {
    const { name, prefix } = await namesOf(file);
    const directory = await replacing(this.#root, name, () => this.#root.getDirectoryHandle(name, { create: true }));
    return { entry: await CacheEntry.load(directory, file), name, prefix };
  }

  async #dropOthers(prefix: string, kept: string): Promise<void> {
    for (const other of await this.#names(prefix)) if (other !== kept) await this.#drop(other);
  }

  async #names(prefix: string): Promise<string[]> {
    const names: string[] = [];
    for await (const name of this.#root.keys()) if (name.startsWith(prefix)) names.push(name);
    return names;
  }

  async #meta(name: string): Promise<OpenedFile | undefined> {
    const directory = await unlessMissing(this.#root.getDirectoryHandle(name));
    return directory && readMeta(directory);
  }

  /** Where another tab is writing there, the next opening tries again; until then only space is lost. */
  #drop(name: string): Promise<boolean> {
    return remove(this.#root, name);
  }
}

/** Whether the state is that there was no such file. */
export function isAbsent({ version }: CachedFile): boolean {
  return version === ABSENT;
}

interface StoredExtent extends ByteRange {
  readonly handle: FileSystemFileHandle;
}

/** The cached ranges of one state of one file. */
export class CacheEntry {
  readonly #directory: FileSystemDirectoryHandle;
  readonly #extents = new Map<string, StoredExtent>();

  private constructor(directory: FileSystemDirectoryHandle) {
    this.#directory = directory;
  }

  static async load(directory: FileSystemDirectoryHandle, file: CachedFile): Promise<CacheEntry> {
    const { url, version, size, modified } = file;
    try {
      await writeFile(directory, META_NAME, new TextEncoder().encode(JSON.stringify({ url, version, size, modified })));
    } catch (error) {
      // On a full disk only the date of opening stays old.
      if ((await readMeta(directory)) === undefined) throw error;
    }
    return CacheEntry.scan(directory);
  }

  static async scan(directory: FileSystemDirectoryHandle): Promise<CacheEntry> {
    const entry = new CacheEntry(directory);
    for await (const handle of directory.values()) {
      const match = /^(\d+)-(\d+)$/.exec(handle.name);
      if (match === null || !isFileHandle(handle)) continue;
      entry.#extents.set(handle.name, { start: Number(match[1]), end: Number(match[2]), handle });
    }
    return entry;
  }

  /** The ranges whose files are here; whether they are whole shows when they are read. */
  get extents(): ByteRange[] {
    return [...this.#extents.values()];
  }

  /** The bytes of `range`, which lies in `extent`; undefined, and the extent forgotten, where its file is not whole. */
  async read(extent: ByteRange, range: ByteRange): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const name = nameOf(extent);
    const stored = this.#extents.get(name);
    const file = stored && (await wholeFile(stored));
    const part = file?.slice(range.start - extent.start, range.end - extent.start);
    // Between getFile and here another tab may have dropped or replaced the file, which ends the snapshot.
    const bytes = part && (await unlessMissing(part.arrayBuffer(), "NotReadableError"));
    if (bytes === undefined) this.#extents.delete(name);
    return bytes && new Uint8Array(bytes);
  }

  /** @throws DOMException "QuotaExceededError" and whatever else keeps OPFS from writing. */
  async write(range: ByteRange, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const name = nameOf(range);
    const handle = await writeFile(this.#directory, name, bytes);
    if (handle !== undefined) this.#extents.set(name, { ...range, handle });
  }

  /** Removes whatever holds a byte of `range`. What another tab is writing just now stays on disk, but is not read again here. */
  async drop(range: ByteRange): Promise<void> {
    for (const [name, { start, end }] of [...this.#extents]) {
      if (end <= range.start || range.end <= start) continue;
      this.#extents.delete(name);
      await remove(this.#directory, name);
    }
  }

  async wholeExtents(): Promise<ByteRange[]> {
    const whole: ByteRange[] = [];
    for (const extent of this.#extents.values()) if (await wholeFile(extent)) whole.push(extent);
    return whole;
  }
}

/** Writes the file as one: until it is closed, the old content stands. Undefined where another tab is writing it. */
export async function writeFile(
  directory: FileSystemDirectoryHandle,
  name: string,
  bytes: Uint8Array<ArrayBuffer>,
): Promise<FileSystemFileHandle | undefined> {
  try {
    const handle = await replacing(directory, name, () => directory.getFileHandle(name, { create: true }));
    const writable = await handle.createWritable();
    try {
      await writable.write(bytes);
    } catch (error) {
      await writable.abort(error);
      throw error;
    }
    await writable.close();
    return handle;
  } catch (error) {
    if (isDomException(error, "NoModificationAllowedError")) return undefined;
    throw error;
  }
}

/** What `make` makes; where a file lies in a directory's place, or the other way round, that goes first. */
async function replacing<T>(directory: FileSystemDirectoryHandle, name: string, make: () => Promise<T>): Promise<T> {
  try {
    return await make();
  } catch (error) {
    if (!isDomException(error, "TypeMismatchError") || !(await remove(directory, name))) throw error;
    return make();
  }
}

/** Whether it is gone: what another tab is writing stays. */
async function remove(directory: FileSystemDirectoryHandle, name: string): Promise<boolean> {
  try {
    await directory.removeEntry(name, { recursive: true });
    return true;
  } catch (error) {
    if (isDomException(error, "NotFoundError")) return true;
    if (isDomException(error, "NoModificationAllowedError")) return false;
    throw error;
  }
}

async function wholeFile({ start, end, handle }: StoredExtent): Promise<File | undefined> {
  const file = await unlessMissing(handle.getFile());
  return file?.size === end - start ? file : undefined;
}

/** How many bytes the ranges cover, where they overlap counted once. */
function coveredBytes(ranges: readonly ByteRange[]): number {
  let covered = 0;
  let reached = 0;
  for (const { start, end } of [...ranges].sort((a, b) => a.start - b.start)) {
    covered += Math.max(0, end - Math.max(start, reached));
    reached = Math.max(reached, end);
  }
  return covered;
}

function nameOf({ start, end }: ByteRange): string {
  return `${start}-${end}`;
}

/** The name of the state's directory, and how those of all states of the file begin. */
async function namesOf({ url, version, size }: CachedFile): Promise<{ readonly name: string; readonly prefix: string }> {
  const prefix = `${(await digest(url)).slice(0, 32)}-`;
  return { prefix, name: `${prefix}${(await digest(`${version} ${size}`)).slice(0, 16)}` };
}

function digest(text: string): Promise<string> {
  return sha256Hex(new TextEncoder().encode(text));
}

/** Undefined for what is not there, was left half written by a crash or holds something else: that is no entry. */
async function readMeta(directory: FileSystemDirectoryHandle): Promise<OpenedFile | undefined> {
  const handle = await unlessMissing(directory.getFileHandle(META_NAME));
  const file = handle && (await unlessMissing(handle.getFile()));
  const text = file && (await unlessMissing(file.text(), "NotReadableError"));
  if (file === undefined || text === undefined) return undefined;
  const meta = parsedMeta(text);
  return meta && { ...meta, openedMs: file.lastModified };
}

function parsedMeta(text: string): CachedFile | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
  const { url, version, size, modified } = (value ?? {}) as Partial<Record<keyof CachedFile, unknown>>;
  const isMeta = typeof url === "string" && typeof version === "string" && Number.isSafeInteger(size);
  if (!isMeta) return undefined;
  return { url, version, size: size as number, ...(typeof modified === "string" && { modified }) };
}

/** What another tab may remove at any moment, or what is of another kind than ours, is undefined rather than an error. */
export async function unlessMissing<T>(promise: Promise<T>, ...alsoMissing: string[]): Promise<T | undefined> {
  try {
    return await promise;
  } catch (error) {
    if (isDomException(error, "NotFoundError", "TypeMismatchError", ...alsoMissing)) return undefined;
    throw error;
  }
}

function isDomException(error: unknown, ...names: string[]): boolean {
  return error instanceof DOMException && names.includes(error.name);
}

function isFileHandle(handle: FileSystemHandle): handle is FileSystemFileHandle {
  return handle.kind === "file";
}
