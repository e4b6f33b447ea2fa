// y = x / √(mean(x²) + ε) · weight, one workgroup a row. In decode the norm is part of matmul-vector; this kernel serves prefill.
#if SUBGROUPS
enable subgroups;
#endif
#include "state.wgsl"
#include "reduce.wgsl"

@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

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
  var squares = 0.0;
  for (var i = thread; i < COLUMN_VEC4S; i += WORKGROUP_SIZE) {
    let value = x[row + i];
    squares += dot(value, value);
  }
  let scale = inverseSqrt(workgroup_sum(squares, thread, subgroup_size) / f32(COLUMNS) + EPSILON);
  for (var i = thread; i < COLUMN_VEC4S; i += WORKGROUP_SIZE) { y[row + i] = x[row + i] * scale * weight[i]; }
}
