// y = (x − mean) / √(variance + ε) · weight + bias, a workgroup a row. The variance is summed about the mean in a second pass:
// E[x²] − mean² loses every digit of a row whose mean is large.
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
  @builtin(local_invocation_index) thread: u32,
) {
  if (workgroup.x >= state.row_count) { return; }
  let row = workgroup.x * ROW_VEC4S;
  var sum = vec4<f32>();
  for (var i = thread; i < COLUMN_VEC4S; i += WORKGROUP_SIZE) { sum += x[row + i]; }
  let mean = workgroup_sum(dot(sum, vec4<f32>(1.0)), thread, subgroup_size) / f32(COLUMNS);
  var squares = 0.0;
  for (var i = thread; i < COLUMN_VEC4S; i += WORKGROUP_SIZE) {
    let centred = x[row + i] - mean;
    squares += dot(centred, centred);
  }
  let scale = inverseSqrt(workgroup_sum(squares, thread, subgroup_size) / f32(COLUMNS) + EPSILON);
  for (var i = thread; i < COLUMN_VEC4S; i += WORKGROUP_SIZE) { y[row + i] = (x[row + i] - mean) * scale * weight[i] + bias[i]; }
}
