// One conversation's tokens and where their K/V lies: the true ids, never re-tokenised, and how many of them are cached in each group of layers.
import { assert } from "../assert";
import { LlmError } from "../errors";
import type { KvGroup } from "../kv/kv-cache";
import { PageTable } from "../kv/page-table";

export type TokenId = number;

/** @throws LlmError "bad-request" naming the first that is no row of the model's vocabulary. */
export function checkIds(ids: readonly TokenId[], vocabSize: number): void {
  const at = ids.findIndex((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
  if (at >= 0) throw new LlmError("bad-request", `Token ${at} has the id ${ids[at]}; this model's ids are 0 to ${vocabSize - 1}.`);
}

/** A sequence's pages in one group of layers. */
export class SequenceKv {
  readonly group: KvGroup;
  readonly table: PageTable;
  /** Positions from the start whose K/V was, or will in queue order be, written by a real pass. Nothing beyond is ever read. */
  cachedLength = 0;
  #recordedLength = 0;

  constructor(group: KvGroup) {
    this.group = group;
    this.table = new PageTable(group.pool);
  }

  /** The same of the residual that leaves the group: 0 where none is kept. */
  get recordedLength(): number {
    return this.group.residuals ? this.#recordedLength : 0;
  }

  /** Forgets all from `length` on. */
  truncate(length: number): void {
    this.cachedLength = Math.min(this.cachedLength, length);
    this.#recordedLength = Math.min(this.#recordedLength, length);
    this.table.truncate(this.cachedLength);
  }

  /** Makes the pages that are full known to sequences that begin alike. */
  publish(ids: readonly TokenId[]): void {
    this.group.prefixes.publish(ids.slice(0, this.cachedLength), this.table.pages, this.recordedLength);
  }

  /** Takes pages that others filled, where they reach further than its own. */
  adopt(ids: readonly TokenId[]): void {
    const { pageSize } = this.group.layout;
    const found = this.group.prefixes.find(ids);
    if (found.length * pageSize <= this.cachedLength) return;
    this.truncate(Math.floor(this.cachedLength / pageSize) * pageSize);
    const own = this.cachedLength / pageSize;
    for (const { page } of found.slice(own)) this.table.share(page);
    const firstUnrecorded = found.findIndex(({ isRecorded }, index) => index >= own && !isRecorded);
    if (this.#recordedLength === this.cachedLength)
      this.#recordedLength = pageSize * (firstUnrecorded < 0 ? found.length : firstUnrecorded);
    this.cachedLength = found.length * pageSize;
  }

  /** Makes the page that the next position is written to its own. False when there is no page for the copy. */
  ownLastPage(): boolean {
    const { pageSize } = this.group.layout;
    if (this.cachedLength % pageSize === 0) return true;
    const copy = this.table.own(Math.floor(this.cachedLength / pageSize));
    if (copy) this.group.copyPage(copy.from, copy.to);
    return copy !== false;
  }

  /** Says that K/V of `length` positions, and residuals of `recorded`, were written by copying from a snapshot of a real pass. */
  markRestored(length: number, recorded: number): void {
    this.cachedLength = length;
    this.#recordedLength = Math.min(length, recorded);
  }

  markCached(length: number): void {
    // A residual is recorded with the K/V below it; a gap in the record is not closed by what comes after it.
    if (this.group.recordsResidual && this.#recordedLength >= Math.min(this.cachedLength, length)) this.#recordedLength = length;
    this.#recordedLength = Math.min(this.#recordedLength, length);
    this.cachedLength = length;
  }
}

export class Sequence {
  readonly #tokens: TokenId[] = [];
  #parts: readonly SequenceKv[];
  #nextParts: readonly SequenceKv[] | null = null;
  #versionOffset = 0;
  #revision = 0;
  /** When it last ran; the engine takes the pages of the longest idle sequence when the pool is full. */
  lastUsed = 0;

  constructor(groups: readonly KvGroup[]) {
    this.#parts = groups.map((group) => new SequenceKv(group));
  }

  get tokens(): readonly TokenId[] {
    return this.#tokens;
  }

  /** A part for each group of layers. A later one never has more cached than one before it. */
  get parts(): readonly SequenceKv[] {
    return this.#parts;
  }

  /** Positions from the start whose K/V is there in all layers. */
  get cachedLength(): number {
    return this.#parts.at(-1)?.cachedLength ?? 0;
  }

  /** Positions that have a page in some layers. */
  get capacity(): number {
    return Math.max(...this.#parts.map(({ table }) => table.capacity));
  }

  /** Changes whenever pages do: what was uploaded before is then stale. */
  get pagesVersion(): number {
    return this.#parts.reduce((sum, { table }) => sum + table.version, this.#versionOffset);
  }

  append(ids: Iterable<TokenId>): void {
    for (const id of ids) this.#tokens.push(id);
  }

  /** Room for `positions` in every layer; false when a pool has too few free pages. */
  reserve(positions: number): boolean {
    return this.#parts.every(({ table }) => table.reserve(positions));
  }

  /** Takes K/V of sequences that begin alike, where they have more of it. */
  adoptPrefix(): void {
    let reach = Number.POSITIVE_INFINITY;
    for (const part of this.#parts) {
      part.adopt(this.#tokens.slice(0, reach));
      reach = part.cachedLength;
    }
  }

  /** Makes full pages known to sequences that begin alike. */
  publishPrefix(): void {
    for (const part of this.#parts) part.publish(this.#tokens);
  }

  /** Whether the pages that the next positions are written to are its own now: false when there is no page for a copy. */
  ownLastPages(): boolean {
    return this.#parts.every((part) => part.ownLastPage());
  }

  /** Forgets all tokens from `length` on. */
  truncate(length: number): void {
    this.#tokens.length = Math.min(this.#tokens.length, length);
    this.forget(length);
  }

  /** Forgets K/V from `length` on; the tokens stay. */
  forget(length: number): void {
    this.#revision++;
    for (const part of [...this.#parts, ...(this.#nextParts ?? [])]) part.truncate(length);
  }

  /** Makes these the tokens, keeping the K/V of the longest prefix that they share with what is there. */
  replaceTokens(ids: readonly TokenId[]): void {
    let shared = 0;
    while (shared < ids.length && ids[shared] === this.#tokens[shared]) shared++;
    this.truncate(shared);
    this.append(ids.slice(shared));
  }

  /** Says that the first `length` tokens' K/V has been, or will in queue order be, written, in the parts from `firstPart` on. */
  markCached(length: number, firstPart = 0): void {
    assert(length <= this.#tokens.length, `${length} positions cached of ${this.#tokens.length}`);
    for (const part of this.#parts.slice(firstPart)) part.markCached(length);
  }

  /** Says that the first `length` tokens' K/V is there, and nothing else. */
  settle(length: number): void {
    this.markCached(length);
    this.forget(length);
  }

  /** Gives up the pages; the tokens stay, and their K/V is computed anew when they are next used. */
  evict(): void {
    this.forget(0);
  }

  /** Changes whenever K/V is forgotten: what was on its way for later positions then counts no more. */
  get revision(): number {
    return this.#revision;
  }

  /** What a rebuild has of the sequence, in the groups that are to come. It forgets what the sequence forgets. */
  get nextParts(): readonly SequenceKv[] | null {
    return this.#nextParts;
  }

  beginNext(groups: readonly KvGroup[]): readonly SequenceKv[] {
    this.#nextParts = groups.map((group) => new SequenceKv(group));
    return this.#nextParts;
  }

  /** Gives up what a rebuild has. */
  dropNext(): void {
    for (const part of this.#nextParts ?? []) part.truncate(0);
    this.#nextParts = null;
  }

  /** Moves to `groups`, where they are others than those it is in, with what a rebuild has there: K/V of other weights is none. */
  follow(groups: readonly KvGroup[]): void {
    const index = groups.findIndex((group, at) => this.#parts[at]?.group !== group);
    if (index < 0) return;
    const version = this.pagesVersion + 1;
    const next = this.#nextParts?.[0]?.group === groups[index] ? this.#nextParts : null;
    if (!next) this.dropNext();
    this.#parts = [...this.#parts.slice(0, index), ...(next ?? groups.slice(index).map((group) => new SequenceKv(group)))];
    this.#nextParts = null;
    this.#versionOffset += version - this.pagesVersion;
  }
}
