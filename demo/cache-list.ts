// Lists the models cached in this browser with their sizes, and deletes them.
import { type CacheEntryInfo, cacheEntries, deleteCacheEntry } from "../src/index";
import { element, make } from "./dom";
import { EMBEDDED_PATH, EMBEDDED_TITLE } from "./model-choice";
import { formatBytes } from "./wording";

export class CacheList {
  readonly #list = element("cache-list", HTMLElement);
  readonly #note = element("cache-note", HTMLElement);

  async refresh(): Promise<void> {
    try {
      const entries = await cacheEntries();
      const bySize = cachedModels(entries).sort((a, b) => b.cachedBytes - a.cachedBytes);
      this.#list.replaceChildren(...bySize.map((model) => this.#row(model)));
      this.#note.textContent = entries.length === 0 ? "Nothing yet." : `${formatBytes(sum(entries))} in all.`;
    } catch (error) {
      this.#list.replaceChildren();
      this.#note.textContent = error instanceof Error ? error.message : String(error);
    }
  }

  #row(model: CachedModel): HTMLElement {
    const { name, urls } = model;
    const isWhole = model.cachedBytes >= model.size;
    const size = isWhole ? formatBytes(model.size) : `${formatBytes(model.cachedBytes)} of ${formatBytes(model.size)}`;
    const remove = make("button", "text-button", "Delete");
    remove.type = "button";
    remove.ariaLabel = `Delete ${name}`;
    remove.addEventListener("click", () => void this.#delete(model, remove));
    const label = make("span", "cache-name", name);
    label.title = urls.join("\n");
    return make("li", "", label, make("span", "cache-size", size), remove);
  }

  async #delete({ urls }: CachedModel, button: HTMLButtonElement): Promise<void> {
    button.disabled = true;
    const areGone = await Promise.all(urls.map((url) => deleteCacheEntry(url)));
    await this.refresh();
    if (areGone.includes(false)) this.#note.textContent = "Another tab is writing this file; try again when it is done.";
  }
}

type CachedFile = Pick<CacheEntryInfo, "url" | "size" | "cachedBytes">;

/** The cached files of one model: its weights and the files beside them. */
export interface CachedModel {
  readonly name: string;
  readonly urls: readonly string[];
  readonly cachedBytes: number;
  readonly size: number;
}

/** The files of one folder are a model. Each GGUF is a model of its own; the first in a folder also gets the other files. */
export function cachedModels(entries: readonly CachedFile[]): CachedModel[] {
  const byFolder = new Map<string, CachedFile[]>();
  for (const entry of entries) {
    const folder = new URL(".", entry.url).href;
    byFolder.set(folder, [...(byFolder.get(folder) ?? []), entry]);
  }
  return [...byFolder.values()].flatMap((files) => {
    const [first, ...others] = files.filter(({ url }) => /\.gguf$/i.test(new URL(url).pathname));
    const beside = files.filter((file) => file !== first && !others.includes(file));
    return [cachedModel([...(first ? [first] : []), ...beside]), ...others.map((file) => cachedModel([file]))];
  });
}

function cachedModel(files: readonly CachedFile[]): CachedModel {
  const urls = files.map(({ url }) => url);
  const [first = ""] = urls;
  const isNamedByFile = files.length === 1 || /\.gguf$/i.test(new URL(first).pathname);
  const name = isNamedByFile ? nameOf(first) : nameOf(first).replace(/\/[^/]*$/, "");
  return { name, urls, cachedBytes: sum(files), size: files.reduce((bytes, { size }) => bytes + size, 0) };
}

const sum = (entries: readonly CachedFile[]) => entries.reduce((bytes, { cachedBytes }) => bytes + cachedBytes, 0);

/** The embedded model's title; "owner/name/file" for a hub's "/owner/name/resolve/main/file"; otherwise the last two parts of the path. */
export function nameOf(url: string): string {
  const path = decodeURIComponent(new URL(url).pathname);
  if (path.endsWith(`/${EMBEDDED_PATH}`)) return EMBEDDED_TITLE;
  const [, repository, file] = /^\/([^/]+\/[^/]+)\/resolve\/[^/]+\/(.+)$/.exec(path) ?? [];
  return repository && file ? `${repository}/${file}` : path.split("/").filter(Boolean).slice(-2).join("/");
}
