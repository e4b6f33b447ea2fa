// A model hub on this machine, for tests: `/{user}/{model}/resolve/{revision}/{file}`, weights redirected to a second
// server ("the CDN", another origin), headers and CORS as the real one has them, and faults that can be switched on.

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join, normalize } from "node:path";

/** What goes wrong with the answers that bring a file's bytes. Change `hub.faults` at any time. */
export interface HubFaults {
  /** This status for the next `times` requests (all, unless told). */
  status?: { code: number; times?: number; retryAfter?: string };
  /** The connection is destroyed after so many body bytes, for the next `times` answers. */
  cut?: { afterBytes: number; times?: number };
  /** Nothing more comes after so many body bytes, for the next `times` answers; the connection stays open. */
  stall?: { afterBytes: number; times?: number };
  /** No byte of a weights file from this one on is sent before `until` is settled. */
  hold?: { fromByte: number; until: Promise<void> };
  /** Range headers are ignored: 200 and the whole file. */
  ignoreRanges?: boolean;
  /** No Content-Length: the body is sent in chunks. */
  hideLength?: boolean;
  /** Headers that are not sent, such as "etag". */
  withoutHeaders?: string[];
  /** Headers that are sent but not exposed to pages of other origins, such as "content-range". */
  hiddenHeaders?: string[];
  /** Content-Range tells a range that begins one byte later than the body. */
  wrongContentRange?: boolean;
  /** From the next request after so many on, the ETag is another. */
  changedEtag?: { afterRequests: number };
}

export interface HubRequest {
  readonly server: "hub" | "cdn";
  readonly method: string;
  readonly path: string;
  /** The Range header. */
  readonly range: string | undefined;
  readonly headers: IncomingMessage["headers"];
  status: number;
  /** Of the body, until now. */
  bytesSent: number;
  /** Whether the answer has ended, either way. */
  isOver: boolean;
}

export interface HubServer {
  /** "http://127.0.0.1:PORT"; the CDN's is another port. */
  readonly url: string;
  readonly requests: HubRequest[];
  faults: HubFaults;
  /** The address of a file as the hub has it; `path` is "user/model/file". */
  fileUrl(path: string, revision?: string): string;
  /** Adds or replaces a file that is on no disk. */
  put(path: string, bytes: Uint8Array): void;
  remove(path: string): void;
  /** Addresses that the hub has redirected to so far answer 403 from now on. */
  expireLocations(): void;
  /** Refuses every connection, as if the network were gone, until `resume`. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  close(): Promise<void>;
}

export interface HubOptions {
  /** A folder that holds `user/model/file`. */
  readonly root?: string;
  /** Which files come from the CDN: weights, as on the real hub. */
  readonly isRedirected?: (path: string) => boolean;
}

interface HubFile {
  readonly size: number;
  readonly etag: string;
  readonly modified: Date;
  read(start: number, end: number): AsyncIterable<Uint8Array>;
}

const CHUNK_BYTES = 64 << 10;
const EXPOSED_HEADERS = ["ETag", "Accept-Ranges", "Content-Range", "X-Repo-Commit", "X-Linked-Size", "X-Linked-ETag"];

export async function startHub(options: HubOptions = {}): Promise<HubServer> {
  const hub = new Hub(options);
  await hub.resume();
  return hub;
}

class Hub implements HubServer {
  readonly requests: HubRequest[] = [];
  faults: HubFaults = {};
  readonly #options: HubOptions;
  readonly #files = new Map<string, HubFile>();
  readonly #hub: Listener;
  readonly #cdn: Listener;
  #signature = 1;
  #answerCount = 0;

  constructor(options: HubOptions) {
    this.#options = options;
    this.#hub = new Listener((request, response) => this.#answer("hub", request, response));
    this.#cdn = new Listener((request, response) => this.#answer("cdn", request, response));
  }

  get url(): string {
    return this.#hub.url;
  }

  fileUrl(path: string, revision = "main"): string {
    const [user, model, ...file] = path.split("/");
    return `${this.url}/${user}/${model}/resolve/${revision}/${file.join("/")}`;
  }

  put(path: string, bytes: Uint8Array): void {
    const read = async function* (start: number, end: number) {
      for (let from = start; from < end; from += CHUNK_BYTES) yield bytes.subarray(from, Math.min(end, from + CHUNK_BYTES));
    };
    const etag = `"${createHash("sha256").update(bytes).digest("hex")}"`;
    this.#files.set(path, { size: bytes.length, etag, modified: new Date(), read });
  }

  remove(path: string): void {
    this.#files.delete(path);
  }

  expireLocations(): void {
    this.#signature += 1;
  }

  async resume(): Promise<void> {
    await Promise.all([this.#hub.open(), this.#cdn.open()]);
  }

  async pause(): Promise<void> {
    await Promise.all([this.#hub.close(), this.#cdn.close()]);
  }

  async close(): Promise<void> {
    await this.pause();
  }

  async #answer(server: HubRequest["server"], request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", this.url);
    const { method = "GET", headers } = request;
    const entry: HubRequest = { server, method, path: url.pathname, range: headers.range, headers, status: 0, bytesSent: 0, isOver: false };
    this.requests.push(entry);
    response.on("close", () => {
      entry.isOver = true;
    });
    setCors(response, this.faults.hiddenHeaders ?? []);
    if (method === "OPTIONS") return end(entry, response, 204);
    const path = server === "cdn" ? decodeURIComponent(url.pathname.slice(1)) : pathOf(url.pathname);
    if (server === "cdn" && url.searchParams.get("signature") !== String(this.#signature)) return end(entry, response, 403);
    const file = path === undefined ? undefined : await this.#find(path);
    if (path === undefined || file === undefined) return end(entry, response, 404);
    response.setHeader("X-Repo-Commit", "0123456789abcdef0123456789abcdef01234567");
    if (server === "hub" && (this.#options.isRedirected ?? isWeights)(path)) return this.#redirect(entry, response, path, file);
    await this.#serve(entry, request, response, file);
  }

  async #find(path: string): Promise<HubFile | undefined> {
    const inMemory = this.#files.get(path);
    if (inMemory !== undefined || this.#options.root === undefined) return inMemory;
    const onDisk = join(this.#options.root, normalize(`/${path}`));
    const found = await stat(onDisk).catch(() => undefined);
    if (!found?.isFile()) return undefined;
    const read = (start: number, end: number): AsyncIterable<Uint8Array> =>
      start === end ? emptyBody() : createReadStream(onDisk, { start, end: end - 1, highWaterMark: CHUNK_BYTES });
    return { size: found.size, etag: `"${found.size}-${found.mtimeMs}"`, modified: found.mtime, read };
  }

  #redirect(entry: HubRequest, response: ServerResponse, path: string, file: HubFile): void {
    response.setHeader("X-Linked-Size", file.size);
    response.setHeader("X-Linked-ETag", file.etag);
    response.setHeader("Location", `${this.#cdn.url}/${encodeURIComponent(path)}?signature=${this.#signature}`);
    end(entry, response, 302);
  }

  async #serve(entry: HubRequest, request: IncomingMessage, response: ServerResponse, file: HubFile): Promise<void> {
    const { faults } = this;
    if (faults.status !== undefined && use(faults.status)) {
      if (faults.status.retryAfter !== undefined) response.setHeader("Retry-After", faults.status.retryAfter);
      return end(entry, response, faults.status.code);
    }
    this.#answerCount += 1;
    const isChanged = faults.changedEtag !== undefined && this.#answerCount > faults.changedEtag.afterRequests;
    const range = faults.ignoreRanges ? undefined : parseRange(request.headers.range, file.size);
    response.setHeader("ETag", isChanged ? '"another"' : file.etag);
    response.setHeader("Last-Modified", file.modified.toUTCString());
    if (!faults.ignoreRanges) response.setHeader("Accept-Ranges", "bytes");
    if (range === "unsatisfiable") {
      response.setHeader("Content-Range", `bytes */${file.size}`);
      return end(entry, response, 416);
    }
    const [start, stop] = range ?? [0, file.size];
    if (range !== undefined) {
      response.setHeader("Content-Range", `bytes ${faults.wrongContentRange ? start + 1 : start}-${stop - 1}/${file.size}`);
    }
    if (!faults.hideLength) response.setHeader("Content-Length", stop - start);
    for (const name of faults.withoutHeaders ?? []) response.removeHeader(name);
    entry.status = range === undefined ? 200 : 206;
    response.writeHead(entry.status);
    if (request.method === "HEAD") response.end();
    else await this.#send(entry, response, isWeights(entry.path) ? this.#held(file, start, stop) : file.read(start, stop));
  }

  /** The file's bytes, as soon as they are to be sent. */
  async *#held(file: HubFile, start: number, stop: number): AsyncIterable<Uint8Array> {
    const { hold } = this.faults;
    const free = Math.min(stop, Math.max(start, hold?.fromByte ?? stop));
    if (free > start) yield* file.read(start, free);
    if (free === stop) return;
    await hold?.until;
    yield* file.read(free, stop);
  }

  async #send(entry: HubRequest, response: ServerResponse, body: AsyncIterable<Uint8Array>): Promise<void> {
    const { cut, stall } = this.faults;
    const isCut = cut !== undefined && use(cut);
    const isStalled = stall !== undefined && use(stall);
    const limit = isCut ? cut.afterBytes : isStalled ? stall.afterBytes : Number.POSITIVE_INFINITY;
    response.flushHeaders();
    for await (const chunk of body) {
      const sent = chunk.subarray(0, limit - entry.bytesSent);
      entry.bytesSent += sent.length;
      if (sent.length > 0) await new Promise<void>((resolve) => response.write(sent, () => resolve()));
      if (response.destroyed) return;
      if (entry.bytesSent >= limit) {
        if (isCut) response.destroy();
        return;
      }
    }
    response.end();
  }
}

/** One server on a port of its own, which it keeps when it is closed and opened again. */
class Listener {
  readonly #answer: (request: IncomingMessage, response: ServerResponse) => Promise<void>;
  #server: Server | undefined;
  #port = 0;

  constructor(answer: (request: IncomingMessage, response: ServerResponse) => Promise<void>) {
    this.#answer = answer;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  async open(): Promise<void> {
    if (this.#server !== undefined) return;
    const server = createServer((request, response) => {
      this.#answer(request, response).catch((error: unknown) => response.destroy(error instanceof Error ? error : undefined));
    });
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(this.#port, "127.0.0.1", resolve);
    });
    this.#server = server;
    this.#port = (server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  }
}

/** Whether a fault still applies, which counts as one of its times. */
function use(fault: { times?: number }): boolean {
  if (fault.times === undefined) return true;
  if (fault.times === 0) return false;
  fault.times -= 1;
  return true;
}

function setCors(response: ServerResponse, hidden: readonly string[]): void {
  const exposed = EXPOSED_HEADERS.filter((name) => !hidden.includes(name.toLowerCase()));
  response.setHeader("Access-Control-Allow-Origin", "*");
  response.setHeader("Access-Control-Expose-Headers", exposed.join(", "));
  response.setHeader("Access-Control-Allow-Headers", "Authorization, Range");
  response.setHeader("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS");
}

/** "user/model/file" of "/user/model/resolve/revision/file". */
function pathOf(pathname: string): string | undefined {
  const match = /^\/([^/]+)\/([^/]+)\/resolve\/[^/]+\/(.+)$/.exec(decodeURIComponent(pathname));
  return match === null ? undefined : `${match[1]}/${match[2]}/${match[3]}`;
}

function isWeights(path: string): boolean {
  return /\.(safetensors|gguf)$/.test(decodeURIComponent(path));
}

function parseRange(header: string | undefined, size: number): [number, number] | "unsatisfiable" | undefined {
  const match = /^bytes=(\d+)-(\d*)$/.exec(header ?? "");
  if (match === null) return undefined;
  const start = Number(match[1]);
  const end = match[2] === "" ? size : Math.min(size, Number(match[2]) + 1);
  return start < end ? [start, end] : "unsatisfiable";
}

async function* emptyBody(): AsyncGenerator<Uint8Array> {}

function end(entry: HubRequest, response: ServerResponse, status: number): void {
  entry.status = status;
  response.writeHead(status);
  response.end();
}
