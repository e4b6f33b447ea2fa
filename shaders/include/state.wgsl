// The rows that a step computes. The CPU writes them before a prefill chunk, sample-pick after each step. Rows of a prefill chunk are consecutive
// positions of one sequence; rows of a decode step may each belong to another sequence. Kernels bind it read-only as `state`, so that values read from it
// are uniform.
struct Row {
  id: u32,          // the token
  position: u32,    // in its sequence
  slot: u32,        // of its sequence: selects its page table, sampling settings and token counts
  step: u32,        // tokens sampled since the run began; part of the random key
  stopped: u32,     // 0, or the reason why its run ended: steps submitted ahead then skip the row
}

struct State {
  row_count: u32,
  padding_0: u32,
  padding_1: u32,
  padding_2: u32,
  rows: array<Row>, // rows beyond row_count are meaningless
}
