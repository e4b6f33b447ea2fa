// Finds full pages by their tokens and all tokens before them, so that sequences with a common prefix share pages. Each group of layers has its
// own index; its weights are one version, so equal tokens mean equal K/V. Knows no GPU.
import type { PageId, PagePool } from "./page-pool";

export interface NamedPage {
  readonly page: PageId;
  /** Whether the page also holds the residual that leaves the group. */
  readonly isRecorded: boolean;
}

interface Entry extends NamedPage {
  /** Identifies this page together with all pages before it. */
  readonly id: number;
}

const ROOT = 0;

export class PrefixIndex {
  readonly #pool: PagePool;
  /** Keyed by the preceding entry and the page's ids themselves, so different contents never share a key. */
  readonly #entries = new Map<string, Entry>();
  #lastId = ROOT;

  constructor(pool: PagePool) {
    this.#pool = pool;
  }

  /** The known full pages from the start of `ids`. */
  find(ids: readonly number[]): readonly NamedPage[] {
    return this.#walk(ids, (key) => this.#entries.get(key));
  }

  /** Names the full pages of a sequence that are not known yet. If another page has the same contents, that page stays the known one. */
  publish(ids: readonly number[], pages: readonly PageId[], recordedLength: number): void {
    const { pageSize } = this.#pool;
    this.#walk(ids, (key, index) => {
      const known = this.#entries.get(key);
      const page = pages[index];
      if (known || page === undefined) return known;
      const entry: Entry = { page, isRecorded: recordedLength >= (index + 1) * pageSize, id: ++this.#lastId };
      this.#entries.set(key, entry);
      this.#pool.name(page, () => this.#entries.delete(key));
      return entry;
    });
  }

  #walk(ids: readonly number[], step: (key: string, index: number) => Entry | undefined): Entry[] {
    const { pageSize } = this.#pool;
    const found: Entry[] = [];
    for (let index = 0; (index + 1) * pageSize <= ids.length; index++) {
      const parent = found.at(-1)?.id ?? ROOT;
      const entry = step(`${parent}:${ids.slice(index * pageSize, (index + 1) * pageSize).join()}`, index);
      if (!entry) break;
      found.push(entry);
    }
    return found;
  }
}
