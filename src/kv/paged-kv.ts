// K and V of one sequence in a group of layers, in pages of the group's pool.
import type { KvGroup } from "./kv-cache";
import type { HeldPages } from "./kv-snapshot";
import type { LayerState } from "./layer-state";
import type { PageId } from "./page-pool";
import { PageTable } from "./page-table";

export class PagedKv implements LayerState {
  readonly group: KvGroup;
  readonly #table: PageTable;
  #cachedLength = 0;
  #recordedLength = 0;

  constructor(group: KvGroup) {
    this.group = group;
    this.#table = new PageTable(group.pool);
  }

  get cachedLength(): number {
    return this.#cachedLength;
  }

  get recordedLength(): number {
    return this.group.residuals ? this.#recordedLength : 0;
  }

  get capacity(): number {
    return this.#table.capacity;
  }

  get version(): number {
    return this.#table.version;
  }

  get places(): readonly PageId[] {
    return this.#table.pages;
  }

  reserve(positions: number): boolean {
    return this.#table.reserve(positions);
  }

  own(): boolean {
    const { pageSize } = this.group.layout;
    if (this.#cachedLength % pageSize === 0) return true;
    const copy = this.#table.own(Math.floor(this.#cachedLength / pageSize));
    if (copy) this.group.copyPage(copy.from, copy.to);
    return copy !== false;
  }

  append(length: number): void {
    // A residual is recorded with the K/V below it. Later positions do not close a gap in the record.
    if (this.group.recordsResidual && this.#recordedLength >= Math.min(this.#cachedLength, length)) this.#recordedLength = length;
    this.#recordedLength = Math.min(this.#recordedLength, length);
    this.#cachedLength = length;
  }

  truncate(length: number): number {
    this.#cachedLength = Math.min(this.#cachedLength, length);
    this.#recordedLength = Math.min(this.#recordedLength, length);
    this.#table.truncate(this.#cachedLength);
    return this.#cachedLength;
  }

  checkpoint(): void {
    // K/V can be cut anywhere: every position is one.
  }

  /** Full pages only. */
  publish(ids: readonly number[]): void {
    this.group.prefixes.publish(ids.slice(0, this.#cachedLength), this.#table.pages, this.recordedLength);
  }

  adopt(ids: readonly number[]): void {
    const { pageSize } = this.group.layout;
    const found = this.group.prefixes.find(ids);
    if (found.length * pageSize <= this.#cachedLength) return;
    this.truncate(Math.floor(this.#cachedLength / pageSize) * pageSize);
    const own = this.#cachedLength / pageSize;
    for (const { page } of found.slice(own)) this.#table.share(page);
    const firstUnrecorded = found.findIndex(({ isRecorded }, index) => index >= own && !isRecorded);
    if (this.#recordedLength === this.#cachedLength) {
      this.#recordedLength = pageSize * (firstUnrecorded < 0 ? found.length : firstUnrecorded);
    }
    this.#cachedLength = found.length * pageSize;
  }

  held(length = this.#cachedLength): HeldPages {
    const { group } = this;
    return { group, pages: [...this.#table.pages], cachedLength: length, recordedLength: Math.min(length, this.recordedLength) };
  }

  restored(length: number, recorded: number): void {
    this.#cachedLength = length;
    this.#recordedLength = Math.min(length, recorded);
  }

  free(): void {
    this.truncate(0);
  }
}
