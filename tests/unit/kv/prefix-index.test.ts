// Pages that sequences share: one name never means two contents, and a page with two holders is never written.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type PageId, PagePool } from "../../../src/kv/page-pool";
import { PageTable } from "../../../src/kv/page-table";
import { PrefixIndex } from "../../../src/kv/prefix-index";

const PAGE_SIZE = 4;

/** A table with pages for `length` positions. */
function filled(pool: PagePool, length: number): PageTable {
  const table = new PageTable(pool);
  expect(table.reserve(length)).toBe(true);
  return table;
}

describe("a prefix index", () => {
  test("finds exactly the full pages whose ids all match up to their end", () => {
    const pool = new PagePool(8, PAGE_SIZE);
    const index = new PrefixIndex(pool);
    const ids = [1, 2, 3, 4, 5, 6, 7, 8, 9];
    const table = filled(pool, ids.length);
    index.publish(ids, table.pages, 4);
    expect(index.find(ids)).toMatchObject([
      { page: table.pages[0], isRecorded: true },
      { page: table.pages[1], isRecorded: false },
    ]);
    expect(index.find([1, 2, 3])).toEqual([]);
    expect(index.find([1, 2, 3, 4, 5]).length).toBe(1);
    expect(index.find([9, 2, 3, 4, 5, 6, 7, 8])).toEqual([]);
    // The same second page after a different first one is a different page.
    expect(index.find([5, 6, 7, 8, 5, 6, 7, 8])).toEqual([]);
    // Ids that look alike when joined: 1, 23 and 12, 3.
    index.publish([1, 23, 0, 0], filled(pool, 4).pages, 0);
    expect(index.find([12, 3, 0, 0])).toEqual([]);
  });

  test("keeps pages without a holder until no other page is free, and forgets pages that it reuses", () => {
    const pool = new PagePool(3, PAGE_SIZE);
    const index = new PrefixIndex(pool);
    const ids = [1, 2, 3, 4, 5, 6, 7, 8];
    const table = filled(pool, 8);
    index.publish(ids, table.pages, 0);
    table.release();
    expect(pool.freeCount).toBe(3);
    expect(index.find(ids).length).toBe(2);
    filled(pool, 4);
    expect(index.find(ids).length).toBe(2);
    // The end is reused before the beginning.
    filled(pool, 4);
    expect(index.find(ids).length).toBe(1);
    filled(pool, 4);
    expect(index.find(ids)).toEqual([]);
    expect(new PageTable(pool).reserve(1)).toBe(false);
  });

  test("lets a sole holder write to its page, and gives a copy if others hold it", () => {
    const pool = new PagePool(4, PAGE_SIZE);
    const index = new PrefixIndex(pool);
    const ids = [1, 2, 3, 4];
    const table = filled(pool, 4);
    const [page] = table.pages;
    index.publish(ids, table.pages, 0);
    const other = new PageTable(pool);
    other.share(page as PageId);
    const copy = other.own(0);
    expect(copy).toMatchObject({ from: page });
    expect(other.pages[0]).not.toBe(page);
    expect(index.find(ids)).toMatchObject([{ page }]);
    expect(table.own(0)).toBeNull();
    expect(index.find(ids)).toEqual([]);
  });

  test("never has one page under two contents, whatever sequences come and go", () => {
    const acts = fc.array(fc.record({ act: fc.constantFrom("begin", "end"), ids: fc.array(fc.nat(2), { maxLength: 14 }), at: fc.nat(5) }), {
      maxLength: 40,
    });
    fc.assert(
      fc.property(acts, (steps) => {
        const pool = new PagePool(6, PAGE_SIZE);
        const index = new PrefixIndex(pool);
        const contents = new Map<PageId, string>();
        const live: PageTable[] = [];
        for (const { act, ids, at } of steps) {
          if (act === "end") {
            live.splice(at % Math.max(1, live.length), 1)[0]?.release();
            continue;
          }
          const table = new PageTable(pool);
          const found = index.find(ids);
          for (const [position, { page }] of found.entries()) {
            // Found pages hold what was written.
            expect(contents.get(page)).toBe(ids.slice(0, (position + 1) * PAGE_SIZE).join());
            table.share(page);
          }
          if (!table.reserve(ids.length)) {
            table.release();
            continue;
          }
          for (const [position, page] of table.pages.entries()) {
            if (position >= found.length) contents.set(page, ids.slice(0, (position + 1) * PAGE_SIZE).join());
          }
          index.publish(ids, table.pages, 0);
          live.push(table);
        }
        for (const table of live) table.release();
        expect(pool.freeCount).toBe(6);
      }),
    );
  });
});
