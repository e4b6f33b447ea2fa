// y = epilogue(W·x) for the step's last row, the kernel that decode spends its bytes in.
//
// A team of LANES threads computes ROWS_PER_THREAD rows; a workgroup holds several teams. Lanes take a row's units of 16 bytes in
// turn, so that neighbours read neighbouring addresses in every format. x is staged once a workgroup, a chunk of columns at a time,
// transposed to [vec4 of the unit][unit] with an odd stride: neighbouring lanes then read neighbouring vec4s without bank conflicts,
// where x itself would put them a unit (up to 128 bytes) apart. Staging also applies the RMSNorm weight and sums the squares; the
// norm's one factor is multiplied in at the end. The minimum of a q4m group costs one multiplication by Σx.
// Lanes meet through subgroup shuffles as far as a subgroup reaches, then through workgroup memory; one thread a row finishes.
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
override NORM_EPSILON: f32 = 0.0;

// A unit's x, as vec4s: UNIT_VEC4S of them.
#if FORMAT == f32
const UNIT_VEC4S = 1u;
fn dot_unit(code: vec4<u32>, x: array<vec4<f32>, UNIT_VEC4S>) -> f32 {
  return dot(bitcast<vec4<f32>>(code), x[0]);
}
#elif FORMAT == f16
const UNIT_VEC4S = 2u;
fn dot_unit(code: vec4<u32>, x: array<vec4<f32>, UNIT_VEC4S>) -> f32 {
  return dot_octet(code, x[0], x[1]);
}
#elif FORMAT == q8
const UNIT_VEC4S = 4u;
fn dot_unit(code: vec4<u32>, x: array<vec4<f32>, UNIT_VEC4S>) -> f32 {
  return dot_octet(code.xy, x[0], x[1]) + dot_octet(code.zw, x[2], x[3]);
}
#else
const UNIT_VEC4S = 8u;
fn dot_unit(code: vec4<u32>, x: array<vec4<f32>, UNIT_VEC4S>) -> f32 {
  return dot_octet(code.x, x[0], x[4]) + dot_octet(code.y, x[1], x[5]) + dot_octet(code.z, x[2], x[6]) + dot_octet(code.w, x[3], x[7]);
}
#endif

fn dot_octet(code: Octet, x0: vec4<f32>, x1: vec4<f32>) -> f32 {
  let weights = unpack_octet(code);
  return dot(weights[0], x0) + dot(weights[1], x1);
}

const ROW_VEC4S = GROUPS * 8u;
const ROW_UNITS = ROW_VEC4S / UNIT_VEC4S;
const TEAMS = WORKGROUP_SIZE / LANES;
const ROWS_PER_WORKGROUP = TEAMS * ROWS_PER_THREAD;

#if SUBGROUPS
const MAX_WIDTH_PARTIALS = LANES / min(LANES, 4u); // the smallest subgroups have 4 threads
#else
const MAX_WIDTH_PARTIALS = LANES;
const subgroup_size = 1u;
#endif

#if STAGED
const CHUNK_UNITS = CHUNK_VEC4S / UNIT_VEC4S;
const STAGED_STRIDE = CHUNK_UNITS | 1u;
var<workgroup> staged: array<vec4<f32>, STAGED_STRIDE * UNIT_VEC4S>;
#endif
#if LANES != 1
var<workgroup> partials: array<f32, ROWS_PER_WORKGROUP * MAX_WIDTH_PARTIALS>;
#if NORM
var<workgroup> squares: array<f32, TEAMS * MAX_WIDTH_PARTIALS>;
#endif
#endif

#if EPILOGUE == silu_gated
const ROWS_PER_OUTPUT = 2u;
#else
const ROWS_PER_OUTPUT = 1u;
#endif

var<private> sums: array<f32, ROWS_PER_THREAD>;

// Adds one unit of x times the thread's rows.
fn accumulate(first_row: u32, unit: u32, x: array<vec4<f32>, UNIT_VEC4S>) {
#if FORMAT == q4m
  let x_sum = dot(x[0] + x[1] + x[2] + x[3] + x[4] + x[5] + x[6] + x[7], vec4<f32>(1.0));
#else
  let x_sum = 0.0;
#endif
  for (var r = 0u; r < ROWS_PER_THREAD; r++) {
    let row = min(first_row + r, ROWS - 1u);
    let scale = load_scale(row, unit * UNIT_VEC4S / 8u);
    sums[r] += scale.x * dot_unit(codes[row * ROW_UNITS + unit], x) + scale.y * x_sum;
  }
}

fn with_bias(row: u32, sum: f32) -> f32 {
#if BIAS
  return sum + bias[row];
#else
  return sum;
#endif
}

// `next_sum` belongs to the row after `row`, where rows are paired.
fn store(row: u32, sum: f32, next_sum: f32) {
  if (row >= ROWS) { return; }
  let value = with_bias(row, sum);
#if EPILOGUE == silu_gated
  y[Y_OFFSET + row / 2u] = silu(value) * with_bias(row + 1u, next_sum);
#elif EPILOGUE == add
  y[Y_OFFSET + row] += value;
#elif EPILOGUE == gelu
  y[Y_OFFSET + row] = gelu(value);
#elif EPILOGUE == gelu_tanh
  y[Y_OFFSET + row] = gelu_tanh(value);
#else
  y[Y_OFFSET + row] = value;
#endif
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
#if SUBGROUPS
  @builtin(subgroup_size) subgroup_size: u32,
#endif
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let first_row = (workgroup.x + workgroup.y * workgroups.x) * ROWS_PER_WORKGROUP;
  if (state.stopped != 0u || first_row >= ROWS) { return; }
  let x_row = (state.row_count - 1u) * ROW_VEC4S;
  let lane = thread % LANES;
  let team = thread / LANES;
  let team_row = team * ROWS_PER_THREAD;
  var unit_x: array<vec4<f32>, UNIT_VEC4S>;
  var square = 0.0;

#if STAGED
  for (var chunk = 0u; chunk < ROW_VEC4S; chunk += CHUNK_VEC4S) {
    if (chunk > 0u) { workgroupBarrier(); }
    for (var i = thread; i < min(CHUNK_VEC4S, ROW_VEC4S - chunk); i += WORKGROUP_SIZE) {
      var value = x[x_row + chunk + i];
#if NORM
      square += dot(value, value);
      value *= norm_weight[chunk + i];
#endif
      staged[i % UNIT_VEC4S * STAGED_STRIDE + i / UNIT_VEC4S] = value;
    }
    workgroupBarrier();
    let first_unit = chunk / UNIT_VEC4S;
    for (var i = lane; i < min(CHUNK_UNITS, ROW_UNITS - first_unit); i += LANES) {
      for (var j = 0u; j < UNIT_VEC4S; j++) { unit_x[j] = staged[j * STAGED_STRIDE + i]; }
      accumulate(first_row + team_row, first_unit + i, unit_x);
    }
  }
#else
  for (var unit = lane; unit < ROW_UNITS; unit += LANES) {
    for (var j = 0u; j < UNIT_VEC4S; j++) {
      var value = x[x_row + unit * UNIT_VEC4S + j];
#if NORM
      square += dot(value, value);
      value *= norm_weight[unit * UNIT_VEC4S + j];
#endif
      unit_x[j] = value;
    }
    accumulate(first_row + team_row, unit, unit_x);
  }
#endif

#if LANES == 1
#if NORM
  let norm = inverseSqrt(square / f32(COLUMNS) + NORM_EPSILON);
#else
  let norm = 1.0;
#endif
  for (var r = 0u; r < ROWS_PER_THREAD; r += ROWS_PER_OUTPUT) {
    store(first_row + team_row + r, norm * sums[r], norm * sums[r + ROWS_PER_OUTPUT - 1u]);
  }
#else
  let width = min(LANES, subgroup_size); // of what shuffles reach
  let partial_count = LANES / width;
#if SUBGROUPS
  for (var mask = 1u; mask < width; mask *= 2u) {
    for (var r = 0u; r < ROWS_PER_THREAD; r++) { sums[r] += subgroupShuffleXor(sums[r], mask); }
    square += subgroupShuffleXor(square, mask);
  }
#endif
  if (lane % width == 0u) {
    for (var r = 0u; r < ROWS_PER_THREAD; r++) { partials[(team_row + r) * partial_count + lane / width] = sums[r]; }
#if NORM
    squares[thread / width] = square;
#endif
  }
  workgroupBarrier();

  let local_row = thread * ROWS_PER_OUTPUT;
  if (local_row >= ROWS_PER_WORKGROUP) { return; }
  var outputs: array<f32, ROWS_PER_OUTPUT>;
  for (var r = 0u; r < ROWS_PER_OUTPUT; r++) {
    for (var i = 0u; i < partial_count; i++) { outputs[r] += partials[(local_row + r) * partial_count + i]; }
  }
#if NORM
#if STAGED
  let first_square = 0u;
  let square_count = TEAMS * partial_count;
#else
  let first_square = local_row / ROWS_PER_THREAD * partial_count;
  let square_count = partial_count;
#endif
  square = 0.0;
  for (var i = 0u; i < square_count; i++) { square += squares[first_square + i]; }
  let norm = inverseSqrt(square / f32(COLUMNS) + NORM_EPSILON);
#else
  let norm = 1.0;
#endif
  store(first_row + local_row, norm * outputs[0], norm * outputs[ROWS_PER_OUTPUT - 1u]);
#endif
}
