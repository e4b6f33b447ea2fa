// What a step computes: written by the CPU before a prefill chunk, by sample-pick after each step. Rows of a prefill chunk are consecutive
// positions of one sequence; rows of a decode step may each be of another sequence. Kernels bind it read-only as `state`, so that what they
// read from it is uniform.
struct Row {
  id: u32,          // the token
  position: u32,    // in its sequence
  slot: u32,        // of its sequence: which page table, sampling settings and token counts are its own
  step: u32,        // tokens sampled since the run began; part of the random key
  stopped: u32,     // 0, or why its run ended: steps submitted ahead then do nothing for it
}

struct State {
  row_count: u32,
  padding_0: u32,
  padding_1: u32,
  padding_2: u32,
  rows: array<Row>, // beyond row_count they mean nothing
}
