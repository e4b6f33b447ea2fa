// Copies the residuals of a step's rows to the pages of their positions. A thread copies one vec4, as bits, so that no device flushes or rounds them. The
// padding of a row is not copied: it stays zero in `x`, and nothing reads it in a page.
#include "state.wgsl"

@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> table: array<u32>;
@group(0) @binding(3) var<storage, read_write> residuals: array<vec4<u32>>;

override COLUMN_VEC4S: u32;
override ROW_VEC4S: u32;   // with padding
override PAGE_SIZE: u32;
override TABLE_STRIDE: u32; // words between the tables of two slots

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let place = id.x;
  let row = id.y;
  let own = state.rows[row];
  if (row >= state.row_count || own.stopped != 0u || place >= COLUMN_VEC4S) { return; }
  let page = table[own.slot * TABLE_STRIDE + own.position / PAGE_SIZE];
  let page_row = page * PAGE_SIZE + own.position % PAGE_SIZE;
  residuals[page_row * ROW_VEC4S + place] = x[row * ROW_VEC4S + place];
}
