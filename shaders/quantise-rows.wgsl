// x in eight bits for matmul-dp4a. Each group of 32 columns has a scale (its largest |x| / 127) and the signed bytes round(x / scale). For weights with a
// minimum it also has the sum of the values that the bytes stand for. A thread handles four columns, eight threads a group.
#include "state.wgsl"

@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> x_codes: array<u32>;
@group(0) @binding(3) var<storage, read_write> x_scales: array<vec2<f32>>;

const ROW_VEC4S = GROUPS * 8u;
// A group whose largest |x| is below this counts as zero; 127 divided by it is still finite.
const SMALLEST = 1e-35;

var<workgroup> largest: array<f32, WORKGROUP_SIZE>;
var<workgroup> code_sums: array<i32, WORKGROUP_SIZE>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let row = workgroup.y;
  if (row >= state.row_count) { return; }
  let column = workgroup.x * WORKGROUP_SIZE + thread; // in vec4s
  let at = row * ROW_VEC4S + column;
  let value = x[at];
  largest[thread] = max(max(abs(value.x), abs(value.y)), max(abs(value.z), abs(value.w)));
  workgroupBarrier();
  let first = thread / 8u * 8u;
  var bound = 0.0;
  for (var i = 0u; i < 8u; i++) { bound = max(bound, largest[first + i]); }
  let codes = vec4<i32>(round(value * select(0.0, 127.0 / bound, bound > SMALLEST)));
  code_sums[thread] = codes.x + codes.y + codes.z + codes.w;
  workgroupBarrier();
  if (column >= ROW_VEC4S) { return; }
  x_codes[at] = pack4xI8(codes);
  if (thread != first) { return; }
  var sum = 0;
  for (var i = 0u; i < 8u; i++) { sum += code_sums[first + i]; }
  let scale = bound / 127.0;
  x_scales[at / 8u] = vec2<f32>(scale, scale * f32(sum));
}
