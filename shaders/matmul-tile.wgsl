// Y = epilogue(X·Wᵀ) for the rows of a prefill chunk: a tile of TILE_ROWS × 64 outputs a workgroup, THREAD_ROWS × 4 a thread,
// in f32 accumulators; each turn takes one group of 32 columns through workgroup memory, 16 KiB at most.
//
// Both tiles keep their rows along the columns, as memory has them, so staging stores whole vec4s. The vec4s of a row are placed by
// exclusive-or with its block of four rows: threads that read one column of neighbouring blocks then touch different banks.
// With MATH f16 the weights' tile holds f16 (x stays f32: activations reach beyond 65,504).
#if MATH == f16
enable f16;
#endif
#include "state.wgsl"
#include "weights.wgsl"
#include "activation.wgsl"

@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> codes: array<Octet>;
#if SCALED
@group(0) @binding(3) var<storage, read> scales: array<u32>;
#endif
#if BIAS
@group(0) @binding(4) var<storage, read> bias: array<f32>;
#endif
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

override ROWS: u32;
override Y_STRIDE: u32;
override Y_OFFSET: u32;

const TILE_COLUMNS = 64u;
const WORKGROUP_SIZE = 256u;
const ROW_VEC4S = GROUPS * 8u;
const X_LOADS = (TILE_ROWS * 8u + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;

#if MATH == f16
alias Weight = vec4<f16>;
fn to_weight(value: vec4<f32>) -> Weight { return Weight(clamp(value, vec4<f32>(-65504.0), vec4<f32>(65504.0))); }
#else
alias Weight = vec4<f32>;
fn to_weight(value: vec4<f32>) -> Weight { return value; }
#endif

var<workgroup> tile_x: array<vec4<f32>, TILE_ROWS * 8u>;
var<workgroup> tile_w: array<Weight, TILE_COLUMNS * 8u>;

fn tile_index(row: u32, place: u32) -> u32 { return row * 8u + (place ^ (row / 4u % 8u)); }

// Columns of the output from `row` of the weights on; the accumulator's four.
fn store(m: u32, n: u32, sums: vec4<f32>) {
  if (m >= state.row_count) { return; }
#if BIAS
  let values = sums + vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]);
#else
  let values = sums;
#endif
#if EPILOGUE == silu_gated
  let at = m * Y_STRIDE + Y_OFFSET + n / 2u;
  if (n + 1u < ROWS) { y[at] = silu(values.x) * values.y; }
  if (n + 3u < ROWS) { y[at + 1u] = silu(values.z) * values.w; }
#else
  let at = m * Y_STRIDE + Y_OFFSET + n;
  for (var i = 0u; i < 4u; i++) {
    if (n + i < ROWS) {
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
  }
#endif
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let first_m = workgroup.y * TILE_ROWS;
  let first_n = workgroup.x * TILE_COLUMNS;
  if (first_m >= state.row_count) { return; }

  // Staging: of x, a vec4 (or two) a thread, eight threads a row; of the weights, an octet a thread, four threads a row.
  let x_row = thread / 8u;
  let x_place = thread % 8u;
  let w_row = min(first_n + thread / 4u, ROWS - 1u);
  let w_octet = thread % 4u;
  let w_places = octet_places(w_octet);
  // Arithmetic.
  let block_m = thread / 16u * THREAD_ROWS;
  let block_n = thread % 16u * 4u;
  var sums: array<vec4<f32>, THREAD_ROWS>;

  for (var group = 0u; group < GROUPS; group++) {
    for (var i = 0u; i < X_LOADS; i++) {
      let m = x_row + i * 32u;
      if (m < TILE_ROWS) { tile_x[tile_index(m, x_place)] = x[(first_m + m) * ROW_VEC4S + group * 8u + x_place]; }
    }
    let scale = load_scale(w_row, group);
    let weights = unpack_octet(codes[(w_row * GROUPS + group) * 4u + w_octet]);
    tile_w[tile_index(thread / 4u, w_places.x)] = to_weight(weights[0] * scale.x + scale.y);
    tile_w[tile_index(thread / 4u, w_places.y)] = to_weight(weights[1] * scale.x + scale.y);
    workgroupBarrier();
    for (var place = 0u; place < 8u; place++) {
      let w = transpose(mat4x4<f32>(
        vec4<f32>(tile_w[tile_index(block_n, place)]),
        vec4<f32>(tile_w[tile_index(block_n + 1u, place)]),
        vec4<f32>(tile_w[tile_index(block_n + 2u, place)]),
        vec4<f32>(tile_w[tile_index(block_n + 3u, place)])));
      for (var i = 0u; i < THREAD_ROWS; i++) {
        let a = tile_x[tile_index(block_m + i, place)];
        sums[i] += a.x * w[0] + a.y * w[1] + a.z * w[2] + a.w * w[3];
      }
    }
    workgroupBarrier();
  }
  for (var i = 0u; i < THREAD_ROWS; i++) { store(first_m + block_m + i, first_n + block_n, sums[i]); }
}
