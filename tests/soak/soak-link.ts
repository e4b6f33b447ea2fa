// A model's files behind a link that fails, stalls or ends early: as an application's own `ModelFiles`, or as a server that `fetch` asks.
import type { ByteRange, ByteSource } from "../../src/bytes/byte-source";
import { LlmError, type ModelFiles } from "../../src/index";
import type { FileContents } from "../support/memory-files";
import { memorySource } from "../support/memory-source";

export type LinkFault = "fails" | "stalls" | "ends early";
export const LINK_FAULTS: readonly LinkFault[] = ["fails", "stalls", "ends early"];

export class SoakLink {
  /** Files of one name and version are the same. */
  readonly #name: string;
  readonly #contents: FileContents;
  readonly #waiting = new Set<() => void>();
  #fault: LinkFault | null = null;
  #cuts = 0;

  constructor(name: string, contents: FileContents) {
    this.#name = name;
    this.#contents = contents;
  }

  /** How often it was cut so far. */
  get cuts(): number {
    return this.#cuts;
  }

  get isCut(): boolean {
    return this.#fault !== null;
  }

  /** Requests that stall. */
  get heldCount(): number {
    return this.#waiting.size;
  }

  /** Until `mend`, no byte of the weights arrives whole. */
  cut(fault: LinkFault): void {
    this.#fault = fault;
    this.#cuts++;
  }

  mend(): void {
    this.#fault = null;
    for (const proceed of this.#waiting) proceed();
    this.#waiting.clear();
  }

  get url(): string {
    return `https://soak.test/${this.#name}/`;
  }

  files(): ModelFiles {
    return {
      name: `soak/${this.#name}`,
      weightsFile: null,
      open: async (name) => {
        const bytes = this.#bytesOf(name);
        return bytes ? this.#source(name, bytes) : null;
      },
    };
  }

  /** Answers as a server with byte ranges does. */
  readonly fetch: typeof fetch = async (input, init) => {
    const request = new Request(input, init);
    const name = new URL(request.url).pathname.split("/").at(-1) ?? "";
    const bytes = this.#bytesOf(name);
    if (!bytes) return new Response(null, { status: 404 });
    const fault = await this.#passFault(name, request.signal);
    if (fault === "fails") throw new TypeError("the soak cut the link");
    const { start, end } = requestedRange(request.headers.get("range"), bytes.length);
    const body = bytes.slice(start, fault === "ends early" ? start + Math.floor((end - start) / 2) : end);
    return new Response(endingAsTold(body, fault), {
      status: request.headers.has("range") ? 206 : 200,
      headers: {
        "content-length": String(end - start),
        "content-range": `bytes ${start}-${end - 1}/${bytes.length}`,
        "accept-ranges": "bytes",
        etag: `"${this.#name} ${name}"`,
      },
    });
  };

  #bytesOf(name: string): Uint8Array<ArrayBuffer> | null {
    const content = this.#contents[name];
    if (content === undefined) return null;
    return typeof content === "string" ? new TextEncoder().encode(content) : new Uint8Array(content);
  }

  #source(name: string, bytes: Uint8Array): ByteSource {
    const source = memorySource(bytes, { name });
    const read = async (range: ByteRange, signal?: AbortSignal) => {
      const fault = await this.#passFault(name, signal);
      if (fault === "fails") throw new LlmError("fetch-failed", `${name}: the soak cut the link`);
      if (fault === "ends early") throw new LlmError("bytes-truncated", `${name}: the soak's link ended early`);
      return source.read(range, signal);
    };
    return { ...source, read, version: this.#name };
  }

  /** What happens to a request now; one that stalls is held until the link is mended. */
  async #passFault(name: string, signal: AbortSignal | undefined): Promise<LinkFault | null> {
    signal?.throwIfAborted();
    if (!name.endsWith(".safetensors")) return null;
    if (this.#fault !== "stalls") return this.#fault;
    await new Promise<void>((resolve, reject) => {
      this.#waiting.add(resolve);
      signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
    });
    return this.#fault;
  }
}

function requestedRange(header: string | null, size: number): ByteRange {
  const match = /^bytes=(\d+)-(\d*)$/.exec(header ?? "");
  if (!match) return { start: 0, end: size };
  return { start: Number(match[1]), end: match[2] ? Math.min(size, Number(match[2]) + 1) : size };
}

/** A body that breaks off where the link ends early. */
function endingAsTold(body: Uint8Array<ArrayBuffer>, fault: LinkFault | null): ReadableStream<Uint8Array<ArrayBuffer>> {
  return new ReadableStream({
    start(controller) {
      if (body.length > 0) controller.enqueue(body);
      if (fault === "ends early") controller.error(new TypeError("the soak's link ended early"));
      else controller.close();
    },
  });
}
