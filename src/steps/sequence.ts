// One conversation's tokens and where their K/V lies: the true ids, never re-tokenised, and how many of them are cached in each group of layers.
import { assert } from "../assert";
import { LlmError } from "../errors";
import type { KvGroup } from "../kv/kv-cache";
import type { LayerState } from "../kv/layer-state";
import { PagedKv } from "../kv/paged-kv";

export type TokenId = number;

/** @throws LlmError "bad-request" naming the first that is no row of the model's vocabulary. */
export function checkIds(ids: readonly TokenId[], vocabSize: number): void {
  const at = ids.findIndex((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
  if (at >= 0) throw new LlmError("bad-request", `Token ${at} has the id ${ids[at]}; this model's ids are 0 to ${vocabSize - 1}.`);
}

export class Sequence {
  readonly #tokens: TokenId[] = [];
  #parts: readonly LayerState[];
  #nextParts: readonly LayerState[] | null = null;
  #versionOffset = 0;
  #revision = 0;
  /** When it last ran; the engine takes the pages of the longest idle sequence when the pool is full. */
  lastUsed = 0;

  constructor(groups: readonly KvGroup[]) {
    this.#parts = groups.map((group) => new PagedKv(group));
  }

  get tokens(): readonly TokenId[] {
    return this.#tokens;
  }

  /** A part for each group of layers. A later one never has more cached than one before it. */
  get parts(): readonly LayerState[] {
    return this.#parts;
  }

  /** Positions from the start whose K/V is there in all layers. */
  get cachedLength(): number {
    return this.#parts.at(-1)?.cachedLength ?? 0;
  }

  /** Positions that have a page in some layers. */
  get capacity(): number {
    return Math.max(...this.#parts.map(({ capacity }) => capacity));
  }

  /** Changes whenever pages do: what was uploaded before is then stale. */
  get pagesVersion(): number {
    return this.#parts.reduce((sum, { version }) => sum + version, this.#versionOffset);
  }

  append(ids: Iterable<TokenId>): void {
    for (const id of ids) this.#tokens.push(id);
  }

  /** Room for `positions` in every layer; false when a pool has too few free pages. */
  reserve(positions: number): boolean {
    return this.#parts.every((part) => part.reserve(positions));
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
    return this.#parts.every((part) => part.own());
  }

  /** Forgets all tokens from `length` on. */
  truncate(length: number): void {
    this.#tokens.length = Math.min(this.#tokens.length, length);
    this.forget(length);
  }

  /** Forgets K/V from `length` on; the tokens stay. */
  forget(length: number): void {
    this.#revision++;
    for (const parts of [this.#parts, this.#nextParts ?? []]) {
      // What a group cannot keep, those above it do not keep either.
      parts.reduce((left, part) => part.truncate(left), length);
    }
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
    for (const part of this.#parts.slice(firstPart)) part.append(length);
  }

  /** Keeps the way back to what is there now: a prompt is complete, or a turn. */
  checkpoint(): void {
    for (const part of this.#parts) part.checkpoint();
  }

  /**
   * Says that the first `length` tokens' K/V is there, and nothing else, in the parts that the last step wrote to. A part that an upgrade brought after
   * that step has only what its rebuild computed.
   */
  settle(length: number, writtenTo: readonly LayerState[] = this.#parts): void {
    assert(length <= this.#tokens.length, `${length} positions cached of ${this.#tokens.length}`);
    for (const part of this.#parts) if (writtenTo.includes(part)) part.append(length);
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
  get nextParts(): readonly LayerState[] | null {
    return this.#nextParts;
  }

  beginNext(groups: readonly KvGroup[]): readonly LayerState[] {
    this.#nextParts = groups.map((group) => new PagedKv(group));
    return this.#nextParts;
  }

  /** Gives up what a rebuild has. */
  dropNext(): void {
    for (const part of this.#nextParts ?? []) part.free();
    this.#nextParts = null;
  }

  /** Moves to `groups`, where they are others than those it is in, with what a rebuild has there: K/V of other weights is none. */
  follow(groups: readonly KvGroup[]): void {
    const index = groups.findIndex((group, at) => this.#parts[at]?.group !== group);
    if (index < 0) return;
    const version = this.pagesVersion + 1;
    const next = this.#nextParts?.[0]?.group === groups[index] ? this.#nextParts : null;
    if (!next) this.dropNext();
    this.#parts = [...this.#parts.slice(0, index), ...(next ?? groups.slice(index).map((group) => new PagedKv(group)))];
    this.#nextParts = null;
    this.#versionOffset += version - this.pagesVersion;
  }
}
