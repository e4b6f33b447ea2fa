import { describe, expect, test } from "vitest";
import { contentLengthOf, contentRangeOf, fileStateOf, isSameFile, retryAfterMsOf, versionOf } from "../../../src/bytes/http-headers";

test("Content-Range gives a half-open range and the size", () => {
  expect(contentRangeOf(new Headers({ "Content-Range": "bytes 5-9/100" }))).toEqual({ range: { start: 5, end: 10 }, size: 100 });
});

test.each(["bytes 5-9/*", "bytes */100", "bytes 9-5/100", "bytes 5-100/100", "items 5-9/100", "bytes 5-9/99999999999999999999", ""])(
  "Content-Range '%s' gives nothing",
  (value) => {
    expect(contentRangeOf(new Headers({ "Content-Range": value }))).toBeUndefined();
  },
);

test("the length of a compressed body is not the file's", () => {
  expect(contentLengthOf(new Headers({ "Content-Length": "12" }))).toBe(12);
  expect(contentLengthOf(new Headers({ "Content-Length": "12", "Content-Encoding": "gzip" }))).toBeUndefined();
  expect(contentLengthOf(new Headers())).toBeUndefined();
});

const DATE = "Tue, 01 Jul 2025 00:00:00 GMT";

// nginx and CDNs weaken the tag of an answer now and then: the file counted as changed.
test("a weak ETag is the strong one, and the date counts where there is neither", () => {
  expect(versionOf(new Headers({ ETag: '"a"', "Last-Modified": DATE }))).toBe('"a"');
  expect(versionOf(new Headers({ ETag: 'W/"a"', "Last-Modified": DATE }))).toBe('"a"');
  expect(versionOf(new Headers({ "Last-Modified": DATE }))).toBe(DATE);
  expect(versionOf(new Headers())).toBeUndefined();
});

describe("two answers are of one file", () => {
  const state = (headers: Record<string, string>, size = 5) => fileStateOf(new Headers(headers), size, Date.parse(DATE) + 3_600_000);

  test.each<[string, boolean, Record<string, string>, Record<string, string>]>([
    ["tags that are one but for weakness", true, { ETag: '"a"' }, { ETag: 'W/"a"' }],
    ["two tags and one date", true, { ETag: '"a"', "Last-Modified": DATE }, { ETag: '"b"', "Last-Modified": DATE }],
    [
      "one tag and two dates",
      true,
      { ETag: '"a"', "Last-Modified": DATE },
      { ETag: '"a"', "Last-Modified": "Tue, 01 Jul 2025 00:00:09 GMT" },
    ],
    ["two tags", false, { ETag: '"a"' }, { ETag: '"b"' }],
    ["two tags, and a date that one of them lacks", false, { ETag: '"a"', "Last-Modified": DATE }, { ETag: '"b"' }],
    ["a tag that one of them lacks", false, { ETag: '"a"' }, {}],
  ])("by %s: %s", (_, expected, a, b) => {
    expect([isSameFile(state(a), state(b)), isSameFile(state(b), state(a))]).toEqual([expected, expected]);
  });

  test("never where the sizes differ, nor by the date of a file that was just written", () => {
    expect(isSameFile(state({ ETag: '"a"' }), state({ ETag: '"a"' }, 6))).toBe(false);
    const answered = { "Last-Modified": DATE, Date: "Tue, 01 Jul 2025 00:00:30 GMT" };
    expect(isSameFile(state({ ETag: '"a"', ...answered }), state({ ETag: '"b"', ...answered }))).toBe(false);
  });
});

test("Retry-After is read as seconds or as a date, and never lies in the past", () => {
  const now = Date.parse("Tue, 01 Jul 2025 00:00:00 GMT");
  const at = (value: string) => retryAfterMsOf(new Headers({ "Retry-After": value }), now);
  expect([at("3"), at("Tue, 01 Jul 2025 00:00:05 GMT"), at("Mon, 30 Jun 2025 00:00:00 GMT"), at("soon")]).toEqual([
    3000,
    5000,
    0,
    undefined,
  ]);
});
