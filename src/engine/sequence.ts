// One conversation's tokens and where their K/V lies: the true ids, never re-tokenised, and how many of them are cached.
import { assert } from "../assert";
import { LlmError } from "../errors";
import type { PagePool } from "../kv/page-pool";
import { PageTable } from "../kv/page-table";

export type TokenId = number;

/** @throws LlmError "bad-request" naming the first that is no row of the model's vocabulary. */
export function checkIds(ids: readonly TokenId[], vocabSize: number): void {
  const at = ids.findIndex((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
  if (at >= 0) throw new LlmError("bad-request", `Token ${at} has the id ${ids[at]}; this model's ids are 0 to ${vocabSize - 1}.`);
}

export class Sequence {
  readonly #tokens: TokenId[] = [];
  readonly table: PageTable;
  #cachedLength = 0;
  /** When it last ran; the engine takes the pages of the longest idle sequence when the pool is full. */
  lastUsed = 0;

  constructor(pool: PagePool) {
    this.table = new PageTable(pool);
  }

  get tokens(): readonly TokenId[] {
    return this.#tokens;
  }

  /** Positions from the start whose K/V is in the pages. */
  get cachedLength(): number {
    return this.#cachedLength;
  }

  append(ids: Iterable<TokenId>): void {
    for (const id of ids) this.#tokens.push(id);
  }

  /** Forgets all tokens from `length` on. */
  truncate(length: number): void {
    this.#tokens.length = Math.min(this.#tokens.length, length);
    this.#cachedLength = Math.min(this.#cachedLength, length);
    this.table.truncate(this.#cachedLength);
  }

  /** Makes these the tokens, keeping the K/V of the longest prefix that they share with what is there. */
  replaceTokens(ids: readonly TokenId[]): void {
    let shared = 0;
    while (shared < ids.length && ids[shared] === this.#tokens[shared]) shared++;
    this.truncate(shared);
    this.append(ids.slice(shared));
  }

  /** Says that the first `length` tokens' K/V has been, or will in queue order be, written. */
  markCached(length: number): void {
    assert(length <= this.#tokens.length, `${length} positions cached of ${this.#tokens.length}`);
    this.#cachedLength = length;
  }

  /** Gives up the pages; the tokens stay, and their K/V is computed anew when they are next used. */
  evict(): void {
    this.#cachedLength = 0;
    this.table.release();
  }
}
