// The models kept in this browser, with their sizes, to look at and to delete.
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
      const bySize = entries.sort((a, b) => b.cachedBytes - a.cachedBytes);
      this.#list.replaceChildren(...bySize.map((entry) => this.#row(entry)));
      this.#note.textContent = entries.length === 0 ? "Nothing yet." : `${formatBytes(sum(entries))} in all.`;
    } catch (error) {
      this.#list.replaceChildren();
      this.#note.textContent = error instanceof Error ? error.message : String(error);
    }
  }

  #row(entry: CacheEntryInfo): HTMLElement {
    const name = nameOf(entry.url);
    const isWhole = entry.cachedBytes >= entry.size;
    const size = isWhole ? formatBytes(entry.size) : `${formatBytes(entry.cachedBytes)} of ${formatBytes(entry.size)}`;
    const remove = make("button", "text-button", "Delete");
    remove.type = "button";
    remove.ariaLabel = `Delete ${name}`;
    remove.addEventListener("click", () => void this.#delete(entry, remove));
    const label = make("span", "cache-name", name);
    label.title = entry.url;
    return make("li", "", label, make("span", "cache-size", size), remove);
  }

  async #delete({ url }: CacheEntryInfo, button: HTMLButtonElement): Promise<void> {
    button.disabled = true;
    const isGone = await deleteCacheEntry(url);
    await this.refresh();
    if (!isGone) this.#note.textContent = "Another tab is writing this file; try again when it is done.";
  }
}

const sum = (entries: readonly CacheEntryInfo[]) => entries.reduce((bytes, { cachedBytes }) => bytes + cachedBytes, 0);

/** The embedded model by its title; a hub's "/owner/name/resolve/main/file" without what says nothing; else the last two parts of the path. */
export function nameOf(url: string): string {
  const path = decodeURIComponent(new URL(url).pathname);
  if (path.endsWith(`/${EMBEDDED_PATH}`)) return EMBEDDED_TITLE;
  const [, repository, file] = /^\/([^/]+\/[^/]+)\/resolve\/[^/]+\/(.+)$/.exec(path) ?? [];
  return repository && file ? `${repository}/${file}` : path.split("/").filter(Boolean).slice(-2).join("/");
}
