import { describe, expect, test } from "vitest";
import { type Defines, preprocess } from "../../../src/gpu/preprocess";

/** The lines left of `source`, joined by spaces. */
function lines(source: string, defines: Defines = {}, includes: Record<string, string> = {}): string {
  return preprocess(source, defines, includes)
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean)
    .join(" ");
}

describe("conditions", () => {
  const branches = "#if MODE == a\nA\n#elif MODE == b\nB\n#elif MODE != c\nnot C\n#else\nC\n#endif\nend";
  test.each([
    ["a", "A end"],
    ["b", "B end"],
    ["c", "C end"],
    ["d", "not C end"],
  ])("of #if, #elif and #else only the first true branch is taken: MODE %s", (mode, expected) => {
    expect(lines(branches, { MODE: mode })).toBe(expected);
  });

  test("a branch inside one not taken is not taken, whatever its condition", () => {
    const source = "#if OUTER\n#if INNER\nboth\n#else\nouter\n#endif\n#else\n#if INNER\ninner\n#else\nneither\n#endif\n#endif";
    expect(lines(source, { OUTER: true, INNER: false })).toBe("outer");
    expect(lines(source, { OUTER: false, INNER: true })).toBe("inner");
    expect(lines(source, { OUTER: false, INNER: false })).toBe("neither");
  });

  test.each([
    ["A && B || C", { A: 0, B: 1, C: 1 }, true],
    ["A && (B || C)", { A: 0, B: 1, C: 1 }, false],
    ["!A && !B", { A: false, B: 0 }, true],
    ["!(A || B)", { A: false, B: 1 }, false],
    ["A == 64 && B != f16", { A: 64, B: "f32" }, true],
    ["A == B", { A: 2, B: 2 }, true],
    ["!A == 2", { A: 2 }, false],
    ["A", { A: "" }, false],
    ["A", { A: "f16" }, true],
  ])("%s with %o is %s", (condition, defines, expected) => {
    expect(lines(`#if ${condition}\nyes\n#else\nno\n#endif`, defines)).toBe(expected ? "yes" : "no");
  });

  test("a comment may follow a directive, and a directive may be indented", () => {
    expect(lines("  #if A // why\nyes\n  #endif // A", { A: 1 })).toBe("yes");
  });
});

describe("mistakes are named", () => {
  test.each([
    ["#if MISSPELT\n#endif", "MISSPELT is not defined"],
    ["#if A == \n#endif", "something is missing"],
    ["#if A &&\n#endif", "something is missing"],
    ["#if (A\n#endif", "bracket"],
    ["#if A B\n#endif", 'cannot read past "B"'],
    ["#if A >= 2\n#endif", "cannot read past"],
    ["#if A\nx", "#if without #endif"],
    ["#endif", "#endif without #if"],
    ["#else", "#else without #if"],
    ["#elif A", "#elif without #if"],
    ["#define A 2", "unknown directive #define"],
    ['#include "gone.wgsl"', "no such file"],
  ])("%j: %s", (source, message) => {
    expect(() => preprocess(source, { A: 1 }, {})).toThrow(message);
  });
});

describe("includes", () => {
  const includes = { "inner.wgsl": "inner N", "outer.wgsl": '#include "inner.wgsl"\nouter', "choice.wgsl": "#if A\nchosen\n#endif" };
  test("a file is included once, however many ask for it", () => {
    expect(lines('#include "outer.wgsl"\n#include "inner.wgsl"\nmain', {}, includes)).toBe("inner N outer main");
  });
  test("conditions and defines hold inside an included file", () => {
    expect(lines('#include "choice.wgsl"\n#include "inner.wgsl"', { A: 1, N: 4 }, includes)).toBe("chosen inner 4");
  });
  test("an include in a branch not taken leaves the file to a later one", () => {
    expect(lines('#if A\n#include "inner.wgsl"\n#endif\nfirst\n#include "inner.wgsl"', { A: 0 }, includes)).toBe("first inner N");
  });
  test("an #if may not reach from an included file into its includer", () => {
    expect(() => preprocess('#include "open.wgsl"\n#endif', { A: 1 }, { "open.wgsl": "#if A" })).toThrow("#if without #endif");
  });
});

test("defines replace whole words only, and their values are not read again", () => {
  expect(lines("A AB A_B _A A.x", { A: "B", B: "A" })).toBe("B AB A_B _A B.x");
  expect(lines("cost", { cost: "$& $1" })).toBe("$& $1");
});
