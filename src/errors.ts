// The one error type that callers see: a closed set of codes, and a message that says what was found, what was
// expected, where, and what to do.

export type LlmErrorCode =
  /** No `navigator.gpu`: the browser has no WebGPU, or the page is not a secure context. */
  | "no-webgpu"
  /** WebGPU is there, but no adapter answered. */
  | "no-adapter"
  /** The device cannot hold what the model needs (limits, or an allocation failed). */
  | "out-of-memory"
  /** The device was lost (driver reset, tab in the background, GPU process ended). */
  | "device-lost"
  /** A shader or pipeline failed to compile or validate: our mistake or the driver's. */
  | "gpu-error"
  /** There is no such file or repository. */
  | "not-found"
  /** A file or URL answered with an error status. */
  | "fetch-failed"
  /** A file ended early, a connection was cut for good, or a range came back with the wrong length. */
  | "bytes-truncated"
  /** The file changed while it was read (its ETag, size or date differs). */
  | "bytes-changed"
  /** The bytes are not those that the repository's hashes were made for. */
  | "bad-hash"
  /** A header, length, offset, dtype or shape of a model file is wrong. */
  | "bad-file"
  /** The tensors do not fit the model's configuration. */
  | "bad-weights"
  /** config.json or the GGUF metadata is wrong or incomplete. */
  | "bad-config"
  /** The architecture, tensor type or tokenizer is not one that we support. */
  | "unsupported"
  /** The repository or file holds no tokenizer, or a broken one. */
  | "bad-tokenizer"
  /** The caller's argument is out of range. */
  | "bad-request"
  /** The object was disposed. */
  | "disposed";

export class LlmError extends Error {
  override readonly name = "LlmError";
  readonly code: LlmErrorCode;

  constructor(code: LlmErrorCode, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

/** The reason a signal was aborted with; an AbortError `DOMException` unless the caller gave another. */
export function abortReason(signal: AbortSignal): unknown {
  return signal.reason ?? new DOMException("The operation was aborted.", "AbortError");
}
