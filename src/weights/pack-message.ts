// What the main thread and a packing worker say to each other. Errors cross as code and message: classes do not survive the way.
import { LlmError, type LlmErrorCode } from "../errors";
import type { PackedMatrix } from "../weight-format";
import type { PackTask } from "./pack";

export interface PackRequest {
  readonly id: number;
  readonly task: PackTask;
}

export type PackReply =
  /** The worker's script has loaded: only from now on is it given tasks, whose bytes it takes over. */
  | { readonly type: "ready" }
  | { readonly type: "packed"; readonly id: number; readonly matrix: PackedMatrix }
  | { readonly type: "failed"; readonly id: number; readonly code: LlmErrorCode | null; readonly message: string };

export function failedReply(id: number, error: unknown): PackReply {
  const message = error instanceof Error ? error.message : String(error);
  return { type: "failed", id, code: error instanceof LlmError ? error.code : null, message };
}

/** The error as it was in the worker; without a code it is a mistake of ours. */
export function errorOf({ code, message }: Extract<PackReply, { type: "failed" }>): Error {
  return code === null ? new Error(message) : new LlmError(code, message);
}

/** The buffers of `views` that nobody else looks into: those that may change hands without a copy. */
export function wholeBuffers(views: readonly Uint8Array<ArrayBuffer>[]): ArrayBuffer[] {
  return [...new Set(views.filter((view) => view.byteLength === view.buffer.byteLength).map((view) => view.buffer))];
}

/**
 * Gives back the memory of what nobody needs any more. Left to the garbage collectors, one in each worker, it gathers: loading the embedded
 * model held 75 MB with four workers, and holds 36 MB so (docs/loading-memory.md).
 */
export function freeBuffers(views: readonly Uint8Array<ArrayBuffer>[]): void {
  for (const buffer of wholeBuffers(views)) buffer.transfer?.(0); // Chrome 114, Firefox 122, Safari 17.4
}
