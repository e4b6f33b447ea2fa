// Y = epilogue(X·Wᵀ) for the rows of a prefill chunk, on the units that multiply whole blocks: TILE_ROWS × TILE_COLUMNS outputs a workgroup
// of four subgroups, a quarter of them a subgroup, in blocks of SIZE × SIZE summed in f32.
//
// Each turn takes one group of 32 columns through workgroup memory in f16, the next one's loads under way meanwhile. Weights are rounded
// to f16. Activations reach beyond 65,504 and a half keeps three digits of them: a sixteenth of x is split into a half and the half of what
// that leaves off, two products for nearly the precision of one in f32, up to a million. Rows are PITCH halves apart: blocks then load
// without bank conflicts.
// The units' layout of a block is their own: results go through workgroup memory, where each thread finds its outputs.
// Written after chromium_experimental_subgroup_matrix as Chromium 156 has it.
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
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

const THREADS = 128u;
const SUBGROUP_SIZE = 32u;
const SUBGROUP_ROWS = TILE_ROWS / 2u;
const SUBGROUP_COLUMNS = TILE_COLUMNS / 2u;
const BLOCKS_DOWN = SUBGROUP_ROWS / SIZE;
const BLOCKS_ACROSS = SUBGROUP_COLUMNS / SIZE;
const ROW_VEC4S = GROUPS * 8u;
const PITCH = 40u;
const BLOCK_PITCH = SIZE + 4u;

alias Left = subgroup_matrix_left<f16, SIZE, SIZE>;
alias Right = subgroup_matrix_right<f16, SIZE, SIZE>;
alias Sums = subgroup_matrix_result<f32, SIZE, SIZE>;

var<workgroup> tile_x: array<f16, TILE_ROWS * PITCH>;
var<workgroup> tile_rest: array<f16, TILE_ROWS * PITCH>; // what tile_x leaves off
var<workgroup> tile_w: array<f16, TILE_COLUMNS * PITCH>;
var<workgroup> blocks: array<f32, THREADS / SUBGROUP_SIZE * SIZE * BLOCK_PITCH>;

// What a thread stages: vec4s of x, eight threads a row; octets of weights, four threads a row.
const X_STEP = THREADS / 8u;
const X_LOADS = TILE_ROWS / X_STEP;
const W_STEP = THREADS / 4u;
const W_LOADS = TILE_COLUMNS / W_STEP;
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

const LARGEST = vec4<f32>(65504.0);
const X_SCALE = 1.0 / 16.0;

fn stage_next(group: u32, thread: u32) {
  for (var i = 0u; i < X_LOADS; i++) {
    let at = (thread / 8u + i * X_STEP) * PITCH + thread % 8u * 4u;
    let value = next_x[i] * X_SCALE;
    let half = vec4<f16>(clamp(value, -LARGEST, LARGEST));
    let rest = vec4<f16>(clamp(value - vec4<f32>(half), -LARGEST, LARGEST));
    for (var j = 0u; j < 4u; j++) {
      tile_x[at + j] = half[j];
      tile_rest[at + j] = rest[j];
    }
  }
  let places = octet_places(thread % 4u) * 4u;
  for (var i = 0u; i < W_LOADS; i++) {
    let at = (thread / 4u + i * W_STEP) * PITCH;
    let scale = unpack_scale(next_scale_words[i], group);
    let weights = unpack_octet(next_codes[i]);
    let first = vec4<f16>(clamp(weights[0] * scale.x + scale.y, -LARGEST, LARGEST));
    let second = vec4<f16>(clamp(weights[1] * scale.x + scale.y, -LARGEST, LARGEST));
    for (var j = 0u; j < 4u; j++) {
      tile_w[at + places.x + j] = first[j];
      tile_w[at + places.y + j] = second[j];
    }
  }
}

// Row m, outputs n and n + 1.
fn store(m: u32, n: u32, sums: vec2<f32>) {
  if (m >= state.row_count || n >= ROWS) { return; }
  var values = sums / X_SCALE;
#if BIAS
  values += vec2<f32>(bias[n], bias[n + 1u]);
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

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_invocation_id) lane: u32,
  @builtin(local_invocation_index) thread: u32,
) {
  let first_m = workgroup.y * TILE_ROWS;
  let first_n = workgroup.x * TILE_COLUMNS;
  if (first_m >= state.row_count) { return; }
  let row = subgroup / 2u * SUBGROUP_ROWS; // in the tile, of the subgroup's outputs
  let column = subgroup % 2u * SUBGROUP_COLUMNS;
  var sums: array<array<Sums, BLOCKS_ACROSS>, BLOCKS_DOWN>;

  load_next(first_m, first_n, 0u, thread);
  for (var group = 0u; group < GROUPS; group++) {
    stage_next(group, thread);
    workgroupBarrier();
    if (group + 1u < GROUPS) { load_next(first_m, first_n, group + 1u, thread); }
    for (var k = 0u; k < 32u; k += SIZE) {
      var right: array<Right, BLOCKS_ACROSS>;
      for (var j = 0u; j < BLOCKS_ACROSS; j++) {
        right[j] = subgroupMatrixLoad<Right, col_major>(&tile_w, (column + j * SIZE) * PITCH + k, PITCH);
      }
      for (var i = 0u; i < BLOCKS_DOWN; i++) {
        let at = (row + i * SIZE) * PITCH + k;
        let left = subgroupMatrixLoad<Left, row_major>(&tile_x, at, PITCH);
        let rest = subgroupMatrixLoad<Left, row_major>(&tile_rest, at, PITCH);
        for (var j = 0u; j < BLOCKS_ACROSS; j++) {
          sums[i][j] = subgroupMatrixMultiplyAccumulate(rest, right[j], sums[i][j]);
          sums[i][j] = subgroupMatrixMultiplyAccumulate(left, right[j], sums[i][j]);
        }
      }
    }
    workgroupBarrier();
  }

  let block = subgroup * SIZE * BLOCK_PITCH;
  for (var i = 0u; i < BLOCKS_DOWN; i++) {
    for (var j = 0u; j < BLOCKS_ACROSS; j++) {
      subgroupMatrixStore<row_major>(&blocks, block, sums[i][j], BLOCK_PITCH);
      workgroupBarrier();
      for (var at = lane; at < SIZE * SIZE / 2u; at += SUBGROUP_SIZE) {
        let m = at / (SIZE / 2u);
        let n = at % (SIZE / 2u) * 2u;
        let place = block + m * BLOCK_PITCH + n;
        store(first_m + row + i * SIZE + m, first_n + column + j * SIZE + n, vec2<f32>(blocks[place], blocks[place + 1u]));
      }
      workgroupBarrier();
    }
  }
}
