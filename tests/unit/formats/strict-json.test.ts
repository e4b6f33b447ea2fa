import fc from "fast-check";
import { expect, test } from "vitest";
import { parseStrictJson } from "../../../src/formats/strict-json";

test("any JSON without a doubled key has the value that JSON.parse gives it", () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.constantFrom(undefined, 1), (value, indent) => {
      const text = JSON.stringify(value, null, indent);
      expect(parseStrictJson(text)).toEqual(JSON.parse(text));
    }),
  );
});

test.each([
  ["on one level", '{"a":1,"a":2}'],
  ["in a nested object", '{"x":[{"a":1,"b":{"c":1,"c":1}}]}'],
  ["after a nested object that has it too", '{"a":{"a":1},"a":2}'],
  ["spelt with an escape", '{"a":1,"\\u0061":2}'],
  ["with quotes, brackets and backslashes in it", '{"\\"{[,\\\\":1,"\\"{[,\\\\":2}'],
  ["that is __proto__", '{"__proto__":1,"__proto__":2}'],
])("a doubled key %s is refused", (_, text) => {
  expect(() => parseStrictJson(text)).toThrow(SyntaxError);
});

test.each([
  ["in two objects of one array", '[{"a":1},{"a":2}]'],
  ["in an object and the one inside it", '{"a":{"a":{"a":1}}}'],
  ["as key and as value", '{"a":"b","b":"a","c":["a","a"]}'],
  ["in strings that look like objects", '{"a":"{\\"b\\":1,\\"b\\":1}"}'],
])("a key that comes again %s is not doubled", (_, text) => {
  expect(parseStrictJson(text)).toEqual(JSON.parse(text));
});

test("what is no JSON is refused", () => {
  expect(() => parseStrictJson('{"a":1')).toThrow(SyntaxError);
});
