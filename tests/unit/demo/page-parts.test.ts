// The demo page's decisions: model, settings, wording.
import { expect, test } from "vitest";
import { describeEnding, describeSummary } from "../../../demo/answer-view";
import { cachedModels, nameOf } from "../../../demo/cache-list";
import { EMBEDDED, EMBEDDED_TITLE, locationOf, readAddress, titleOf, writeAddress } from "../../../demo/model-choice";
import { DEFAULT_SETTINGS, parseSettings } from "../../../demo/settings";
import { formatBytes, formatTimeLeft } from "../../../demo/wording";
import type { AnswerSummary } from "../../../src/index";

const SUMMARY: AnswerSummary = {
  text: "Paris.",
  finishReason: "stop",
  cachedTokens: 0,
  prefillTokens: 31,
  generatedTokens: 8,
  timeToFirstTokenMs: 840,
  prefillTokensPerSecond: 37,
  decodeTokensPerSecond: 12.34,
};

test("an address without a model means the embedded one, whatever the path of the page", () => {
  const { choice, hubEndpoint } = readAddress(new URL("https://example.org/demo/"));
  expect(choice).toBe(EMBEDDED);
  expect(hubEndpoint).toBeNull();
  expect(String(locationOf(choice, "https://example.org/some/path/"))).toMatch(/^https:\/\/example\.org\/some\/path\/models\/.+\.gguf$/);
});

test("an address restores the choice it was written for, and keeps the hub", () => {
  const choice = { kind: "named", name: "owner/name/file.gguf" } as const;
  const address = writeAddress(new URL("https://example.org/?hub=http://localhost:1"), choice);
  expect(readAddress(address)).toEqual({ choice, hubEndpoint: "http://localhost:1" });
  expect(readAddress(writeAddress(address, EMBEDDED))).toEqual({ choice: EMBEDDED, hubEndpoint: "http://localhost:1" });
});

test("a model's title is short: the end of its name, or the name of its weights", () => {
  expect(titleOf({ kind: "named", name: "https://example.org/a/b/model.gguf?download=true" })).toBe("b/model.gguf");
  expect(titleOf({ kind: "named", name: "owner/name" })).toBe("owner/name");
  expect(titleOf({ kind: "files", files: [new File([], "config.json"), new File([], "model.safetensors")] })).toBe("model.safetensors");
});

test("stored settings that are broken or out of range are replaced by defaults, one by one", () => {
  expect(parseSettings(null)).toEqual(DEFAULT_SETTINGS);
  expect(parseSettings("[1]")).toEqual(DEFAULT_SETTINGS);
  expect(parseSettings('{"temperature":-1,"topP":"much","maxTokens":64.9,"system":7}')).toEqual({ ...DEFAULT_SETTINGS, maxTokens: 64 });
  const kept = { system: "Be brief.", temperature: 0, topP: 1, maxTokens: 9 };
  expect(parseSettings(JSON.stringify(kept))).toEqual(kept);
});

test("only an answer that did not end by itself shows a reason", () => {
  expect(describeEnding(SUMMARY, 512)).toBeNull();
  expect(describeEnding({ ...SUMMARY, finishReason: "length" }, 512)).toContain("maximum of 512 tokens");
  expect(describeEnding({ ...SUMMARY, finishReason: "context" }, 512)).toContain("context is full");
});

test("the figures below an answer omit what was not measured", () => {
  expect(describeSummary(SUMMARY)).toBe("8 tokens · 12.3 tokens/s · first after 0.8 s · prompt of 31");
  expect(describeSummary({ ...SUMMARY, cachedTokens: 20, prefillTokens: 11 })).toContain("prompt of 11 new and 20 kept");
  const one = { ...SUMMARY, generatedTokens: 1, decodeTokensPerSecond: 0 };
  expect(describeSummary(one)).toBe("1 token · first after 0.8 s · prompt of 31");
});

test("sizes and times are rounded for reading", () => {
  expect([1, 421_000, 39_886_784, 1_117_320_768].map(formatBytes)).toEqual(["1 kB", "421 kB", "39.9 MB", "1.12 GB"]);
  expect([1, 7.2, 31, 59, 3000, 7200].map(formatTimeLeft)).toEqual([
    "a moment left",
    "about 8 s left",
    "about 35 s left",
    "about 1 min left",
    "about 50 min left",
    "about 2.0 h left",
  ]);
});

test("the cached files of one model are one entry, including those beside its weights", () => {
  const entry = (url: string, cachedBytes: number) => ({ url, size: 100, cachedBytes });
  const hub = "https://huggingface.co/owner/name/resolve/main";
  const models = cachedModels([
    entry(`${hub}/config.json`, 100),
    entry(`${hub}/model.safetensors`, 50),
    entry("https://example.org/m/b.gguf", 10),
    entry("https://example.org/m/progressive.json", 100),
    entry("https://example.org/m/c.gguf", 20),
  ]);
  expect(models.map(({ name, urls, cachedBytes, size }) => [name, urls.length, cachedBytes, size])).toEqual([
    ["owner/name", 2, 150, 200],
    ["m/b.gguf", 2, 110, 200],
    ["m/c.gguf", 1, 20, 100],
  ]);
});

test("a cached file is named by repository and path, or by the end of its address; the embedded model by its title", () => {
  expect(nameOf(String(locationOf(EMBEDDED, "https://example.org/demo/")))).toBe(EMBEDDED_TITLE);
  expect(nameOf("https://huggingface.co/owner/name/resolve/main/sub/model.gguf")).toBe("owner/name/sub/model.gguf");
  expect(nameOf("http://localhost:5173/models/tiny/model%20a.gguf")).toBe("tiny/model a.gguf");
});
