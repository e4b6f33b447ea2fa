// Causal attention of a chunk of rows over the cache, which already holds the chunk's own K and V: flash attention over pages.
//
// The query heads that share a K/V head are packed. A workgroup takes 32 (row, head) pairs, head fastest, and goes through their keys in tiles of KEYS, so
// that it reads a tile of K and of V once for all pairs. For each tile, it loads K to workgroup memory. Each thread then scores SCORE_ROWS rows × 4 keys;
// it reads queries from memory for every tile, from the first-level cache. One thread a row turns scores into weights while the others load V over K. Then
// each thread adds its SUM_ROWS rows × 4 dimensions. The tile keeps the cache's format and unpacks f16 on use, so half-size K/V doubles the tile in the
// same memory and needs no feature.
// The rows are consecutive positions of one sequence; the first row gives the position. All arithmetic is f32. Tiles begin at multiples of KEYS: without
// IS_SPLIT, the division of a prompt into chunks never changes a bit of the result.
// The longest rows are dispatched first.
// With IS_SPLIT, several workgroups share the tiles of a row: if rows are few and their context long, one sweep for each leaves most of the device idle.
// `partial` begins with the number of splits and three floats of padding. A record for each (split, row, head) follows, as paged-attention-decode writes
// it.
#include "state.wgsl"
#include "kv-cache.wgsl"

@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> qkv: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> table: array<u32>;
@group(0) @binding(3) var<storage, read> keys: array<Quad>;
@group(0) @binding(4) var<storage, read> values: array<Quad>;
#if IS_SPLIT
@group(0) @binding(5) var<storage, read_write> partial: array<f32>;
#else
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;
#endif

override SCALE: f32;
override TABLE_STRIDE: u32; // words between the tables of two slots

const THREADS = 128u;
const PACKED = 32u;                                    // (row, head) pairs in a workgroup
const GROUP_HEADS = HEAD_COUNT / KV_HEAD_COUNT;
const KEY_GROUPS = KEYS / 4u;                          // a group is keys k, k + KEY_GROUPS, …: neighbouring keys would have bank conflicts
const SCORE_LANES = min(PACKED, THREADS / KEY_GROUPS); // threads among which the rows of scores are divided
const SCORE_ROWS = PACKED / SCORE_LANES;
const SUM_LANES = min(PACKED, THREADS / HEAD_QUADS);
const SUM_ROWS = (PACKED + SUM_LANES - 1u) / SUM_LANES;
const PITCH = HEAD_QUADS + 1u;                         // of the tile; odd to avoid bank conflicts
const MASKED = -1e30;
// A row's maximum starts above MASKED, so that masked scores weigh exp(−9e29) = 0 even before the row has seen a key.
const LOWEST = -1e29;

var<workgroup> tile: array<Quad, KEYS * PITCH>;
var<workgroup> weights: array<vec4<f32>, PACKED * KEY_GROUPS>;
var<workgroup> factors: array<f32, PACKED>;            // scales a row's sum so far; at the end 1 / its total

fn is_visible(key: u32, position: u32) -> bool {
#if WINDOW != 0
  return key <= position && key + WINDOW > position;
#else
  return key <= position;
#endif
}

// The work of a workgroup: (row, head) pairs [first_pair, last_pair], whose rows see no key outside [low, high]. Row 0 is at `position`, and the
// sequence's page table begins at `pages_at`.
struct Block { kv_head: u32, first_pair: u32, last_pair: u32, low: u32, high: u32, position: u32, pages_at: u32 }

fn cached_quad(block: Block, key: u32, quad: u32) -> u32 {
  let position = clamp(key, block.low, block.high); // keys beyond may lie on another sequence's page
  return cache_quads(table[block.pages_at + position / PAGE_SIZE], block.kv_head, position) + quad;
}

fn load_keys(block: Block, first_key: u32, thread: u32) {
  for (var i = thread; i < KEYS * HEAD_QUADS; i += THREADS) {
    tile[i / HEAD_QUADS * PITCH + i % HEAD_QUADS] = keys[cached_quad(block, first_key + i / HEAD_QUADS, i % HEAD_QUADS)];
  }
}

fn load_values(block: Block, first_key: u32, thread: u32) {
  for (var i = thread; i < KEYS * HEAD_QUADS; i += THREADS) {
    tile[i / HEAD_QUADS * PITCH + i % HEAD_QUADS] = values[cached_quad(block, first_key + i / HEAD_QUADS, i % HEAD_QUADS)];
  }
}

fn score(block: Block, first_key: u32, thread: u32) {
  let group = thread % KEY_GROUPS;
  let lane = thread / KEY_GROUPS;
  if (lane >= SCORE_LANES) { return; }
  var query: array<u32, SCORE_ROWS>; // index of each row's first quad
  var position: array<u32, SCORE_ROWS>;
  for (var i = 0u; i < SCORE_ROWS; i++) {
    let pair = min(block.first_pair + i * SCORE_LANES + lane, block.last_pair);
    let row = pair / GROUP_HEADS;
    query[i] = row * (QKV_STRIDE / 4u) + (block.kv_head * GROUP_HEADS + pair % GROUP_HEADS) * HEAD_QUADS;
    position[i] = block.position + row;
  }
  var scores = array<vec4<f32>, SCORE_ROWS>();
  for (var d = 0u; d < HEAD_QUADS; d++) {
    let key0 = unpack_quad(tile[group * PITCH + d]);
    let key1 = unpack_quad(tile[(group + KEY_GROUPS) * PITCH + d]);
    let key2 = unpack_quad(tile[(group + 2u * KEY_GROUPS) * PITCH + d]);
    let key3 = unpack_quad(tile[(group + 3u * KEY_GROUPS) * PITCH + d]);
    for (var i = 0u; i < SCORE_ROWS; i++) {
      let q = qkv[query[i] + d] * SCALE;
      scores[i] += vec4<f32>(dot(q, key0), dot(q, key1), dot(q, key2), dot(q, key3));
    }
  }
  for (var i = 0u; i < SCORE_ROWS; i++) {
    var open: vec4<bool>;
    for (var j = 0u; j < 4u; j++) { open[j] = is_visible(first_key + group + j * KEY_GROUPS, position[i]); }
    weights[(i * SCORE_LANES + lane) * KEY_GROUPS + group] = select(vec4<f32>(MASKED), scores[i], open);
  }
}

// The state of a row's softmax.
struct Running { highest: f32, total: f32 }

fn softmax(running: Running, thread: u32) -> Running {
  let row = thread * KEY_GROUPS;
  var top = weights[row];
  for (var i = 1u; i < KEY_GROUPS; i++) { top = max(top, weights[row + i]); }
  let highest = max(running.highest, max(max(top.x, top.y), max(top.z, top.w)));
  var added = vec4<f32>();
  for (var i = 0u; i < KEY_GROUPS; i++) {
    let weight = exp(weights[row + i] - highest);
    weights[row + i] = weight;
    added += weight;
  }
  let factor = exp(running.highest - highest);
  factors[thread] = factor;
  return Running(highest, running.total * factor + dot(added, vec4<f32>(1.0)));
}

alias Sums = array<vec4<f32>, SUM_ROWS>;

fn add_values(sums: ptr<function, Sums>, thread: u32) {
  let quad = thread % HEAD_QUADS;
  let lane = thread / HEAD_QUADS;
  if (lane >= SUM_LANES) { return; }
  for (var i = 0u; i < SUM_ROWS; i++) { (*sums)[i] *= factors[min(i * SUM_LANES + lane, PACKED - 1u)]; }
  for (var group = 0u; group < KEY_GROUPS; group++) {
    let value0 = unpack_quad(tile[group * PITCH + quad]);
    let value1 = unpack_quad(tile[(group + KEY_GROUPS) * PITCH + quad]);
    let value2 = unpack_quad(tile[(group + 2u * KEY_GROUPS) * PITCH + quad]);
    let value3 = unpack_quad(tile[(group + 3u * KEY_GROUPS) * PITCH + quad]);
    for (var i = 0u; i < SUM_ROWS; i++) {
      let weight = weights[min(i * SUM_LANES + lane, PACKED - 1u) * KEY_GROUPS + group];
      (*sums)[i] += weight.x * value0 + weight.y * value1 + weight.z * value2 + weight.w * value3;
    }
  }
}

#if IS_SPLIT
// The index of a pair's record. `row_records` counts the rows of the splits before it.
fn record(row_records: u32, kv_head: u32, pair: u32) -> u32 {
  let head = kv_head * GROUP_HEADS + pair % GROUP_HEADS;
  return 4u + ((row_records + pair / GROUP_HEADS) * HEAD_COUNT + head) * (HEAD_DIM + 2u);
}
#endif

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let first_pair = (workgroups.y - 1u - workgroup.y) * PACKED;
  let pair_count = state.row_count * GROUP_HEADS;
  let first_row = state.rows[0];
  if (first_pair >= pair_count || first_row.stopped != 0u) { return; }
  let last_pair = min(first_pair + PACKED, pair_count) - 1u;
  let position = first_row.position;
  let pages_at = first_row.slot * TABLE_STRIDE;
  var block = Block(workgroup.x, first_pair, last_pair, 0u, position + last_pair / GROUP_HEADS, position, pages_at);
#if WINDOW != 0
  block.low = max(position + first_pair / GROUP_HEADS, WINDOW - 1u) - (WINDOW - 1u);
#endif

  var sums: Sums;
  var running = Running(LOWEST, 0.0); // of row `thread`, if there is one
  let splits = workgroups.z;
  let first_tile = block.low / KEYS;
  let end_tile = block.high / KEYS + 1u;
  let split_tiles = (end_tile - first_tile + splits - 1u) / splits;
  let begin = first_tile + workgroup.z * split_tiles;
  for (var tile_index = begin; tile_index < min(begin + split_tiles, end_tile); tile_index++) {
    let first_key = tile_index * KEYS;
    load_keys(block, first_key, thread);
    workgroupBarrier();
    score(block, first_key, thread);
    workgroupBarrier();
    if (thread < PACKED) { running = softmax(running, thread); }
    load_values(block, first_key, thread);
    workgroupBarrier();
    add_values(&sums, thread);
    workgroupBarrier();
  }

  let lane = thread / HEAD_QUADS;
#if IS_SPLIT
  if (thread == 0u && all(workgroup == vec3<u32>())) { partial[0] = f32(splits); }
  let row_records = workgroup.z * state.row_count;
  for (var i = 0u; i < SUM_ROWS; i++) {
    let local_pair = i * SUM_LANES + lane;
    let pair = first_pair + local_pair;
    if (lane < SUM_LANES && local_pair < PACKED && pair <= last_pair) {
      let place = record(row_records, block.kv_head, pair) + thread % HEAD_QUADS * 4u;
      for (var j = 0u; j < 4u; j++) { partial[place + j] = sums[i][j]; }
    }
  }
  if (thread < PACKED && first_pair + thread <= last_pair) {
    let place = record(row_records, block.kv_head, first_pair + thread) + HEAD_DIM;
    partial[place] = running.highest;
    partial[place + 1u] = running.total;
  }
#else
  if (thread < PACKED) { factors[thread] = 1.0 / running.total; }
  workgroupBarrier();
  for (var i = 0u; i < SUM_ROWS; i++) {
    let local_pair = i * SUM_LANES + lane;
    let pair = first_pair + local_pair;
    if (lane < SUM_LANES && local_pair < PACKED && pair <= last_pair) {
      let head = block.kv_head * GROUP_HEADS + pair % GROUP_HEADS;
      y[pair / GROUP_HEADS * (Y_STRIDE / 4u) + head * HEAD_QUADS + thread % HEAD_QUADS] = sums[i] * factors[local_pair];
    }
  }
#endif
}
