// A web server inside `fetch`, so that tests of loading run in a browser as in Node: files by name, ranges, and faults that can be
// switched on. tests/support/hub-server.ts is the real one, for tests of the byte sources.
import type { FileContents } from "./memory-files";

/** What goes wrong. Change `server.faults` at any time. */
export interface FileServerFaults {
  /** This status for the next `times` requests (all, unless told) of files whose name ends so. */
  status?: { code: number; file?: string; times?: number };
  /** The connection breaks after so many body bytes, for the next `times` answers (all, unless told). */
  cut?: { afterBytes: number; times?: number };
  /** Range headers are ignored: 200 and the whole file. */
  ignoreRanges?: boolean;
  /** Answers that begin past this byte of a file are of another version. */
  changedPast?: number;
}

const CHUNK_BYTES = 16 << 10;

export class FileServer {
  faults: FileServerFaults = {};
  /** Called with each request, before it is answered. */
  onRequest: (file: string) => void = () => undefined;
  /** The names of the files asked for, in order. */
  readonly requests: string[] = [];
  /** Answers whose body is still coming. */
  openCount = 0;
  readonly #files: FileContents;

  constructor(files: FileContents) {
    this.#files = files;
  }

  /** For `LoadOptions.fetch`: whatever the address, the file of its last segment. */
  readonly fetch: typeof globalThis.fetch = async (input, init) => {
    const { pathname } = new URL(String(input));
    const file = pathname.slice(pathname.lastIndexOf("/") + 1);
    this.requests.push(file);
    this.onRequest(file);
    await Promise.resolve(); // as any network, it answers later
    init?.signal?.throwIfAborted();
    const { status } = this.faults;
    if (status && (!status.file || file.endsWith(status.file)) && use(status)) return new Response(null, { status: status.code });
    const content = this.#files[file];
    if (content === undefined) return new Response(null, { status: 404 });
    return this.#answer(typeof content === "string" ? new TextEncoder().encode(content) : content, init);
  };

  #answer(bytes: Uint8Array, init?: RequestInit): Response {
    const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(new Headers(init?.headers).get("range") ?? "") ?? [];
    const isRange = first !== undefined && !this.faults.ignoreRanges;
    const start = isRange ? Number(first) : 0;
    const end = isRange && last ? Math.min(bytes.length, Number(last) + 1) : bytes.length;
    const isChanged = start > (this.faults.changedPast ?? Number.POSITIVE_INFINITY);
    const headers = new Headers({ "Content-Length": String(end - start), ETag: isChanged ? '"2"' : '"1"' });
    if (isRange) headers.set("Content-Range", `bytes ${start}-${end - 1}/${bytes.length}`);
    return new Response(this.#body(bytes.subarray(start, end), init?.signal ?? null), { status: isRange ? 206 : 200, headers });
  }

  #body(bytes: Uint8Array, signal: AbortSignal | null): ReadableStream<Uint8Array> {
    const { cut } = this.faults;
    const limit = cut && cut.afterBytes < bytes.length && use(cut) ? cut.afterBytes : Number.POSITIVE_INFINITY;
    let sent = 0;
    this.openCount++;
    const close = once(() => this.openCount--);
    return new ReadableStream({
      start: (controller) => {
        signal?.addEventListener("abort", () => {
          close();
          controller.error(signal.reason);
        });
      },
      pull: (controller) => {
        if (sent >= limit) {
          close();
          controller.error(new TypeError("network error"));
          return;
        }
        const chunk = bytes.slice(sent, Math.min(sent + CHUNK_BYTES, limit));
        sent += chunk.length;
        if (chunk.length > 0) controller.enqueue(chunk);
        if (sent >= bytes.length) {
          close();
          controller.close();
        }
      },
      cancel: close,
    });
  }
}

/** Whether a fault still applies, which counts as one of its times. */
function use(fault: { times?: number }): boolean {
  if (fault.times === undefined) return true;
  fault.times -= 1;
  return fault.times >= 0;
}

function once(act: () => void): () => void {
  let isDone = false;
  return () => {
    if (!isDone) act();
    isDone = true;
  };
}
