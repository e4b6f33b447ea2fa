// Rotates the queries and keys of a step's rows by their positions' angles, and writes keys and values to their pages.
//
// Pairs are (i, i + ROPE_DIMENSIONS / 2); dimensions of a head beyond ROPE_DIMENSIONS are unchanged. A thread owns eight dimensions of a head: two quads
// that lie half the rotary dimensions apart, or two neighbouring quads where nothing is rotated. Queries are changed in place. Keys and values are changed
// only in the cache, since attention reads nothing else. Without WRITES, the cache holds them already and is not touched.
#include "state.wgsl"
#include "kv-cache.wgsl"

@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read_write> qkv: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> rope: array<vec4<f32>>;
#if WRITES
@group(0) @binding(3) var<storage, read> table: array<u32>;
@group(0) @binding(4) var<storage, read_write> keys: array<Quad>;
@group(0) @binding(5) var<storage, read_write> values: array<Quad>;
#endif

#if WRITES
override TABLE_STRIDE: u32; // words between the tables of two slots
#endif

const ITEMS = HEAD_DIM / 8u;                       // in a head, one thread each
const HALF_QUADS = ROPE_DIMENSIONS / 8u;
const ROTARY_HEADS = HEAD_COUNT + KV_HEAD_COUNT;   // all queries, then all keys; values come after them
#if WRITES
const HEADS = ROTARY_HEADS + KV_HEAD_COUNT;
#else
const HEADS = HEAD_COUNT;
#endif

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = id.y;
  let head = id.x / ITEMS;
  let item = id.x % ITEMS;
  let own = state.rows[row];
  if (row >= state.row_count || own.stopped != 0u || head >= HEADS) { return; }
  let position = own.position;

  let turns = head < ROTARY_HEADS && item < HALF_QUADS;
  let first = select(2u * item, item, turns);
  let second = select(2u * item + 1u, item + HALF_QUADS, turns);
  let base = row * QKV_STRIDE / 4u + head * HEAD_QUADS;
  var a = qkv[base + first];
  var b = qkv[base + second];
  if (turns) {
    let angles = (position * HALF_QUADS + item) * 2u;
    let low = rope[angles];        // cos, sin, cos, sin
    let high = rope[angles + 1u];
    let cosine = vec4<f32>(low.xz, high.xz);
    let sine = vec4<f32>(low.yw, high.yw);
    let turned = a * cosine - b * sine;
    b = b * cosine + a * sine;
    a = turned;
  }

  if (head < HEAD_COUNT) {
    if (turns) {
      qkv[base + first] = a;
      qkv[base + second] = b;
    }
    return;
  }
#if WRITES
  let page = table[own.slot * TABLE_STRIDE + position / PAGE_SIZE];
  if (head < ROTARY_HEADS) {
    let target_quad = cache_quads(page, head - HEAD_COUNT, position);
    keys[target_quad + first] = pack_quad(a);
    keys[target_quad + second] = pack_quad(b);
  } else {
    let target_quad = cache_quads(page, head - ROTARY_HEADS, position);
    values[target_quad + first] = pack_quad(a);
    values[target_quad + second] = pack_quad(b);
  }
#endif
}
