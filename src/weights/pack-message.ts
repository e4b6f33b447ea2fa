// Messages between the main thread and a packing worker. Errors cross as code and message, because classes do not survive cloning.
import { LlmError, type LlmErrorCode } from "../errors";
import type { PackedMatrix } from "../weight-format";
import type { PackTask } from "./pack";

export interface PackRequest {
  readonly id: number;
  readonly task: PackTask;
}

export type PackReply =
  /** The worker's script has loaded. It gets no tasks, and none of their bytes, before that. */
  | { readonly type: "ready" }
  | { readonly type: "packed"; readonly id: number; readonly matrix: PackedMatrix }
  | { readonly type: "failed"; readonly id: number; readonly code: LlmErrorCode | null; readonly message: string };

export function failedReply(id: number, error: unknown): PackReply {
  const message = error instanceof Error ? error.message : String(error);
  return { type: "failed", id, code: error instanceof LlmError ? error.code : null, message };
}

/** The worker's error. Without a code it is our own mistake. */
export function errorOf({ code, message }: Extract<PackReply, { type: "failed" }>): Error {
  return code === null ? new Error(message) : new LlmError(code, message);
}

/** The buffers that `views` cover completely. They can be transferred without a copy. */
export function wholeBuffers(views: readonly Uint8Array<ArrayBuffer>[]): ArrayBuffer[] {
  return [...new Set(views.filter((view) => view.byteLength === view.buffer.byteLength).map((view) => view.buffer))];
}

/**
 * Frees the memory of buffers that are no longer needed. Left to the garbage collectors, one in each worker, it accumulates: loading the embedded
 * model with four workers held 75 MB, and 36 MB with this (docs/loading-memory.md).
 */
export function freeBuffers(views: readonly Uint8Array<ArrayBuffer>[]): void {
  for (const buffer of wholeBuffers(views)) buffer.transfer?.(0); // Chrome 114, Firefox 122, Safari 17.4
}
