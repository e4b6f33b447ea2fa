// Attention of query rows over the cache, each row by itself: for a decode step, whose rows may belong to different sequences, and for a chunk of a few
// rows.
//
// A workgroup takes SPLIT positions of one K/V head for HEADS of the query heads that share it, so it reads K and V once for them. It goes through its
// positions in one sweep, not tile by tile: all scores, one softmax, all values. That takes eight barriers for a context of any length, and every load can
// be in flight at once; the short contexts of a chat are bound by latency alone.
// Scores: LANES neighbouring threads share a position and read neighbouring quads of K. The softmax adds their partial dots as it reads them. Values: a
// row of threads owns the quads of a head, and takes every THREAD_ROWSth run of four positions.
// There are no subgroup operations: the reductions are short and go through workgroup memory, the same on every device. It uses as little of that memory
// as possible: on SwiftShader, where CI runs, every four threads zero all of it first.
// DIRECT: the context is one split, and the result goes to y. Otherwise the unnormalised sums, maximum and total of each (split, row, head) go to
// `partial`, for paged-attention-reduce. A split without visible positions writes nothing. The arithmetic is the same either way.
#include "state.wgsl"
#include "kv-cache.wgsl"

@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> qkv: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> table: array<u32>;
@group(0) @binding(3) var<storage, read> keys: array<Quad>;
@group(0) @binding(4) var<storage, read> values: array<Quad>;
#if DIRECT
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
#else
@group(0) @binding(5) var<storage, read_write> partial: array<f32>;
#endif

override SCALE: f32;
override TABLE_STRIDE: u32; // words between the tables of two slots

const THREADS = 256u;
const GROUP_HEADS = HEAD_COUNT / KV_HEAD_COUNT;    // query heads that share a K/V head
const POSITIONS_AT_ONCE = THREADS / LANES;
const SOFTMAX_THREADS = 32u;                       // for each head
const THREAD_ROWS = THREADS / HEAD_QUADS;
const MASKED = -1e30;                              // WGSL does not guarantee infinities
const HEAD_WORKGROUPS = (GROUP_HEADS + HEADS - 1u) / HEADS;
const SPLIT_PAGES = max(1u, SPLIT / PAGE_SIZE);

var<workgroup> query: array<vec4<f32>, HEADS * HEAD_QUADS>;
var<workgroup> pages: array<u32, SPLIT_PAGES>;
// Scores and weights: LANES for each position, positions of a head together. Later it holds the rows' sums of values, two dimensions of a quad at a time.
var<workgroup> scratch: array<f32, HEADS * max(SPLIT * LANES, 2u * THREADS)>;
var<workgroup> maxima: array<f32, HEADS * SOFTMAX_THREADS>;
var<workgroup> totals: array<f32, HEADS * SOFTMAX_THREADS>;

// The positions of this split that the query can see, [low, high].
struct Span { start: u32, low: u32, high: u32 }

fn quads_of(span: Span, kv_head: u32, position: u32) -> u32 {
  let page = pages[position / PAGE_SIZE - span.start / PAGE_SIZE];
  return cache_quads(page, kv_head, position);
}

// Clamping keeps masked positions from reading pages of other sequences.
fn score(span: Span, kv_head: u32, thread: u32) {
  let lane = thread % LANES;
  for (var first = 0u; first < SPLIT; first += POSITIONS_AT_ONCE) {
    let offset = first + thread / LANES;
    let position = span.start + offset;
    let quads = quads_of(span, kv_head, clamp(position, span.low, span.high));
    var dots = array<f32, HEADS>(); // explicit initialiser: Dawn on SwiftShader zeroes a variable without one in a loop only once
    if (span.start + first <= span.high) {
      for (var i = 0u; i < HEAD_QUADS / LANES; i++) {
        let quad = i * LANES + lane;
        let key = unpack_quad(keys[quads + quad]);
        for (var head = 0u; head < HEADS; head++) { dots[head] += dot(key, query[head * HEAD_QUADS + quad]); }
      }
    }
    let is_visible = position >= span.low && position <= span.high;
    for (var head = 0u; head < HEADS; head++) {
      scratch[(head * SPLIT + offset) * LANES + lane] = select(MASKED, dots[head], is_visible);
    }
  }
}

fn highest(head: u32) -> f32 {
  var highest = MASKED;
  for (var i = 0u; i < SOFTMAX_THREADS; i++) { highest = max(highest, maxima[head * SOFTMAX_THREADS + i]); }
  return highest;
}

fn total(head: u32) -> f32 {
  var sum = 0.0;
  for (var i = 0u; i < SOFTMAX_THREADS; i++) { sum += totals[head * SOFTMAX_THREADS + i]; }
  return sum;
}

// Turns scores into weights exp(score − maximum), stored in place of the first lane's score.
fn softmax(thread: u32) {
  let head = thread / SOFTMAX_THREADS;
  let is_active = head < HEADS;
  var scores: array<f32, SPLIT / SOFTMAX_THREADS>;
  if (is_active) {
    var highest = MASKED;
    for (var i = 0u; i < SPLIT / SOFTMAX_THREADS; i++) {
      let place = (head * SPLIT + i * SOFTMAX_THREADS + thread % SOFTMAX_THREADS) * LANES;
      var sum = 0.0;
      for (var lane = 0u; lane < LANES; lane++) { sum += scratch[place + lane]; }
      scores[i] = sum;
      highest = max(highest, sum);
    }
    maxima[thread] = highest;
  }
  workgroupBarrier();
  if (is_active) {
    let highest = highest(head);
    var sum = 0.0;
    for (var i = 0u; i < SPLIT / SOFTMAX_THREADS; i++) {
      let weight = exp(scores[i] - highest);
      scratch[(head * SPLIT + i * SOFTMAX_THREADS + thread % SOFTMAX_THREADS) * LANES] = weight;
      sum += weight;
    }
    totals[thread] = sum;
  }
}

alias Sums = array<vec4<f32>, HEADS>;

// The thread's share of each head's weighted values.
fn sum_values(span: Span, kv_head: u32, thread: u32) -> Sums {
  let quad = thread % HEAD_QUADS;
  let row = thread / HEAD_QUADS;
  var sums: Sums;
  if (row >= THREAD_ROWS) { return sums; }
  for (var offset = row * 4u; offset < SPLIT; offset += THREAD_ROWS * 4u) {
    if (span.start + offset > span.high || span.start + offset + 3u < span.low) { continue; }
    for (var i = 0u; i < 4u; i++) {
      let position = clamp(span.start + offset + i, span.low, span.high);
      let value = unpack_quad(values[quads_of(span, kv_head, position) + quad]);
      for (var head = 0u; head < HEADS; head++) { sums[head] += scratch[(head * SPLIT + offset + i) * LANES] * value; }
    }
  }
  return sums;
}

// Writes dimension `dimension` of a head. `sum` is the sum over all threads.
fn store(split: u32, row: u32, head: u32, local_head: u32, dimension: u32, sum: f32) {
#if DIRECT
  y[row * Y_STRIDE + head * HEAD_DIM + dimension] = sum / total(local_head);
#else
  let record = ((split * state.row_count + row) * HEAD_COUNT + head) * (HEAD_DIM + 2u);
  partial[record + dimension] = sum;
  if (dimension == 0u) {
    partial[record + HEAD_DIM] = highest(local_head);
    partial[record + HEAD_DIM + 1u] = total(local_head);
  }
#endif
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let row = workgroup.z / HEAD_WORKGROUPS;
  let own = state.rows[row];
  let last = own.position;
  var span = Span(workgroup.y * SPLIT, 0u, 0u);
#if WINDOW != 0
  span.low = max(span.start, max(last, WINDOW - 1u) - (WINDOW - 1u));
#else
  span.low = span.start;
#endif
  span.high = min(span.start + SPLIT - 1u, last);
  if (row >= state.row_count || own.stopped != 0u || span.low > span.high) { return; }
  let kv_head = workgroup.x;
  let first_head = workgroup.z % HEAD_WORKGROUPS * HEADS; // in the group; the last workgroup may have fewer than HEADS

  for (var i = thread; i < HEADS * HEAD_QUADS; i += THREADS) {
    let head = kv_head * GROUP_HEADS + min(first_head + i / HEAD_QUADS, GROUP_HEADS - 1u);
    query[i] = qkv[row * (QKV_STRIDE / 4u) + head * HEAD_QUADS + i % HEAD_QUADS] * SCALE;
  }
  let logical = span.start / PAGE_SIZE + thread;
  let pages_at = own.slot * TABLE_STRIDE;
  if (thread < SPLIT_PAGES) { pages[thread] = table[pages_at + clamp(logical, span.low / PAGE_SIZE, span.high / PAGE_SIZE)]; }
  workgroupBarrier();
  score(span, kv_head, thread);
  workgroupBarrier();
  softmax(thread);
  workgroupBarrier();

  let sums = sum_values(span, kv_head, thread);
  for (var half = 0u; half < 2u; half++) {
    workgroupBarrier();
    for (var head = 0u; head < HEADS; head++) {
      let pair = select(sums[head].xy, sums[head].zw, half == 1u);
      scratch[head * 2u * THREADS + thread] = pair.x;
      scratch[(head * 2u + 1u) * THREADS + thread] = pair.y;
    }
    workgroupBarrier();
    for (var i = thread; i < HEADS * HEAD_DIM / 2u; i += THREADS) {
      let local_head = i / (HEAD_DIM / 2u);
      if (first_head + local_head >= GROUP_HEADS) { continue; }
      let place = (local_head * 2u + i % 2u) * THREADS + i % (HEAD_DIM / 2u) / 2u;
      var sum = 0.0;
      for (var r = 0u; r < THREAD_ROWS; r++) { sum += scratch[place + r * HEAD_QUADS]; }
      let head = kv_head * GROUP_HEADS + first_head + local_head;
      let dimension = i % (HEAD_DIM / 2u) / 2u * 4u + half * 2u + i % 2u;
      store(workgroup.y, row, head, local_head, dimension, sum);
    }
  }
}
