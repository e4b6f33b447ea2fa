// Applies the epilogue of a matrix product (src/kernels/epilogue.ts) to two neighbouring outputs at a time: gate and up are neighbours.
// Needs EPILOGUE and BIAS; bindings `state`, `y` and, with BIAS, `bias`; overrides ROWS, Y_STRIDE and Y_OFFSET.
#include "activation.wgsl"

// Stores outputs n and n + 1 of row m; n is even. Outputs past the last row of the step or of the matrix are dropped.
fn store_pair(m: u32, n: u32, sums: vec2<f32>) {
  if (m >= state.row_count || n >= ROWS) { return; }
#if BIAS
  let values = sums + vec2<f32>(bias[n], bias[n + 1u]);
#else
  let values = sums;
#endif
#if EPILOGUE == silu_gated
  y[m * Y_STRIDE + Y_OFFSET + n / 2u] = silu(values.x) * values.y;
#else
  let at = m * Y_STRIDE + Y_OFFSET + n;
  for (var i = 0u; i < 2u; i++) {
    if (n + i >= ROWS) { return; }
#if EPILOGUE == add
    y[at + i] += values[i];
#elif EPILOGUE == gelu
    y[at + i] = gelu(values[i]);
#elif EPILOGUE == gelu_tanh
    y[at + i] = gelu_tanh(values[i]);
#else
    y[at + i] = values[i];
#endif
  }
#endif
}
