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

const ROW_VEC4S = GROUPS * 8u;
const TILE_COLUMNS = 64u;
const THREADS_ACROSS = TILE_COLUMNS / 4u;
const WORKGROUP_SIZE = TILE_ROWS / THREAD_ROWS * THREADS_ACROSS;

#if STAGED
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
#endif

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

// The two vec4s of an octet, scaled.
fn load_weights(row: u32, group: u32, octet: u32) -> mat2x4<f32> {
  let scale = load_scale(row, group);
  let weights = unpack_octet(codes[(row * GROUPS + group) * 4u + octet]);
  return mat2x4<f32>(weights[0] * scale.x + scale.y, weights[1] * scale.x + scale.y);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let first_m = workgroup.y * TILE_ROWS;
  let first_n = workgroup.x * TILE_COLUMNS;
  if (first_m >= state.row_count) { return; }
  let block_m = thread / THREADS_ACROSS * THREAD_ROWS;
  let block_n = thread % THREADS_ACROSS * 4u;
  var sums: array<vec4<f32>, THREAD_ROWS>;

#if STAGED
  // Staging: of x, eight threads a row, a vec4 each; of the weights, four threads a row, an octet each.
  let x_row = thread / 8u;
  let x_place = thread % 8u;
  let w_row = thread / 4u;
  let w_octet = thread % 4u;
  let w_places = octet_places(w_octet);
  for (var group = 0u; group < GROUPS; group++) {
    for (var m = x_row; m < TILE_ROWS; m += WORKGROUP_SIZE / 8u) {
      tile_x[tile_index(m, x_place)] = x[(first_m + m) * ROW_VEC4S + group * 8u + x_place];
    }
    let weights = load_weights(min(first_n + w_row, ROWS - 1u), group, w_octet);
    tile_w[tile_index(w_row, w_places.x)] = to_weight(weights[0]);
    tile_w[tile_index(w_row, w_places.y)] = to_weight(weights[1]);
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
#else
  if (first_m + block_m >= state.row_count || first_n + block_n >= ROWS) { return; }
  for (var at = 0u; at < GROUPS * 4u; at++) {
    let group = at / 4u;
    let octet = at % 4u;
    let places = octet_places(octet) + group * 8u;
    var w: array<mat2x4<f32>, 4>;
    for (var j = 0u; j < 4u; j++) { w[j] = load_weights(min(first_n + block_n + j, ROWS - 1u), group, octet); }
    for (var i = 0u; i < THREAD_ROWS; i++) {
      let row = (first_m + block_m + i) * ROW_VEC4S;
      let a = x[row + places.x];
      let b = x[row + places.y];
      sums[i] += vec4<f32>(
        dot(w[0][0], a) + dot(w[0][1], b),
        dot(w[1][0], a) + dot(w[1][1], b),
        dot(w[2][0], a) + dot(w[2][1], b),
        dot(w[3][0], a) + dot(w[3][1], b));
    }
  }
#endif
  for (var i = 0u; i < THREAD_ROWS; i++) { store(first_m + block_m + i, first_n + block_n, sums[i]); }
}
