// Combines the splits of paged-attention-decode, or with COUNTED those of paged-attention-prefill. One workgroup handles a head of a row.
//
// A row of threads owns a head's dimensions and takes every THREAD_ROWSth split. It keeps its own maximum and total as flash attention does; the rows of
// threads combine once at the end. Splits before the window were not computed and are not read.
#include "state.wgsl"

@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> partial: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

const THREADS = 256u;
const THREAD_ROWS = THREADS / HEAD_DIM;
const LOWEST = -1e30;

struct Sum { highest: f32, total: f32, value: f32 }

fn combine(a: Sum, b: Sum) -> Sum {
  let highest = max(a.highest, b.highest);
  let scale_a = exp(a.highest - highest);
  let scale_b = exp(b.highest - highest);
  return Sum(highest, a.total * scale_a + b.total * scale_b, a.value * scale_a + b.value * scale_b);
}

var<workgroup> values: array<f32, THREADS>;
var<workgroup> scales: array<vec2<f32>, THREAD_ROWS>; // maximum and total of each row of threads

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let query_row = workgroup.y;
  let own = state.rows[query_row];
  if (query_row >= state.row_count || own.stopped != 0u) { return; }
  let head = workgroup.x;
  let dimension = thread % HEAD_DIM;
  let row = thread / HEAD_DIM;
#if COUNTED
  let first_split = 0u;
  let last_split = u32(partial[0]) - 1u;
  let records = 4u;
#else
  let records = 0u;
  let position = own.position;
#if WINDOW != 0
  let first_split = (max(position, WINDOW - 1u) - (WINDOW - 1u)) / SPLIT;
#else
  let first_split = 0u;
#endif
  let last_split = position / SPLIT;
#endif

  var sum = Sum(LOWEST, 0.0, 0.0);
  if (row < THREAD_ROWS) {
    for (var split = first_split + row; split <= last_split; split += THREAD_ROWS) {
      let record = records + ((split * state.row_count + query_row) * HEAD_COUNT + head) * (HEAD_DIM + 2u);
      sum = combine(sum, Sum(partial[record + HEAD_DIM], partial[record + HEAD_DIM + 1u], partial[record + dimension]));
    }
  }
  values[thread] = sum.value;
  if (dimension == 0u && row < THREAD_ROWS) { scales[row] = vec2<f32>(sum.highest, sum.total); }
  workgroupBarrier();
  if (row > 0u) { return; }
  for (var r = 1u; r < THREAD_ROWS; r++) { sum = combine(sum, Sum(scales[r].x, scales[r].y, values[r * HEAD_DIM + dimension])); }
  y[query_row * Y_STRIDE + head * HEAD_DIM + dimension] = sum.value / sum.total;
}
