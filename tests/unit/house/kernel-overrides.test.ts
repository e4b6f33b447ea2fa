// What Safari 26 asks of overrides, beyond what Chrome does. A shader that breaks a rule compiles in every other test, and no model loads there.
import { describe, expect, test } from "vitest";
import { variantCode } from "../../support/variant-features";
import { exportedKernels } from "./exported-kernels";

interface Override {
  readonly name: string;
  /** What stands behind `=`, or "". */
  readonly initialiser: string;
}

const OVERRIDE = /(?:@id\([^)]*\)\s*)?\boverride\s+(\w+)\s*(?::[^=;]+)?(?:=([^;]*))?;/g;

function withoutComments(code: string): string {
  return code.replace(/\/\/.*$/gm, "").replace(/\/\*[\s\S]*?\*\//g, "");
}

function overridesOf(code: string): Override[] {
  return [...code.matchAll(OVERRIDE)].map(([, name = "", initialiser = ""]) => ({ name, initialiser }));
}

function occurs(name: string, code: string): boolean {
  return new RegExp(`\\b${name}\\b`).test(code);
}

/** What Safari 26 would say of a shader that is given these constants. */
function faultsOf(source: string, constants: readonly string[]): string[] {
  const code = withoutComments(source);
  const overrides = overridesOf(code);
  const names = overrides.map(({ name }) => name);
  const body = code.replace(OVERRIDE, "");
  const workgroup = [...body.matchAll(/var\s*<\s*workgroup\s*>\s*(\w+)\s*:([^;]*);/g)];
  return [
    ...constants.filter((name) => !names.includes(name)).map((name) => `${name} is given, and no override`),
    ...constants.filter((name) => !occurs(name, body)).map((name) => `${name} is given, and not used`),
    ...names.filter((name) => !constants.includes(name)).map((name) => `${name} is an override that is not given`),
    ...overrides.flatMap(({ name, initialiser }) =>
      names.filter((other) => occurs(other, initialiser)).map((other) => `${name} is initialised from ${other}`),
    ),
    ...workgroup.flatMap(([, variable, type = ""]) =>
      names.filter((name) => occurs(name, type)).map((name) => `${variable} in workgroup memory is sized by ${name}`),
    ),
  ];
}

test.each([
  ["override A: u32; fn main() { let a = A; }", ["A"], []],
  ["override A: u32; fn main() { }", ["A"], ["A is given, and not used"]],
  ["override A: u32; // A is used\nfn main() { }", ["A"], ["A is given, and not used"]],
  ["fn main() { let a = A; }", ["A"], ["A is given, and no override"]],
  ["override A: u32; fn main() { let a = A; }", [], ["A is an override that is not given"]],
  [
    "override A: u32; override B: u32 = max(A, 1u); fn main() { let a = A + B; }",
    ["A"],
    ["B is an override that is not given", "B is initialised from A"],
  ],
  [
    "override A: u32; var<workgroup> sums: array<array<f32, 4>, A + 1u>; fn main() { let a = A; }",
    ["A"],
    ["sums in workgroup memory is sized by A"],
  ],
])("the rules find what is wrong with %j", (code, constants, faults) => {
  expect(faultsOf(code, constants)).toEqual(faults);
});

describe.each(exportedKernels)("$kernel.name", ({ kernel, variants }) => {
  test("keeps to what Safari 26 takes of overrides, in every variant", () => {
    const faults = variants.flatMap((options) =>
      faultsOf(variantCode(kernel, options), Object.keys(kernel.variant(options).constants ?? {})),
    );
    expect([...new Set(faults)]).toEqual([]);
  });
});
