import { expect, test } from "vitest";
import { contentLengthOf, contentRangeOf, retryAfterMsOf, versionOf } from "../../../src/bytes/http-headers";

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

test("a strong ETag stands alone, a weak one beside the date", () => {
  const date = { "Last-Modified": "Tue, 01 Jul 2025 00:00:00 GMT" };
  expect(versionOf(new Headers({ ETag: '"a"', ...date }))).toBe('"a"');
  expect(versionOf(new Headers({ ETag: 'W/"a"', ...date }))).toBe('W/"a" Tue, 01 Jul 2025 00:00:00 GMT');
  expect(versionOf(new Headers(date))).toBe("Tue, 01 Jul 2025 00:00:00 GMT");
  expect(versionOf(new Headers())).toBeUndefined();
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
