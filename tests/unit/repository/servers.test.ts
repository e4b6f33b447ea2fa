// Habits of servers that a model must load from all the same.
import { beforeAll, describe, expect, test } from "vitest";
import { openHttp } from "../../../src/bytes/http-source";
import { verifySource } from "../../../src/bytes/verified-source";
import { readSafetensors } from "../../../src/formats/safetensors";
import { type InspectOptions, inspectModel, type RepositoryEvent } from "../../../src/repository/inspect-model";
import { locateModel, verifiedFiles } from "../../../src/repository/model-files";
import { expectLlmError } from "../../support/expect-llm-error";
import { memorySource } from "../../support/memory-source";
import { tinyChatFiles } from "../../support/tiny-chat-model";
import { hashesOf } from "../bytes/hashed-file";

type Contents = Record<string, Uint8Array<ArrayBuffer>>;

const PAGE = "<!-- built by a tool -->\n<!DOCTYPE html><html><body>app</body></html>";
const page = () => new Response(PAGE, { headers: { "Content-Type": "text/html", "Content-Length": String(PAGE.length) } });
const utf8 = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));

let whole: Contents;
let sharded: Contents;

beforeAll(async () => {
  const files = await tinyChatFiles();
  whole = {};
  for (const name of ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]) {
    const source = await files.open(name);
    if (source) whole[name] = await source.read({ start: 0, end: source.size });
  }
  const { "model.safetensors": weights = new Uint8Array(), ...rest } = whole;
  const shard = "model-00001-of-00001.safetensors";
  const { tensors } = await readSafetensors(memorySource(weights));
  const index = { weight_map: Object.fromEntries([...tensors.keys()].map((name) => [name, shard])) };
  sharded = { ...rest, [shard]: weights, "model.safetensors.index.json": utf8(index) };
});

interface Server {
  readonly fetch: typeof fetch;
  readonly asked: string[];
}

/** Serves `contents` by ranges; `missing` answers for the rest. */
function serve(contents: Contents, missing: (name: string) => Response | Promise<Response>): Server {
  const asked: string[] = [];
  const answer: typeof fetch = async (input, init) => {
    const name = decodeURIComponent(new URL(String(input)).pathname.split("/").at(-1) ?? "");
    asked.push(name);
    const bytes = contents[name];
    if (!bytes) return missing(name);
    const [, from = "0", to = ""] = /^bytes=(\d+)-(\d*)$/.exec(new Headers(init?.headers).get("Range") ?? "") ?? [];
    const [start, end] = [Number(from), Math.min(bytes.length, to ? Number(to) + 1 : bytes.length)];
    const headers = { "Content-Range": `bytes ${start}-${end - 1}/${bytes.length}`, ETag: '"1"' };
    return new Response(bytes.slice(start, end), { status: 206, headers });
  };
  return { fetch: answer, asked };
}

function inspect({ fetch }: Server, options: Partial<InspectOptions> = {}, location = "https://host.test/model/") {
  const events: RepositoryEvent[] = [];
  const onEvent = (event: unknown) => void events.push(event as RepositoryEvent);
  const inspected = inspectModel(locateModel(location, { fetch, cache: false }), { onEvent, ...options });
  return { inspected, events };
}

describe.each<[string, () => Response]>([
  ["404", () => new Response(null, { status: 404 })],
  ["410", () => new Response(null, { status: 410 })],
  ["403, as buckets do that may not be listed,", () => new Response("<Error>AccessDenied</Error>", { status: 403 })],
  ["401", () => new Response(null, { status: 401 })],
  ["400", () => new Response(null, { status: 400 })],
  ["200 and its page", page],
])("from a server that answers %s for what it does not have", (_, missing) => {
  test("a model of one file loads", async () => {
    const { tokenizer, identity, plan } = await inspect(serve(whole, missing)).inspected;
    expect([tokenizer === null, identity.isStable, plan.stages.length > 0]).toEqual([false, true, true]);
  });

  test("a model in shards loads", async () => {
    expect((await inspect(serve(sharded, missing)).inspected).directory.tensors.size).toBeGreaterThan(1);
  });

  test("a model without what it needs says what is missing, or was refused", async () => {
    for (const name of ["config.json", "model.safetensors"]) {
      const { [name]: _, ...rest } = whole;
      await expect(inspect(serve(rest, missing)).inspected).rejects.toThrow(name);
    }
    const { "tokenizer.json": _, ...rest } = whole;
    await expectLlmError(inspect(serve(rest, missing)).inspected, "bad-tokenizer", "no tokenizer.json");
  });
});

test("a refused optional file is told by an event", async () => {
  const { inspected, events } = inspect(serve(whole, () => new Response(null, { status: 403 })));
  await inspected;
  const refused = events.flatMap((event) => (event.type === "file-refused" ? [event.file] : []));
  expect(refused.sort()).toEqual(["chat_template.jinja", "generation_config.json", "progressive.json", "special_tokens_map.json"]);
});

test.each([401, 403])("a gated repository says so, when all of it answers %i", async (status) => {
  const server = serve({}, () => new Response(null, { status }));
  await expectLlmError(inspect(server).inspected, "fetch-failed", String(status), "gated", "token");
  await expectLlmError(inspect(server, {}, "owner/name/model.gguf").inspected, "fetch-failed", String(status), "gated");
});

test("a server that is down is no server without the file", async () => {
  const server = serve(whole, () => new Response(null, { status: 404 }));
  const down: typeof fetch = async (input, init) =>
    String(input).endsWith("chat_template.jinja")
      ? new Response(null, { status: 503, headers: { "Retry-After": "0" } })
      : server.fetch(input, init);
  await expectLlmError(inspect({ ...server, fetch: down }).inspected, "fetch-failed", "503");
});

test("a web page in the place of the weights says so", async () => {
  const error = inspect(serve({}, page), {}, "https://host.test/models/model.gguf").inspected;
  await expectLlmError(error, "not-found", "no model.gguf", "web page");
  for (const place of ["blob/main/model.gguf", "tree/main"])
    await expectLlmError(
      inspect(serve({}, page), {}, `https://hub.test/owner/name/${place}`).inspected,
      "not-found",
      "web page",
      "/resolve/",
    );
});

test("plan, config, weights and tokenizer are asked for before the first answer", async () => {
  let answer: () => void = () => undefined;
  const answering = new Promise<void>((resolve) => {
    answer = resolve;
  });
  const server = serve(whole, () => new Response(null, { status: 404 }));
  const held: typeof fetch = async (input, init) => {
    const response = server.fetch(input, init);
    await answering;
    return response;
  };
  const { inspected } = inspect({ ...server, fetch: held });
  await new Promise((resolve) => setTimeout(resolve, 5));
  expect(server.asked).toEqual(expect.arrayContaining(["progressive.json", "config.json", "model.safetensors", "tokenizer.json"]));
  answer();
  await inspected;
});

describe("hashes", () => {
  const planOf = (hashes: object) => utf8({ hashes });
  const wrong = { bytes: 10, chunkBytes: 4096, sha256: btoa("x".repeat(16)) };

  test("that come after the files are checked all the same", async () => {
    const slow = { ...whole, "progressive.json": planOf({ "config.json": { ...wrong, bytes: whole["config.json"]?.length } }) };
    const server = serve(slow, () => new Response(null, { status: 404 }));
    const late: typeof fetch = async (input, init) => {
      if (String(input).endsWith("progressive.json")) await new Promise((resolve) => setTimeout(resolve, 30));
      return server.fetch(input, init);
    };
    const { inspected, events } = inspect({ ...server, fetch: late }, { plan: "whole" });
    await expectLlmError(inspected, "bad-hash", "config.json");
    expect(events).toContainEqual({ type: "hash-mismatch", source: "https://host.test/model/config.json", range: expect.anything() });
  });

  test("that are broken fail the load by the plan's name", async () => {
    const server = serve({ ...whole, "progressive.json": planOf({ "config.json": 1 }) }, () => new Response(null, { status: 404 }));
    await expectLlmError(inspect(server).inspected, "bad-file", "progressive.json", "config.json");
  });

  // "my model.gguf" was asked for by its plain name and looked up as "my%20model.gguf": nothing was checked.
  test.each(["my model.gguf", "100% a?b#c.gguf", "größe+1.gguf", "a%20b.gguf"])(
    "of %s are checked, however it is spelt in its address",
    async (name) => {
      const bytes = new Uint8Array(100).fill(1);
      const hashes = new Map([[name, hashesOf(new Uint8Array(100), 4096)]]);
      for (const location of [`owner/name/${name}`, `https://host.test/${encodeURIComponent(name)}`]) {
        const files = locateModel(location, {
          fetch: serve({ [name]: bytes }, () => new Response(null, { status: 404 })).fetch,
          cache: false,
        });
        expect(files.weightsFile).toBe(name);
        const source = await verifiedFiles(files, hashes, () => undefined).open(name);
        await expectLlmError(source?.read({ start: 0, end: 100 }) ?? Promise.resolve(), "bad-hash", "came twice");
      }
    },
  );
});

test.each([400, 401, 403, 404, 410])("a signed address past its time that answers %i is asked of the hub again, once", async (status) => {
  const bytes = new Uint8Array(300_000).fill(3);
  const { fetch } = serve({ file: bytes }, () => new Response(null, { status: 404 }));
  let signed = 0;
  let isHubLost = false;
  const signing: typeof globalThis.fetch = async (input, init) => {
    const url = String(input);
    if (isHubLost || url.startsWith("https://cdn.test/1/")) return new Response("ExpiredToken", { status });
    if (!url.startsWith("https://cdn.test/")) signed += 1;
    const response = await fetch("https://cdn.test/file", init);
    Object.defineProperties(response, { redirected: { value: true }, url: { value: `https://cdn.test/${signed}/file` } });
    return response;
  };
  const source = await openHttp("https://hub.test/file", { fetch: signing });
  expect((await source.read({ start: 100_000, end: 200_000 })).length).toBe(100_000);
  expect(signed).toBe(2);
  isHubLost = true;
  await expect(source.read({ start: 200_000, end: 300_000 })).rejects.toThrow(String(status));
});

describe("servers of one CDN that tag one file differently", () => {
  const date = { "Last-Modified": "Tue, 01 Jul 2025 00:00:00 GMT" };
  const tagging = (headers: (count: number) => Record<string, string>): typeof fetch => {
    const { fetch } = serve(whole, () => new Response(null, { status: 404 }));
    let count = 0;
    return async (input, init) => {
      const response = await fetch(input, init);
      for (const [name, value] of Object.entries(headers(count++))) response.headers.set(name, value);
      return response;
    };
  };
  const readWeights = async (fetch: typeof globalThis.fetch) => {
    const told: string[] = [];
    const url = "https://host.test/model.safetensors";
    const source = await openHttp(url, { fetch, headBytes: 1000, partBytes: 100_000, onEvent: ({ type }) => told.push(type) });
    return { bytes: await source.read({ start: 0, end: source.size }), told };
  };

  test("are one by length and date, which an event tells once", async () => {
    const { bytes, told } = await readWeights(tagging((count) => ({ ...date, ETag: `"${count % 2}"` })));
    expect(Buffer.compare(bytes, whole["model.safetensors"] ?? new Uint8Array())).toBe(0);
    expect(told.filter((type) => type === "etag-differs")).toHaveLength(1);
  });

  test("are one where a tag is weak now and then, without an event", async () => {
    const { bytes, told } = await readWeights(tagging((count) => ({ ETag: count % 2 ? 'W/"a"' : '"a"' })));
    expect([bytes.length, told.includes("etag-differs")]).toEqual([whole["model.safetensors"]?.length, false]);
  });

  test("and send no date are one where hashes tell, and are not where a hash is wrong", async () => {
    const weights = whole["model.safetensors"] ?? new Uint8Array();
    const read = async (content: Uint8Array) => {
      const fetch = tagging((count) => ({ ETag: `"${count % 2}"` }));
      const source = await openHttp("https://host.test/model.safetensors", { fetch, headBytes: 1000, partBytes: 100_000 });
      return verifySource(source, hashesOf(content, 4096)).read({ start: 0, end: source.size });
    };
    expect(Buffer.compare(await read(weights), weights)).toBe(0);
    await expectLlmError(read(weights.slice().fill(1, 200_000, 200_010)), "bad-hash", "came twice");
  });

  test("and send no date end the load with what their maker must mend", async () => {
    await expectLlmError(readWeights(tagging((count) => ({ ETag: `"${count % 2}"` }))), "bytes-changed", "publishes", "one ETag");
  });
});
