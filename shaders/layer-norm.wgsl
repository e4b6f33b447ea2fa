// y = (x − mean) / √(variance + ε) · weight + bias, one workgroup a row: for every row of the step, or with LAST_ROWS for the last rows, as many as are
// dispatched. All sums are of differences, first to the row's first value and then to the mean. E[x²] − mean² loses every digit of a row whose mean is
// large, and the mean itself loses its last ones.
#if SUBGROUPS
enable subgroups;
#endif
#include "state.wgsl"
#include "reduce.wgsl"

@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

override EPSILON: f32;

const COLUMN_VEC4S = COLUMNS / 4u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
#if SUBGROUPS
  @builtin(subgroup_size) subgroup_size: u32,
#endif
  @builtin(workgroup_id) workgroup: vec3<u32>,
#if LAST_ROWS
  @builtin(num_workgroups) workgroups: vec3<u32>,
#endif
  @builtin(local_invocation_index) thread: u32,
) {
#if LAST_ROWS
  let step_row = state.row_count - workgroups.x + workgroup.x;
#else
  let step_row = workgroup.x;
#endif
  if (step_row >= state.row_count) { return; }
  let row = step_row * ROW_VEC4S;
  let origin = x[row].x;
  var sum = 0.0;
  for (var i = thread; i < COLUMN_VEC4S; i += WORKGROUP_SIZE) { sum += dot(x[row + i] - origin, vec4<f32>(1.0)); }
  let mean = workgroup_sum(sum, thread, subgroup_size) / f32(COLUMNS);
  var squares = 0.0;
  for (var i = thread; i < COLUMN_VEC4S; i += WORKGROUP_SIZE) {
    let centred = x[row + i] - origin - mean;
    squares += dot(centred, centred);
  }
  let scale = inverseSqrt(workgroup_sum(squares, thread, subgroup_size) / f32(COLUMNS) + EPSILON);
  for (var i = thread; i < COLUMN_VEC4S; i += WORKGROUP_SIZE) { y[row + i] = (x[row + i] - origin - mean) * scale * weight[i] + bias[i]; }
}
