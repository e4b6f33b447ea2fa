import fc from "fast-check";
import { expect, test } from "vitest";
import { Murmur3 } from "../../../src/bytes/murmur3";

const digestOf = (text: string) => new Murmur3().bytes(new TextEncoder().encode(text)).digest();

test("digests are those of the reference implementation (SMHasher's MurmurHash3_x86_128)", () => {
  expect(digestOf("")).toBe("0".repeat(32));
  expect(digestOf("abcd")).toBe("96b6ccaa45afc62e45afc62e45afc62e");
  expect(digestOf("I will not buy this record, it is scratched.")).toBe("a0a9683b25ac5e40d9af2895890dddf5");
  expect(digestOf("0123456789abcdef".repeat(3))).toBe("60e361d06710ae11d09ee17fce1263e7");
});

test("texts that read alike one after another have different digests", () => {
  const digest = (...texts: string[]) => texts.reduce((hash, text) => hash.text(text), new Murmur3()).digest();
  const all = [digest("ab", "c"), digest("a", "bc"), digest("abc"), digest("abc", ""), digest("", "abc"), digest("c", "ab")];
  expect(new Set(all).size).toBe(all.length);
});

test("a change of one character changes the digest, wherever it stands", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 30_000 }), fc.nat(), (length, place) => {
      const at = place % length;
      const text = "x".repeat(length);
      expect(new Murmur3().text(`${text.slice(0, at)}y${text.slice(at + 1)}`).digest()).not.toBe(new Murmur3().text(text).digest());
    }),
    { numRuns: 50, seed: 1 },
  );
});
