// Y = epilogue(X·Wᵀ) for the rows of a prefill chunk, on units that multiply whole blocks of 16 × 16. A workgroup of four subgroups computes 64 × 64
// outputs, a subgroup 32 × 32, summed in f32.
//
// Each turn takes one group of 32 columns through workgroup memory in f16, while the next group's loads are under way. Weights are rounded to f16, and so
// is x / 16, since activations can exceed 65,504. (Splitting x into two halves cost a fifth of the speed; the logits of a 1.5B model are 2e-6 nats from
// f32's either way.) Rows are PITCH vec4s apart, so that blocks load without bank conflicts. Vec4s instead of halves tell the compiler the alignment. The
// four sums are named variables: as an array they went through memory, at half the speed (measured on an H100).
// The units' layout of a block is unspecified. Results therefore go through workgroup memory, where each thread finds its outputs.
// This follows chromium_experimental_subgroup_matrix as of Chromium 156: offset and stride count elements of the array.
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
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

const THREADS = 128u;
const TILE = 64u;                  // rows of x and rows of the matrix
const SIZE = 16u;                  // of a block
const ROW_VEC4S = GROUPS * 8u;
const PITCH = 10u;
const BLOCK_PITCH = SIZE + 4u;

alias Left = subgroup_matrix_left<f16, SIZE, SIZE>;
alias Right = subgroup_matrix_right<f16, SIZE, SIZE>;
alias Sums = subgroup_matrix_result<f32, SIZE, SIZE>;

var<workgroup> tile_x: array<vec4<f16>, TILE * PITCH>;
var<workgroup> tile_w: array<vec4<f16>, TILE * PITCH>;
var<workgroup> blocks: array<f32, 4u * SIZE * BLOCK_PITCH>;

// Each thread stages vec4s of x, eight threads a row, and octets of weights, four threads a row.
const X_STEP = THREADS / 8u;
const X_LOADS = TILE / X_STEP;
const W_STEP = THREADS / 4u;
const W_LOADS = TILE / W_STEP;
var<private> next_x: array<vec4<f32>, X_LOADS>;
var<private> next_codes: array<Octet, W_LOADS>;
var<private> next_scale_words: array<u32, W_LOADS>;

fn load_next(first_m: u32, first_n: u32, group: u32, thread: u32) {
  for (var i = 0u; i < X_LOADS; i++) {
    next_x[i] = x[(first_m + thread / 8u + i * X_STEP) * ROW_VEC4S + group * 8u + thread % 8u];
  }
  for (var i = 0u; i < W_LOADS; i++) {
    let row = min(first_n + thread / 4u + i * W_STEP, ROWS - 1u);
    next_codes[i] = codes[(row * GROUPS + group) * 4u + thread % 4u];
    next_scale_words[i] = load_scale_word(row, group);
  }
}

const X_SCALE = 1.0 / 16.0;

// Rounds to the nearest half, ties away from zero. It works on bits, because devices choose how a conversion rounds, and some truncate.
fn to_half(value: vec4<f32>) -> vec4<f16> {
  let bits = bitcast<vec4<u32>>(clamp(value, vec4<f32>(-65504.0), vec4<f32>(65504.0)));
  return vec4<f16>(bitcast<vec4<f32>>((bits + 0x1000u) & vec4<u32>(0xffffe000u)));
}

fn stage_next(group: u32, thread: u32) {
  for (var i = 0u; i < X_LOADS; i++) {
    tile_x[(thread / 8u + i * X_STEP) * PITCH + thread % 8u] = to_half(next_x[i] * X_SCALE);
  }
  let places = octet_places(thread % 4u);
  for (var i = 0u; i < W_LOADS; i++) {
    let at = (thread / 4u + i * W_STEP) * PITCH;
    let scale = unpack_scale(next_scale_words[i], group);
    let weights = unpack_octet(next_codes[i]);
    tile_w[at + places.x] = to_half(weights[0] * scale.x + scale.y);
    tile_w[at + places.y] = to_half(weights[1] * scale.x + scale.y);
  }
}

// Stores a block's results from workgroup memory; the block begins at row m, output n.
fn store_block(block: u32, m: u32, n: u32, lane: u32) {
  for (var at = lane; at < SIZE * SIZE / 2u; at += 32u) {
    let row = at / (SIZE / 2u);
    let column = at % (SIZE / 2u) * 2u;
    let place = block + row * BLOCK_PITCH + column;
    store_pair(m + row, n + column, vec2<f32>(blocks[place], blocks[place + 1u]) / X_SCALE);
  }
}

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_invocation_id) lane: u32,
  @builtin(local_invocation_index) thread: u32,
) {
  let first_m = workgroup.y * TILE;
  let first_n = workgroup.x * TILE;
  if (first_m >= state.row_count) { return; }
  // The subgroup's outputs are two blocks down from `row` and two across from `column`.
  let row = subgroup / 2u * 2u * SIZE;
  let column = subgroup % 2u * 2u * SIZE;
  var sums00: Sums;
  var sums01: Sums;
  var sums10: Sums;
  var sums11: Sums;

  load_next(first_m, first_n, 0u, thread);
  for (var group = 0u; group < GROUPS; group++) {
    stage_next(group, thread);
    workgroupBarrier();
    if (group + 1u < GROUPS) { load_next(first_m, first_n, group + 1u, thread); }
    for (var k = 0u; k < 8u; k += SIZE / 4u) {
      let x0 = row * PITCH + k;
      let x1 = x0 + SIZE * PITCH;
      let w0 = column * PITCH + k;
      let right0 = subgroupMatrixLoad<Right, col_major>(&tile_w, w0, PITCH);
      let right1 = subgroupMatrixLoad<Right, col_major>(&tile_w, w0 + SIZE * PITCH, PITCH);
      let left0 = subgroupMatrixLoad<Left, row_major>(&tile_x, x0, PITCH);
      let left1 = subgroupMatrixLoad<Left, row_major>(&tile_x, x1, PITCH);
      sums00 = subgroupMatrixMultiplyAccumulate(left0, right0, sums00);
      sums01 = subgroupMatrixMultiplyAccumulate(left0, right1, sums01);
      sums10 = subgroupMatrixMultiplyAccumulate(left1, right0, sums10);
      sums11 = subgroupMatrixMultiplyAccumulate(left1, right1, sums11);
    }
    workgroupBarrier();
  }

  let m = first_m + row;
  let n = first_n + column;
  let block = subgroup * SIZE * BLOCK_PITCH;
  subgroupMatrixStore<row_major>(&blocks, block, sums00, BLOCK_PITCH);
  workgroupBarrier();
  store_block(block, m, n, lane);
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&blocks, block, sums01, BLOCK_PITCH);
  workgroupBarrier();
  store_block(block, m, n + SIZE, lane);
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&blocks, block, sums10, BLOCK_PITCH);
  workgroupBarrier();
  store_block(block, m + SIZE, n, lane);
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&blocks, block, sums11, BLOCK_PITCH);
  workgroupBarrier();
  store_block(block, m + SIZE, n + SIZE, lane);
}
