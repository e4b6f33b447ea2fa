// What becomes of a product's sums (src/kernels/epilogue.ts), two neighbouring outputs at a time: gate and up are neighbours.
// Needs EPILOGUE and BIAS; bindings `state`, `y` and, with BIAS, `bias`; overrides ROWS, Y_STRIDE and Y_OFFSET.
#include "activation.wgsl"

// Row m, outputs n and n + 1; n is even. What is past the step's rows or the matrix's is dropped.
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
