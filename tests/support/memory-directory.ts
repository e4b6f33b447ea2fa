// A stand-in for an OPFS directory, for Node: files are replaced whole when a writer closes, locked while one is open, and
// may run into a quota. `truncate` does what a crash may do.

interface Disk {
  usedBytes: number;
  quotaBytes: number;
  writeCount: number;
  /** Thrown by every write, if set. */
  failure: DOMException | undefined;
}

export class MemoryDirectory {
  readonly kind = "directory";
  readonly name: string;
  readonly disk: Disk;
  readonly #entries = new Map<string, MemoryDirectory | MemoryFile>();
  #isRemoved = false;

  constructor(name = "", disk: Disk = { usedBytes: 0, quotaBytes: Number.POSITIVE_INFINITY, writeCount: 0, failure: undefined }) {
    this.name = name;
    this.disk = disk;
  }

  /** As code under test takes it. */
  get handle(): FileSystemDirectoryHandle {
    return this as unknown as FileSystemDirectoryHandle;
  }

  /** Every file below, by its path. */
  files(prefix = ""): { path: string; file: MemoryFile }[] {
    return [...this.#entries].flatMap(([name, entry]) =>
      entry instanceof MemoryFile ? [{ path: prefix + name, file: entry }] : entry.files(`${prefix}${name}/`),
    );
  }

  async getDirectoryHandle(name: string, { create = false } = {}): Promise<MemoryDirectory> {
    const found = this.#find(name, MemoryDirectory) ?? (create ? new MemoryDirectory(name, this.disk) : undefined);
    return this.#keep(name, found);
  }

  async getFileHandle(name: string, { create = false } = {}): Promise<MemoryFile> {
    const found = this.#find(name, MemoryFile) ?? (create ? new MemoryFile(name, this.disk) : undefined);
    return this.#keep(name, found);
  }

  async removeEntry(name: string, { recursive = false } = {}): Promise<void> {
    const entry = this.#entries.get(name);
    if (entry === undefined) throw new DOMException(`no ${name}`, "NotFoundError");
    if (entry instanceof MemoryDirectory && entry.#entries.size > 0 && !recursive) throw new DOMException("", "InvalidModificationError");
    const files = entry instanceof MemoryFile ? [entry] : entry.files().map(({ file }) => file);
    if (files.some((file) => file.writerCount > 0)) throw new DOMException("", "NoModificationAllowedError");
    for (const file of files) file.remove();
    if (entry instanceof MemoryDirectory) entry.#isRemoved = true;
    this.#entries.delete(name);
  }

  async *keys(): AsyncGenerator<string> {
    yield* [...this.#entries.keys()];
  }

  async *values(): AsyncGenerator<MemoryDirectory | MemoryFile> {
    yield* [...this.#entries.values()];
  }

  #find<T extends MemoryDirectory | MemoryFile>(name: string, type: new (name: string, disk: Disk) => T): T | undefined {
    const entry = this.#entries.get(name);
    if (entry === undefined || entry instanceof type) return entry;
    throw new DOMException(`${name} is of the other kind`, "TypeMismatchError");
  }

  #keep<T extends MemoryDirectory | MemoryFile>(name: string, entry: T | undefined): T {
    if (entry === undefined || this.#isRemoved) throw new DOMException(`no ${name}`, "NotFoundError");
    this.#entries.set(name, entry);
    return entry;
  }
}

export class MemoryFile {
  readonly kind = "file";
  readonly name: string;
  writerCount = 0;
  readonly #disk: Disk;
  #content = new Uint8Array();
  #modifiedMs = Date.now();
  #isRemoved = false;

  constructor(name: string, disk: Disk) {
    this.name = name;
    this.#disk = disk;
  }

  truncate(length: number): void {
    this.#content = this.#content.slice(0, length);
  }

  remove(): void {
    this.#disk.usedBytes -= this.#content.length;
    this.#isRemoved = true;
  }

  async getFile(): Promise<File> {
    if (this.#isRemoved) throw new DOMException(`no ${this.name}`, "NotFoundError");
    return new File([this.#content], this.name, { lastModified: this.#modifiedMs });
  }

  async createWritable(): Promise<{ write(bytes: Uint8Array): Promise<void>; close(): Promise<void>; abort(): Promise<void> }> {
    if (this.#isRemoved) throw new DOMException(`no ${this.name}`, "NotFoundError");
    this.writerCount += 1;
    let next = new Uint8Array();
    return {
      write: async (bytes) => {
        if (this.#disk.failure) throw this.#disk.failure;
        if (this.#disk.usedBytes + bytes.length > this.#disk.quotaBytes) throw new DOMException("full", "QuotaExceededError");
        next = new Uint8Array([...next, ...bytes]);
      },
      close: async () => {
        this.writerCount -= 1;
        this.#disk.usedBytes += next.length - this.#content.length;
        this.#disk.writeCount += 1;
        this.#content = next;
        this.#modifiedMs = Date.now();
      },
      abort: async () => {
        this.writerCount -= 1;
      },
    };
  }
}
