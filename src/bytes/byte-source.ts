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
   * Tells one state of the file from another (its ETag, or what stands in for one); absent where nothing does. Two
   * sources of one name with equal versions and sizes hold the same bytes.
   */
  readonly version?: string;
  /** The file's date, where it is old enough to tell states apart; absent where nobody tells one. */
  readonly modified?: string;
  /** Names the bytes themselves, wherever they lie: sources with equal ones hold equal bytes. Absent where nobody has told hashes of them. */
  readonly contentHash?: string;
  /**
   * The bytes of `range`, all of them.
   *
   * @throws LlmError "bytes-truncated" | "bytes-changed" | "bad-hash" | "fetch-failed" | "not-found" | "out-of-memory"; the signal's reason when aborted.
   */
  read(range: ByteRange, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>>;
  /** Drops all copies of `range`, so that the next read of it asks where the bytes come from. Absent where none are kept. */
  evict?(range: ByteRange): Promise<void>;
  /** From now on every byte is checked against hashes: an answer of the right length counts, whatever its ETag. Absent where none is compared. */
  leaveToHashes?(): void;
}

export type ByteEvent =
  /**
   * Bytes came in. One event for each chunk as the network hands it out (16 KiB to 1 MiB: up to some hundred events a
   * second) and for each cached or local read: listeners that draw should add up and draw once a frame. Counts what came
   * over the wire, so a stream that starts again can make the sum larger than the file.
   */
  | { readonly type: "bytes-received"; readonly source: string; readonly bytes: number; readonly origin: "network" | "cache" | "local" }
  | {
      readonly type: "fetch-retry";
      readonly source: string;
      readonly range: ByteRange;
      readonly attempt: number;
      readonly delayMs: number;
      readonly reason: string;
    }
  /** The server ignores range requests, or hides Content-Range from pages (CORS): the file is read once as one stream, in order. */
  | { readonly type: "ranges-unsupported"; readonly source: string }
  /** The cache could not be used (quota, no OPFS): reading goes on without it. */
  | { readonly type: "cache-unavailable"; readonly source: string; readonly reason: string }
  /** An answer has another ETag than the first one or the cached copy, but the same length and date: it counts as the same file, on another CDN server. */
  | { readonly type: "etag-differs"; readonly source: string; readonly first: string; readonly found: string }
  /** The server has another version of the file than the cache: the copy is dropped, and the file fetched anew. */
  | { readonly type: "cache-outdated"; readonly source: string; readonly reason: string }
  /** Bytes were not what the model's hashes say: they are read once more, past the cache where there is one. */
  | { readonly type: "hash-mismatch"; readonly source: string; readonly range: ByteRange }
  /** The network did not answer: the file was opened from the cache alone, unchecked for changes. */
  | { readonly type: "offline-cache-used"; readonly source: string; readonly reason: string };

export type ByteEventListener = (event: ByteEvent) => void;
