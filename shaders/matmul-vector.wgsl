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
const CHUNK_UNITS = CHUNK_VEC4S / UNIT_VEC4S;
const STAGED_STRIDE = CHUNK_UNITS | 1u;
const ROWS_PER_WORKGROUP = WORKGROUP_SIZE / LANES * ROWS_PER_THREAD;

#if SUBGROUPS
const MIN_SUBGROUP_SIZE = 4u;
#else
const MIN_SUBGROUP_SIZE = 1u;
const subgroup_size = 1u;
#endif
const MAX_PARTIALS = LANES / min(LANES, MIN_SUBGROUP_SIZE);

var<workgroup> staged: array<vec4<f32>, STAGED_STRIDE * UNIT_VEC4S>;
var<workgroup> partials: array<f32, ROWS_PER_WORKGROUP * MAX_PARTIALS>;
#if NORM
var<workgroup> squares: array<f32, WORKGROUP_SIZE / MIN_SUBGROUP_SIZE>;
#endif

#if EPILOGUE == silu_gated
const ROWS_PER_OUTPUT = 2u;
#else
const ROWS_PER_OUTPUT = 1u;
#endif

fn finish(row: u32, sum: f32) -> f32 {
#if BIAS
  return sum + bias[row];
#else
  return sum;
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
  let team_row = thread / LANES * ROWS_PER_THREAD;

  var sums: array<f32, ROWS_PER_THREAD>;
  var square = 0.0;
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
      var unit_x: array<vec4<f32>, UNIT_VEC4S>;
      var total = vec4<f32>();
      for (var j = 0u; j < UNIT_VEC4S; j++) {
        unit_x[j] = staged[j * STAGED_STRIDE + i];
        total += unit_x[j];
      }
      let unit_sum = dot(total, vec4<f32>(1.0)); // dead code where the format has no offset
      let unit = first_unit + i;
      for (var r = 0u; r < ROWS_PER_THREAD; r++) {
        let row = min(first_row + team_row + r, ROWS - 1u);
        let scale = load_scale(row, unit * UNIT_VEC4S / 8u);
        sums[r] += scale.x * dot_unit(codes[row * ROW_UNITS + unit], unit_x) + scale.y * unit_sum;
      }
    }
  }

  let width = min(LANES, subgroup_size);
  let partial_count = LANES / width;
  for (var r = 0u; r < ROWS_PER_THREAD; r++) {
    var sum = sums[r];
#if SUBGROUPS
    for (var mask = 1u; mask < width; mask *= 2u) { sum += subgroupShuffleXor(sum, mask); }
#endif
    if (lane % width == 0u) { partials[(team_row + r) * partial_count + lane / width] = sum; }
  }
#if NORM
#if SUBGROUPS
  square = subgroupAdd(square);
#endif
  if (thread % subgroup_size == 0u) { squares[thread / subgroup_size] = square; }
#endif
  workgroupBarrier();

  let local_row = thread * ROWS_PER_OUTPUT;
  let row = first_row + local_row;
  if (local_row >= ROWS_PER_WORKGROUP || row >= ROWS) { return; }
  var outputs: array<f32, ROWS_PER_OUTPUT>;
  for (var r = 0u; r < ROWS_PER_OUTPUT; r++) {
    for (var i = 0u; i < partial_count; i++) { outputs[r] += partials[(local_row + r) * partial_count + i]; }
  }
#if NORM
  var square_sum = 0.0;
  for (var i = 0u; i < WORKGROUP_SIZE / subgroup_size; i++) { square_sum += squares[i]; }
  let norm = inverseSqrt(square_sum / f32(COLUMNS) + NORM_EPSILON);
  for (var r = 0u; r < ROWS_PER_OUTPUT; r++) { outputs[r] *= norm; }
#endif
#if EPILOGUE == silu_gated
  y[Y_OFFSET + row / 2u] = silu(finish(row, outputs[0])) * finish(row + 1u, outputs[1]);
#else
  let value = finish(row, outputs[0]);
#if EPILOGUE == add
  y[Y_OFFSET + row] += value;
#elif EPILOGUE == gelu
  y[Y_OFFSET + row] = gelu(value);
#elif EPILOGUE == gelu_tanh
  y[Y_OFFSET + row] = gelu_tanh(value);
#else
  y[Y_OFFSET + row] = value;
#endif
#endif
}
