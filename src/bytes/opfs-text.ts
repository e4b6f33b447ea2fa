// A small text that survives a reload: one file at the root of OPFS, outside the cache, which may be emptied.
import { unlessMissing, writeFile } from "./cache-directory";
import { opfsRoot } from "./opfs-cache";

export class OpfsText {
  readonly #name: string;
  readonly #root: () => Promise<FileSystemDirectoryHandle>;

  /** `root`: the directory that holds it, if not OPFS's own. */
  constructor(name: string, root: () => Promise<FileSystemDirectoryHandle> = opfsRoot) {
    this.#name = name;
    this.#root = root;
  }

  /** Null where nothing was written. @throws LlmError "unsupported" where there is no OPFS. */
  async read(): Promise<string | null> {
    const handle = await unlessMissing((await this.#root()).getFileHandle(this.#name));
    const file = handle && (await unlessMissing(handle.getFile()));
    return (file && (await unlessMissing(file.text(), "NotReadableError"))) ?? null;
  }

  /** As one: a reader sees what was there before, or all of it. Where another tab is writing, that one's stays. @throws As `read`; DOMException. */
  async write(text: string): Promise<void> {
    await writeFile(await this.#root(), this.#name, new TextEncoder().encode(text));
  }
}
