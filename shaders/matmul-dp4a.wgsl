// Y = epilogue(X·Wᵀ) for the rows of a prefill chunk, with instructions that multiply and add four bytes. quantise-rows makes x. A workgroup computes
// TILE_ROWS × TILE_COLUMNS outputs, a thread THREAD_ROWS × 4. The products of a group of 32 columns are summed exactly, as integers; the groups are summed
// in f32.
//
// Each turn takes one group through workgroup memory, while the next group's loads are under way. A group's 32 bytes are two vec4s. A tile holds the first
// vec4s of all rows, then the second ones. A thread's rows and columns are spaced by the number of threads, so that neighbours read neighbouring vec4s and
// access different banks. A thread has pairs of matrix rows, because it stores pairs: the even rows come first in the tile.
#include "state.wgsl"
#include "weights.wgsl"
#include "epilogue.wgsl"

@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> x_codes: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> x_scales: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> scales: array<u32>;
#if BIAS
@group(0) @binding(5) var<storage, read> bias: array<f32>;
#endif
@group(0) @binding(6) var<storage, read_write> y: array<f32>;

override ROWS: u32;
override Y_STRIDE: u32;
override Y_OFFSET: u32;

const THREADS_ACROSS = TILE_COLUMNS / 4u;
const THREADS_DOWN = TILE_ROWS / THREAD_ROWS;
const WORKGROUP_SIZE = THREADS_ACROSS * THREADS_DOWN;

var<workgroup> tile_x: array<vec4<u32>, 2u * TILE_ROWS>;
var<workgroup> tile_w: array<vec4<u32>, 2u * TILE_COLUMNS>;
var<workgroup> tile_x_scales: array<vec2<f32>, TILE_ROWS>;
var<workgroup> tile_w_scales: array<vec2<f32>, TILE_COLUMNS>;

// Number of vec4s in a group's codes.
#if FORMAT == q8
const CODE_VEC4S = 2u;
#else
const CODE_VEC4S = 1u;
#endif

// Each thread stages one vec4 of x, two threads a row, and one vec4 of codes.
const X_STEP = WORKGROUP_SIZE / 2u;
const X_LOADS = (TILE_ROWS + X_STEP - 1u) / X_STEP;
const W_STEP = WORKGROUP_SIZE / CODE_VEC4S;
const W_LOADS = (TILE_COLUMNS + W_STEP - 1u) / W_STEP;
var<private> next_x: array<vec4<u32>, X_LOADS>;
var<private> next_x_scales: array<vec2<f32>, X_LOADS>;
var<private> next_codes: array<vec4<u32>, W_LOADS>;
var<private> next_scale_words: array<u32, W_LOADS>;

fn load_next(first_m: u32, first_n: u32, group: u32, thread: u32) {
  for (var i = 0u; i < X_LOADS; i++) {
    let at = (first_m + thread / 2u + i * X_STEP) * GROUPS + group;
    next_x[i] = x_codes[at * 2u + thread % 2u];
    next_x_scales[i] = x_scales[at];
  }
  for (var i = 0u; i < W_LOADS; i++) {
    let row = min(first_n + thread / CODE_VEC4S + i * W_STEP, ROWS - 1u);
    next_codes[i] = codes[(row * GROUPS + group) * CODE_VEC4S + thread % CODE_VEC4S];
    next_scale_words[i] = load_scale_word(row, group);
  }
}

fn stage_next(group: u32, thread: u32) {
  for (var i = 0u; i < X_LOADS; i++) {
    let row = thread / 2u + i * X_STEP;
    if (row < TILE_ROWS) {
      tile_x[thread % 2u * TILE_ROWS + row] = next_x[i];
      if (thread % 2u == 0u) { tile_x_scales[row] = next_x_scales[i]; }
    }
  }
  for (var i = 0u; i < W_LOADS; i++) {
    let row = thread / CODE_VEC4S + i * W_STEP;
    let place = row % 2u * (TILE_COLUMNS / 2u) + row / 2u;
    let code = next_codes[i];
    if (row < TILE_COLUMNS) {
#if FORMAT == q8
      tile_w[thread % 2u * TILE_COLUMNS + place] = code;
#else
      let bytes = array<vec2<u32>, 4>(octet_bytes(code.x), octet_bytes(code.y), octet_bytes(code.z), octet_bytes(code.w));
      tile_w[place] = vec4<u32>(bytes[0].x, bytes[1].x, bytes[2].x, bytes[3].x);
      tile_w[TILE_COLUMNS + place] = vec4<u32>(bytes[0].y, bytes[1].y, bytes[2].y, bytes[3].y);
#endif
      if (thread % CODE_VEC4S == 0u) { tile_w_scales[place] = unpack_scale(next_scale_words[i], group); }
    }
  }
}

fn dot_group(x0: vec4<u32>, x1: vec4<u32>, w0: vec4<u32>, w1: vec4<u32>) -> i32 {
  return dot4I8Packed(x0.x, w0.x) + dot4I8Packed(x0.y, w0.y) + dot4I8Packed(x0.z, w0.z) + dot4I8Packed(x0.w, w0.w)
    + dot4I8Packed(x1.x, w1.x) + dot4I8Packed(x1.y, w1.y) + dot4I8Packed(x1.z, w1.z) + dot4I8Packed(x1.w, w1.w);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let first_m = workgroup.y * TILE_ROWS;
  let first_n = workgroup.x * TILE_COLUMNS;
  if (first_m >= state.row_count) { return; }
  // The first of the thread's rows of x, and the first of its places among the matrix rows.
  let down = thread / THREADS_ACROSS;
  let across = thread % THREADS_ACROSS;
  var sums: array<vec4<f32>, THREAD_ROWS>;

  load_next(first_m, first_n, 0u, thread);
  for (var group = 0u; group < GROUPS; group++) {
    stage_next(group, thread);
    workgroupBarrier();
    if (group + 1u < GROUPS) { load_next(first_m, first_n, group + 1u, thread); }
    let places = across + THREADS_ACROSS * vec4<u32>(0u, 1u, 2u, 3u);
    let w0 = array<vec4<u32>, 4>(tile_w[places.x], tile_w[places.y], tile_w[places.z], tile_w[places.w]);
    let seconds = TILE_COLUMNS + places;
    let w1 = array<vec4<u32>, 4>(tile_w[seconds.x], tile_w[seconds.y], tile_w[seconds.z], tile_w[seconds.w]);
    let scale = transpose(mat4x2<f32>(
      tile_w_scales[places.x], tile_w_scales[places.y], tile_w_scales[places.z], tile_w_scales[places.w]));
    for (var i = 0u; i < THREAD_ROWS; i++) {
      let row = down + i * THREADS_DOWN;
      let x0 = tile_x[row];
      let x1 = tile_x[TILE_ROWS + row];
      let x_scale = tile_x_scales[row];
      let products = vec4<i32>(
        dot_group(x0, x1, w0[0], w1[0]),
        dot_group(x0, x1, w0[1], w1[1]),
        dot_group(x0, x1, w0[2], w1[2]),
        dot_group(x0, x1, w0[3], w1[3]));
      sums[i] += x_scale.x * scale[0] * vec4<f32>(products);
#if FORMAT == q4m
      sums[i] += x_scale.y * scale[1];
#endif
    }
    workgroupBarrier();
  }

  for (var i = 0u; i < THREAD_ROWS; i++) {
    let m = first_m + down + i * THREADS_DOWN;
    store_pair(m, first_n + 2u * across, sums[i].xz);
    store_pair(m, first_n + 2u * (across + THREADS_ACROSS), sums[i].yw);
  }
}
