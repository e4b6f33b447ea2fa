// What every place that bytes can come from offers: reads of byte ranges.

/** A half-open range of bytes: `start` inclusive, `end` exclusive. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

export interface ByteSource {
  /** Where the bytes come from, for messages: a URL, a path, a file's name. */
  readonly name: string;
  /** Total length in bytes. Known before the first read: opening a source asks for it. */
  readonly size: number;
  /**
   * The bytes of `range`, all of them.
   *
   * @throws LlmError "bytes-truncated" | "bytes-changed" | "fetch-failed"; the signal's reason when aborted.
   */
  read(range: ByteRange, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>>;
}

export type ByteEvent =
  | { readonly type: "bytes-received"; readonly source: string; readonly bytes: number; readonly origin: "network" | "cache" | "local" }
  | { readonly type: "fetch-retry"; readonly source: string; readonly range: ByteRange; readonly attempt: number; readonly delayMs: number; readonly reason: string }
  /** The server ignores range requests: the file is read once as one stream, in order. */
  | { readonly type: "ranges-unsupported"; readonly source: string }
  /** The cache could not be used (quota, no OPFS): reading goes on without it. */
  | { readonly type: "cache-unavailable"; readonly source: string; readonly reason: string };

export type ByteEventListener = (event: ByteEvent) => void;
