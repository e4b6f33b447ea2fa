// Dequantises rows of the embedding table for the step's token ids. A workgroup handles one row of the step, a thread one octet a turn. A table beyond the
// binding limit comes in parts: each part's dispatch writes only the rows whose id lies in it.
#include "state.wgsl"
#include "weights.wgsl"

@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> codes: array<Octet>;
#if SCALED
@group(0) @binding(2) var<storage, read> scales: array<u32>;
#endif
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

override FIRST_ROW: u32;
override ROW_COUNT: u32;

const OCTETS = GROUPS * 4u;
const COLUMN_VEC4S = (COLUMNS + 3u) / 4u;

fn store(row: u32, place: u32, value: vec4<f32>) {
  if (place < COLUMN_VEC4S) { y[row * GROUPS * 8u + place] = value; }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let row = workgroup.x;
  let own = state.rows[row];
  if (row >= state.row_count || own.stopped != 0u) { return; }
  let id = own.id - FIRST_ROW; // an id before the part wraps around to one beyond it
  if (id >= ROW_COUNT) { return; }
  for (var octet = thread; octet < OCTETS; octet += WORKGROUP_SIZE) {
    let group = octet / 4u;
    let scale = unpack_scale(load_scale_word(id, group), group);
    let values = unpack_octet(codes[id * OCTETS + octet]);
    let places = group * 8u + octet_places(octet % 4u);
    store(row, places.x, values[0] * scale.x + scale.y);
    store(row, places.y, values[1] * scale.x + scale.y);
  }
}
