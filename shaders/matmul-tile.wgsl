// Y = epilogue(X·Wᵀ) for the rows of a prefill chunk. A workgroup computes TILE_ROWS × TILE_COLUMNS outputs, a thread THREAD_ROWS × 4, summed in f32.
//
// With STAGED, each turn takes one group of 32 columns through workgroup memory. Both tiles keep their rows along the columns, as memory has them, so that
// whole vec4s are stored. A row's vec4s are placed by exclusive-or with the row's block, which is the rows of one thread. Threads that read the same
// columns of neighbouring blocks then access different banks. The next turn's x and weights are loaded before this turn's arithmetic.
// Without STAGED, each thread loads its own operands: the form for software adapters, where barriers are expensive.
#include "state.wgsl"
#include "weights.wgsl"
#include "epilogue.wgsl"

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
const THREADS_ACROSS = TILE_COLUMNS / 4u;
const WORKGROUP_SIZE = TILE_ROWS / THREAD_ROWS * THREADS_ACROSS;

fn load_code(row: u32, group: u32, octet: u32) -> Octet { return codes[(row * GROUPS + group) * 4u + octet]; }

fn scale_octet(code: Octet, scale: vec2<f32>) -> mat2x4<f32> {
  let weights = unpack_octet(code);
  return mat2x4<f32>(weights[0] * scale.x + scale.y, weights[1] * scale.x + scale.y);
}

#if STAGED
var<workgroup> tile_x: array<vec4<f32>, TILE_ROWS * 8u>;
var<workgroup> tile_w: array<vec4<f32>, TILE_COLUMNS * 8u>;

fn tile_index(row: u32, place: u32, block_rows: u32) -> u32 { return row * 8u + (place ^ (row / block_rows % 8u)); }

// Each thread stages vec4s of x, eight threads a row, and octets of weights, four threads a row.
const X_STEP = WORKGROUP_SIZE / 8u;
const X_LOADS = (TILE_ROWS + X_STEP - 1u) / X_STEP;
const W_STEP = WORKGROUP_SIZE / 4u;
const W_LOADS = (TILE_COLUMNS + W_STEP - 1u) / W_STEP;
var<private> next_x: array<vec4<f32>, X_LOADS>;
var<private> next_codes: array<Octet, W_LOADS>;
var<private> next_scale_words: array<u32, W_LOADS>;

fn load_next(first_m: u32, first_n: u32, group: u32, thread: u32) {
  for (var i = 0u; i < X_LOADS; i++) {
    next_x[i] = x[(first_m + thread / 8u + i * X_STEP) * ROW_VEC4S + group * 8u + thread % 8u];
  }
  for (var i = 0u; i < W_LOADS; i++) {
    let row = min(first_n + thread / 4u + i * W_STEP, ROWS - 1u);
    next_codes[i] = load_code(row, group, thread % 4u);
    next_scale_words[i] = load_scale_word(row, group);
  }
}

fn stage_next(group: u32, thread: u32) {
  for (var i = 0u; i < X_LOADS; i++) {
    let row = thread / 8u + i * X_STEP;
    if (row < TILE_ROWS) { tile_x[tile_index(row, thread % 8u, THREAD_ROWS)] = next_x[i]; }
  }
  let places = octet_places(thread % 4u);
  for (var i = 0u; i < W_LOADS; i++) {
    let row = thread / 4u + i * W_STEP;
    let weights = scale_octet(next_codes[i], unpack_scale(next_scale_words[i], group));
    if (row < TILE_COLUMNS) {
      tile_w[tile_index(row, places.x, 4u)] = weights[0];
      tile_w[tile_index(row, places.y, 4u)] = weights[1];
    }
  }
}
#endif

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let first_m = workgroup.y * TILE_ROWS;
  let first_n = workgroup.x * TILE_COLUMNS;
  if (first_m >= state.row_count) { return; }
  let block_m = thread / THREADS_ACROSS * THREAD_ROWS;
  let block_n = thread % THREADS_ACROSS * 4u;
  var sums: array<vec4<f32>, THREAD_ROWS>;

#if STAGED
  let swizzle_x = block_m / THREAD_ROWS % 8u;
  let swizzle_w = block_n / 4u % 8u;
  load_next(first_m, first_n, 0u, thread);
  for (var group = 0u; group < GROUPS; group++) {
    stage_next(group, thread);
    workgroupBarrier();
    if (group + 1u < GROUPS) { load_next(first_m, first_n, group + 1u, thread); }
    for (var place = 0u; place < 8u; place++) {
      let at_x = block_m * 8u + (place ^ swizzle_x);
      let at_w = block_n * 8u + (place ^ swizzle_w);
      let w = transpose(mat4x4<f32>(tile_w[at_w], tile_w[at_w + 8u], tile_w[at_w + 16u], tile_w[at_w + 24u]));
      for (var i = 0u; i < THREAD_ROWS; i++) {
        let a = tile_x[at_x + i * 8u];
        sums[i] += a.x * w[0] + a.y * w[1] + a.z * w[2] + a.w * w[3];
      }
    }
    workgroupBarrier();
  }
#else
  if (first_m + block_m >= state.row_count || first_n + block_n >= ROWS) { return; }
  for (var at = 0u; at < GROUPS * 4u; at++) {
    let group = at / 4u;
    let places = group * 8u + octet_places(at % 4u);
    var w: array<mat2x4<f32>, 4>;
    for (var j = 0u; j < 4u; j++) {
      let row = min(first_n + block_n + j, ROWS - 1u);
      w[j] = scale_octet(load_code(row, group, at % 4u), unpack_scale(load_scale_word(row, group), group));
    }
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
  for (var i = 0u; i < THREAD_ROWS; i++) {
    store_pair(first_m + block_m + i, first_n + block_n, sums[i].xy);
    store_pair(first_m + block_m + i, first_n + block_n + 2u, sums[i].zw);
  }
}
