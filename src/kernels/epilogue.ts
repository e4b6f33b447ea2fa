// The epilogue of a matrix product: the operation on its result before it is stored.

/**
 * - `store`: y = r.
 * - `add`: y += r, the residual in place.
 * - `silu-gated`: rows of the matrix are interleaved, gate then up; y[i] = silu(r[2i]) · r[2i + 1].
 * - `gelu`: the exact form, by erf. `gelu-tanh`: its approximation by tanh.
 */
export type Epilogue = "store" | "add" | "silu-gated" | "gelu" | "gelu-tanh";

export const EPILOGUES: readonly Epilogue[] = ["store", "add", "silu-gated", "gelu", "gelu-tanh"];

/** The epilogue as a word of the shaders' conditions. */
export function epilogueDefine(epilogue: Epilogue): string {
  return epilogue.replaceAll("-", "_");
}
