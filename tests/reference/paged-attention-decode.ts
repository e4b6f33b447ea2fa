// Attention of the row at `position`, in f64: the last row of a prefill.
import { type AttentionInput, pagedAttentionPrefillReference } from "./paged-attention-prefill";

export function pagedAttentionDecodeReference(input: Omit<AttentionInput, "rows">): Float64Array {
  return pagedAttentionPrefillReference({ ...input, rows: 1 });
}
