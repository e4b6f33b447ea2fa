// y = epilogue(W·x) for each row of the step by itself, or with LAST_ROWS only for the last rows, as many as are dispatched. Decode spends most of its
// bandwidth here.
//
// A team of LANES threads computes ROWS_PER_THREAD rows; a workgroup holds several teams. Lanes take a row's units of 16 bytes in turn, so that neighbours
// read neighbouring addresses in every format. With STAGED, x goes through workgroup memory, a chunk of columns at a time, transposed to [vec4 of the
// unit][unit] at an odd stride. Neighbouring lanes then read neighbouring vec4s without bank conflicts; in x itself these are up to 128 bytes apart. Units
// are loaded one turn ahead, the first ones before x is staged.
// RMSNorm is one factor of all outputs: its weight is applied to x as it is loaded, and the sum of squares is kept beside the rows' sums.
// Lanes of a subgroup add their sums by shuffles, the rest in workgroup memory. Without SUBGROUPS all of them use a tree there. One thread finishes an
// output.
// With one lane there is nothing to add up and, without STAGED, no barrier: the form for software adapters.
//
// With BATCH > 1 a workgroup computes that many rows of the step and unpacks each weight once for all of them: it unpacks an octet of each of the thread's
// matrix rows, then multiplies it with every row of x. Each row's sums are added in the order of the one-row form, so that a sequence gets the same bits
// in a batch and alone.
#if SUBGROUPS
enable subgroups;
#endif
#include "state.wgsl"
#include "weights.wgsl"
#include "activation.wgsl"

@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> codes: array<vec4<u32>>;
#if SCALED
@group(0) @binding(3) var<storage, read> scales: array<u32>;
#endif
#if NORM
@group(0) @binding(4) var<storage, read> norm_weight: array<vec4<f32>>;
#endif
#if BIAS
@group(0) @binding(5) var<storage, read> bias: array<f32>;
#endif
@group(0) @binding(6) var<storage, read_write> y: array<f32>;

override ROWS: u32;
override Y_OFFSET: u32;
override Y_STRIDE: u32;
#if NORM
override NORM_EPSILON: f32; // given only if it is used: Safari 26 refuses constants that the entry point does not read
#endif

// The x of a unit: UNIT_VEC4S vec4s in the order of columns.
alias UnitX = array<vec4<f32>, UNIT_VEC4S>;
#if FORMAT == f32
const UNIT_VEC4S = 1u;
fn dot_unit(code: vec4<u32>, x: UnitX) -> f32 { return dot(bitcast<vec4<f32>>(code), x[0]); }
#elif FORMAT == f16
const UNIT_VEC4S = 2u;
fn dot_unit(code: vec4<u32>, x: UnitX) -> f32 { return dot_octet(code, x[0], x[1]); }
#elif FORMAT == q8
const UNIT_VEC4S = 4u;
fn dot_unit(code: vec4<u32>, x: UnitX) -> f32 { return dot_octet(code.xy, x[0], x[1]) + dot_octet(code.zw, x[2], x[3]); }
#else
const UNIT_VEC4S = 8u;
fn dot_unit(code: vec4<u32>, x: UnitX) -> f32 {
  return dot_octet(code.x, x[0], x[4]) + dot_octet(code.y, x[1], x[5]) + dot_octet(code.z, x[2], x[6]) + dot_octet(code.w, x[3], x[7]);
}
#endif

fn dot_octet(code: Octet, x0: vec4<f32>, x1: vec4<f32>) -> f32 {
  let weights = unpack_octet(code);
  return dot(weights[0], x0) + dot(weights[1], x1);
}

fn sum_octet(x0: vec4<f32>, x1: vec4<f32>) -> f32 { return dot(x0 + x1, vec4<f32>(1.0)); }

const ROW_VEC4S = GROUPS * 8u;
const ROW_UNITS = ROW_VEC4S / UNIT_VEC4S;
const TEAMS = WORKGROUP_SIZE / LANES;
const ROWS_PER_WORKGROUP = TEAMS * ROWS_PER_THREAD;

// A thread's sums: for each row of x those of the thread's rows, then, with NORM, the squares of each row of x.
const PRODUCT_SUMS = u32(BATCH * ROWS_PER_THREAD);
#if NORM
const SUMS = PRODUCT_SUMS + BATCH;
#else
const SUMS = PRODUCT_SUMS;
#endif
var<private> sums: array<f32, SUMS>;
// The index at which each row of x begins.
var<private> x_starts: array<u32, BATCH>;

#if STAGED
const CHUNK_UNITS = CHUNK_VEC4S / UNIT_VEC4S;
const STAGED_STRIDE = CHUNK_UNITS | 1u;
const STAGE_LOADS = (BATCH * CHUNK_VEC4S + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
#if BATCH == 1
var<workgroup> staged: array<vec4<f32>, STAGED_STRIDE * UNIT_VEC4S>;
#if NORM
var<workgroup> squares: array<f32, WORKGROUP_SIZE>;
#endif
#elif NORM
// The squares of four rows of x form one vec4. `staged` holds them before it holds x.
const SQUARE_VEC4S = (BATCH + 3u) / 4u;
var<workgroup> staged: array<vec4<f32>, max(BATCH * STAGED_STRIDE * UNIT_VEC4S, SQUARE_VEC4S * WORKGROUP_SIZE)>;
#else
var<workgroup> staged: array<vec4<f32>, BATCH * STAGED_STRIDE * UNIT_VEC4S>;
#endif
#endif

#if SUBGROUPS
const MAX_PARTIALS = LANES / min(LANES, 4u); // the smallest subgroups have 4 threads
#else
const MAX_PARTIALS = LANES;
#endif
#if LANES != 1
var<workgroup> partials: array<f32, TEAMS * SUMS * MAX_PARTIALS>;
#endif

#if EPILOGUE == silu_gated
const ROWS_PER_OUTPUT = 2u;
#else
const ROWS_PER_OUTPUT = 1u;
#endif
const OUTPUTS_PER_WORKGROUP = ROWS_PER_WORKGROUP / ROWS_PER_OUTPUT;

fn weigh(value: vec4<f32>, column: u32) -> vec4<f32> {
#if NORM
  return value * norm_weight[column];
#else
  return value;
#endif
}

// Loads x of row `b` for the product and sums its squares.
fn load_x(b: u32, column: u32) -> vec4<f32> {
  let value = x[x_starts[b] + column];
#if NORM
  sums[PRODUCT_SUMS + b] += dot(value, value);
#endif
  return weigh(value, column);
}

// One unit of each of the thread's rows, as loaded.
struct Units {
  codes: array<vec4<u32>, ROWS_PER_THREAD>,
  scale_words: array<u32, ROWS_PER_THREAD>,
}

// Past the end of the row or of the matrix it loads the last unit or row, which is never used.
fn load_units(first_row: u32, unit: u32) -> Units {
  let at = min(unit, ROW_UNITS - 1u);
  var units: Units;
  for (var r = 0u; r < ROWS_PER_THREAD; r++) {
    let row = min(first_row + r, ROWS - 1u);
    units.codes[r] = codes[row * ROW_UNITS + at];
    units.scale_words[r] = load_scale_word(row, at * UNIT_VEC4S / 8u);
  }
  return units;
}

#if BATCH == 1
fn accumulate(loaded: Units, unit: u32, x: UnitX) {
  var units = loaded; // only a variable allows an index that is not constant
#if FORMAT == q4m
  let x_sum = sum_octet(x[0], x[4]) + sum_octet(x[1], x[5]) + sum_octet(x[2], x[6]) + sum_octet(x[3], x[7]);
#else
  let x_sum = 0.0;
#endif
  for (var r = 0u; r < ROWS_PER_THREAD; r++) {
    let scale = unpack_scale(units.scale_words[r], unit * UNIT_VEC4S / 8u);
    sums[r] += scale.x * dot_unit(units.codes[r], x) + scale.y * x_sum;
  }
}
#endif

fn with_bias(row: u32, sum: f32) -> f32 {
#if BIAS
  return sum + bias[row];
#else
  return sum;
#endif
}

// `next_sum` is the sum of the row after `row`, if rows are paired. `y_start` is the index in y of the first output.
fn store(y_start: u32, row: u32, sum: f32, next_sum: f32, square: f32) {
  if (row >= ROWS) { return; }
#if NORM
  let factor = inverseSqrt(square / f32(COLUMNS) + NORM_EPSILON);
#else
  let factor = 1.0;
#endif
  let value = with_bias(row, factor * sum);
#if EPILOGUE == silu_gated
  y[y_start + row / 2u] = silu(value) * with_bias(row + 1u, factor * next_sum);
#elif EPILOGUE == add
  y[y_start + row] += value;
#elif EPILOGUE == gelu
  y[y_start + row] = gelu(value);
#elif EPILOGUE == gelu_tanh
  y[y_start + row] = gelu_tanh(value);
#else
  y[y_start + row] = value;
#endif
}

#if BATCH != 1
#include "vector-batch.wgsl"
#else
// Sums the thread's share of its rows' products and of the squares of x.
fn multiply(first_row: u32, thread: u32) {
  let lane = thread % LANES;
  var unit_x: UnitX;
#if STAGED
  var next = load_units(first_row, lane);
  for (var chunk = 0u; chunk < ROW_VEC4S; chunk += CHUNK_VEC4S) {
    if (chunk > 0u) { workgroupBarrier(); }
    for (var i = 0u; i < STAGE_LOADS; i++) {
      let at = thread + i * WORKGROUP_SIZE;
      if (at < min(CHUNK_VEC4S, ROW_VEC4S - chunk)) {
        staged[at % UNIT_VEC4S * STAGED_STRIDE + at / UNIT_VEC4S] = load_x(0u, chunk + at);
      }
    }
#if NORM
    squares[thread] = sums[PRODUCT_SUMS];
#endif
    workgroupBarrier();
    let first_unit = chunk / UNIT_VEC4S;
    for (var i = lane; i < min(CHUNK_UNITS, ROW_UNITS - first_unit); i += LANES) {
      let units = next;
      next = load_units(first_row, first_unit + i + LANES);
      for (var j = 0u; j < UNIT_VEC4S; j++) { unit_x[j] = staged[j * STAGED_STRIDE + i]; }
      accumulate(units, first_unit + i, unit_x);
    }
  }
#if NORM
  // Every team adds up the squares of all threads. Each lane takes a share.
  sums[PRODUCT_SUMS] = 0.0;
  for (var i = lane; i < WORKGROUP_SIZE; i += LANES) { sums[PRODUCT_SUMS] += squares[i]; }
#endif
#else
  for (var unit = lane; unit < ROW_UNITS; unit += LANES) {
    for (var j = 0u; j < UNIT_VEC4S; j++) { unit_x[j] = load_x(0u, unit * UNIT_VEC4S + j); }
    accumulate(load_units(first_row, unit), unit, unit_x);
  }
#endif
}
#endif

// The index of the sum of squares of row `b` of x, if squares are summed.
fn square_sum(b: u32) -> u32 { return min(PRODUCT_SUMS + b, SUMS - 1u); }

#if LANES != 1
fn total(team: u32, index: u32, stride: u32, count: u32) -> f32 {
  let first = (team * SUMS + index) * stride;
  var sum = partials[first];
  for (var i = 1u; i < count; i++) { sum += partials[first + i]; }
  return sum;
}
#endif

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
#if SUBGROUPS
  @builtin(subgroup_size) subgroup_size: u32,
#endif
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  // Rows of the step are neighbours in the grid: workgroups that share weights run together and find them in the cache.
  let workgroup_row = (workgroup.y + workgroup.z * workgroups.y) * ROWS_PER_WORKGROUP;
  if (workgroup_row >= ROWS) { return; }
  let first_y = workgroup.x * BATCH;
#if LAST_ROWS
  let first_x = state.row_count - workgroups.x + first_y;
#else
  let first_x = first_y;
#endif
  var off = 0u; // a bit for each row that stores nothing
  for (var b = 0u; b < BATCH; b++) {
    let is_off = (first_x + b >= state.row_count) | (state.rows[first_x + b].stopped != 0u); // `|` so that neither load waits for the other
    off |= select(0u, 1u << b, is_off);
  }
#if !STAGED
  // Only software adapters save by leaving here, since arithmetic dominates there. Elsewhere waiting for `state` costs more: a stopped row is computed and
  // not stored.
  if (off == (1u << BATCH) - 1u) { return; }
#endif
  let first_row = workgroup_row + thread / LANES * ROWS_PER_THREAD;
#if BATCH == 1
  x_starts[0] = first_x * ROW_VEC4S;
  multiply(first_row, thread);
#else
  for (var b = 0u; b < BATCH; b++) { x_starts[b] = x_start(first_x + b); }
  multiply(first_x, first_row, thread);
#endif

#if LANES == 1
  for (var b = 0u; b < BATCH; b++) {
    if (((off >> b) & 1u) != 0u) { continue; }
    for (var r = 0u; r < ROWS_PER_THREAD; r += ROWS_PER_OUTPUT) {
      let at = b * ROWS_PER_THREAD + r;
      store(Y_OFFSET + (first_y + b) * Y_STRIDE, first_row + r, sums[at], sums[at + ROWS_PER_OUTPUT - 1u], sums[square_sum(b)]);
    }
  }
#else
  let lane = thread % LANES;
  let team = thread / LANES;
#if SUBGROUPS
  let width = min(LANES, subgroup_size); // threads of a team within one subgroup
  // The inner loop runs over sums, because its length is constant: unrolled, it keeps the sums in registers.
  for (var mask = 1u; mask < width; mask *= 2u) {
    for (var i = 0u; i < SUMS; i++) { sums[i] += subgroupShuffleXor(sums[i], mask); }
  }
  let stride = LANES / width;
  let count = stride;
  let first = team * SUMS * stride + lane / width;
  if (lane % width == 0u) {
    for (var i = 0u; i < SUMS; i++) { partials[first + i * stride] = sums[i]; }
  }
#else
  let stride = u32(LANES);
  let count = 1u;
  let first = team * SUMS * LANES + lane;
  for (var i = 0u; i < SUMS; i++) { partials[first + i * LANES] = sums[i]; }
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) {
      for (var i = 0u; i < SUMS; i++) { partials[first + i * LANES] += partials[first + i * LANES + half]; }
    }
  }
#endif
  workgroupBarrier();
  for (var i = thread; i < BATCH * OUTPUTS_PER_WORKGROUP; i += WORKGROUP_SIZE) {
    let b = i / OUTPUTS_PER_WORKGROUP;
    if (((off >> b) & 1u) != 0u) { continue; }
    let row = i % OUTPUTS_PER_WORKGROUP * ROWS_PER_OUTPUT;
    let next_row = row + ROWS_PER_OUTPUT - 1u;
    store(
      Y_OFFSET + (first_y + b) * Y_STRIDE,
      workgroup_row + row,
      total(row / ROWS_PER_THREAD, b * ROWS_PER_THREAD + row % ROWS_PER_THREAD, stride, count),
      total(next_row / ROWS_PER_THREAD, b * ROWS_PER_THREAD + next_row % ROWS_PER_THREAD, stride, count),
      total(row / ROWS_PER_THREAD, square_sum(b), stride, count));
  }
#endif
}
