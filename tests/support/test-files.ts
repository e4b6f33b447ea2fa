// Files for GPU tests, the same in a browser and in Node. Paths are relative to the repository ("tests/golden/…", "../shared/…").
import type { ByteSource } from "../../src/bytes/byte-source";

const inBrowser = typeof window !== "undefined";

/** Whether the file is there: ../shared is not part of a clone. */
export async function hasTestFile(path: string): Promise<boolean> {
  if (inBrowser) return (await fetch(testFileUrl(path), { method: "HEAD" })).ok;
  const fs = await nodeFs();
  const absolute = await nodePath(path);
  if (absolute === null) return false;
  return fs.stat(absolute).then(
    (info) => info.isFile(),
    () => false,
  );
}

/** All bytes of a file. */
export async function readTestFile(path: string): Promise<Uint8Array<ArrayBuffer>> {
  const source = await openTestFile(path);
  return source.read({ start: 0, end: source.size });
}

export async function readTestJson<T>(path: string): Promise<T> {
  return JSON.parse(new TextDecoder().decode(await readTestFile(path))) as T;
}

/** A file as a byte source, read range by range. @throws Error when it is not there */
export async function openTestFile(path: string): Promise<ByteSource> {
  return inBrowser ? openServed(path) : openLocal(path);
}

/** Where the browser's tests find the file, for code that fetches by itself. */
export function testFileUrl(path: string): string {
  return new URL(`/test-files?path=${encodeURIComponent(path)}`, location.href).href;
}

async function openServed(path: string): Promise<ByteSource> {
  const url = testFileUrl(path);
  const head = await fetch(url, { method: "HEAD" });
  if (!head.ok) throw new Error(`no test file ${path}`);
  return {
    name: path,
    size: Number(head.headers.get("content-length")),
    async read({ start, end }, signal) {
      if (start === end) return new Uint8Array();
      const response = await fetch(url, { headers: { range: `bytes=${start}-${end - 1}` }, signal: signal ?? null });
      return new Uint8Array(await response.arrayBuffer());
    },
  };
}

async function openLocal(path: string): Promise<ByteSource> {
  const fs = await nodeFs();
  const absolute = await nodePath(path);
  if (absolute === null) throw new Error(`no test file ${path}`);
  const { size } = await fs.stat(absolute);
  return {
    name: path,
    size,
    async read({ start, end }) {
      const file = await fs.open(absolute);
      try {
        const bytes = new Uint8Array(end - start);
        const { bytesRead } = await file.read(bytes, 0, bytes.length, start);
        return bytes.subarray(0, bytesRead);
      } finally {
        await file.close();
      }
    },
  };
}

async function nodePath(path: string): Promise<string | null> {
  const { fileURLToPath } = await nodeModule<typeof import("node:url")>("node:url");
  const { resolveTestPath } = await import("./test-paths.ts");
  return resolveTestPath(fileURLToPath(new URL("../..", import.meta.url)), path);
}

function nodeFs(): Promise<typeof import("node:fs/promises")> {
  return nodeModule("node:fs/promises");
}

/** Kept from the browser's bundler, which has no such module. */
function nodeModule<T>(name: string): Promise<T> {
  return import(/* @vite-ignore */ name);
}
