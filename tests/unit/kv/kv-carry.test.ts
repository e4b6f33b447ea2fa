// Keep, restore or recompute: valid K/V is never recomputed, invalid K/V is never used.
import fc from "fast-check";
import { expect, test } from "vitest";
import { decideKvCarry, type LayerKv } from "../../../src/kv/kv-carry";
import { pageHashes } from "../../../src/kv/page-hash";

const layers = fc.array(fc.record({ isSameFunction: fc.boolean(), populated: fc.nat(50), saved: fc.nat(50) }), { maxLength: 12 });
const numbered = (list: readonly Omit<LayerKv, "layer">[]): LayerKv[] => list.map((kv, layer) => ({ layer, ...kv }));

test("keeps what stays, restores what only a snapshot has, and recomputes the rest", () => {
  const kv = { isSameFunction: true, populated: 40, saved: 32 };
  const decisions = decideKvCarry(numbered([kv, { ...kv, populated: 0 }, { ...kv, isSameFunction: false }, kv]), 40);
  expect(decisions).toEqual([
    { layer: 0, carry: "keep", positions: 40 },
    { layer: 1, carry: "restore", positions: 32 },
    { layer: 2, carry: "recompute", positions: 0 },
    { layer: 3, carry: "recompute", positions: 0 },
  ]);
});

test("never claims more positions than exist, lie below it or are requested, and never K/V of other weights", () => {
  fc.assert(
    fc.property(layers, fc.nat(60), (list, length) => {
      const decisions = decideKvCarry(numbered(list), length);
      let below = length;
      for (const [index, { carry, positions }] of decisions.entries()) {
        const { isSameFunction = false, populated = 0, saved = 0 } = list[index] ?? {};
        expect(positions).toBeLessThanOrEqual(below);
        if (carry === "keep") expect(positions).toBeLessThanOrEqual(populated);
        if (carry === "restore") expect(positions).toBeLessThanOrEqual(saved);
        expect(positions > 0).toBe(carry !== "recompute");
        if (!isSameFunction) expect(carry).toBe("recompute");
        below = positions;
      }
    }),
  );
});

test("page names are equal exactly as long as ids and weights are", () => {
  const ids = fc.array(fc.nat(200_000), { maxLength: 40 });
  fc.assert(
    fc.property(ids, ids, fc.constantFrom(4, 16), (a, b, pageSize) => {
      const [first, second] = [pageHashes("weights", a, pageSize), pageHashes("weights", b, pageSize)];
      expect(first.length).toBe(Math.ceil(a.length / pageSize));
      for (const [index, name] of first.entries()) {
        const end = (index + 1) * pageSize;
        expect(name === second[index]).toBe(a.slice(0, end).join() === b.slice(0, end).join());
        expect(pageHashes("others", a, pageSize)[index]).not.toBe(name);
      }
    }),
  );
});
