// The engine's state on the GPU: written by the CPU before a prefill chunk and by sample-pick after each step.
// Kernels bind it read-only as `state`, so that what they read from it is uniform.
struct State {
  position: u32,    // of the first row of this step, in its sequence
  row_count: u32,   // rows of this step: 1 in decode, up to the chunk's size in prefill
  stopped: u32,     // 0, or why the sequence ended: steps submitted ahead then do nothing
  step: u32,        // tokens sampled since the run began; part of the random key
}
