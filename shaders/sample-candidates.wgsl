// First half of sampling: one workgroup for each chunk of the vocabulary and each sampled row.
//
// Applies penalties and bias to the logits, in place. For its chunk, a workgroup writes the values that a greedy or an unfiltered draw needs (the highest
// logit, the mass, the winner of the draw). With top-k, top-p or min-p it also writes the 64 best candidates in order. They come from a bitonic sort; each
// thread does the steps between neighbours on its own eight candidates, without barriers.
#include "state.wgsl"
#include "sampling.wgsl"

@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> params: array<SamplingParams>;           // of each slot
@group(0) @binding(2) var<storage, read_write> logits: array<f32>;              // of each sampled row
@group(0) @binding(3) var<storage, read> bias: array<f32>;                      // of each slot
@group(0) @binding(4) var<storage, read> counts: array<u32>;                    // of each slot
@group(0) @binding(5) var<storage, read_write> candidates: array<Candidate>;    // of each sampled row
@group(0) @binding(6) var<storage, read_write> chunks: array<Chunk>;            // of each sampled row

const THREADS = 128u;
const ITEMS = CHUNK_SIZE / THREADS;

var<workgroup> merged: array<Chunk, THREADS>;
var<workgroup> order: array<Candidate, CHUNK_SIZE>;

struct Adjusted { logit: f32, is_broken: bool }

// Tests the bits, because a device may assume that comparisons never see NaN.
fn is_finite(value: f32) -> bool { return (bitcast<u32>(value) & 0x7f800000u) != 0x7f800000u; }

fn adjust(raw: f32, slot: u32, id: u32) -> Adjusted {
  let added = bias[slot * VOCAB + id];
  if (!(added > FORBIDDEN)) { return Adjusted(FORBIDDEN, false); }
  if (!is_finite(raw)) { return Adjusted(FORBIDDEN, true); }
  var logit = raw;
  let count = counts[slot * VOCAB + id];  // bit 31: in the prompt; the rest: times in the answer
  let answer_count = count & 0x7fffffffu;
  let repetition = params[slot].repetition;
  if (count != 0u) { logit = select(logit * repetition, logit / repetition, logit > 0.0); }
  if (answer_count != 0u) { logit -= params[slot].presence + params[slot].frequency * f32(answer_count); }
  return Adjusted(max(logit + added, FORBIDDEN), false);
}

fn exchange(a: u32, b: u32, is_descending: bool) {
  let first = order[a];
  let second = order[b];
  if (comes_before(second, first) == is_descending) {
    order[a] = second;
    order[b] = first;
  }
}

// Sorts `order`, best first. A thread's steps at distances below ITEMS stay within its own candidates.
fn sort(thread: u32) {
  for (var size = 2u; size <= CHUNK_SIZE; size *= 2u) {
    for (var distance = size / 2u; distance >= ITEMS; distance /= 2u) {
      for (var i = thread; i < CHUNK_SIZE / 2u; i += THREADS) {
        let a = i / distance * distance * 2u + i % distance;
        exchange(a, a + distance, (a & size) == 0u);
      }
      workgroupBarrier();
    }
    for (var distance = min(size / 2u, ITEMS / 2u); distance > 0u; distance /= 2u) {
      for (var i = 0u; i < ITEMS / 2u; i++) {
        let a = thread * ITEMS + i / distance * distance * 2u + i % distance;
        exchange(a, a + distance, (a & size) == 0u);
      }
    }
    if (size >= ITEMS) { workgroupBarrier(); }
  }
}

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let row = state.rows[sampled_row(state.row_count, workgroups.y, workgroup.y)];
  if (row.stopped != 0u) { return; }
  let logits_at = workgroup.y * VOCAB;
  let chunk_at = workgroup.y * workgroups.x + workgroup.x;
  let is_greedy = is_greedy(row.slot);
  let is_filtered = is_filtered(row.slot);
  let inverse_temperature = inverse_temperature(row.slot);
  let seed = seed_of(row.slot);

  var chunk = NO_CHUNK;
  var own: array<f32, ITEMS>;
  for (var i = 0u; i < ITEMS; i++) {
    let local_id = i * THREADS + thread;
    let id = workgroup.x * CHUNK_SIZE + local_id;
    own[i] = LOWEST; // no mass beside any logit
    var candidate = Candidate(0u, NO_TOKEN);
    if (id < VOCAB) {
      let adjusted = adjust(logits[logits_at + id], row.slot, id);
      let logit = adjusted.logit;
      own[i] = logit;
      logits[logits_at + id] = logit;
      chunk.broken |= u32(adjusted.is_broken);
      candidate = Candidate(rank_of(logit), id);
      if (logit > chunk.highest) {
        chunk.highest = logit;
        chunk.likeliest = id;
      }
      if (!is_greedy && !is_filtered) {
        let score = draw_score(logit, id, row.step, seed, inverse_temperature);
        if (score > chunk.draw) {
          chunk.draw = score;
          chunk.drawn = id;
        }
      }
    }
    order[local_id] = candidate;
  }
  for (var i = 0u; i < ITEMS; i++) { chunk.mass += exp((own[i] - chunk.highest) * inverse_temperature); }

  merged[thread] = chunk;
  for (var count = THREADS / 2u; count > 0u; count /= 4u) {
    workgroupBarrier();
    if (thread < count) {
      for (var i = thread + count; i < min(THREADS, 4u * count); i += count) { chunk = merge_chunks(chunk, merged[i], inverse_temperature); }
      merged[thread] = chunk;
    }
  }
  if (thread == 0u) { chunks[chunk_at] = chunk; }

  if (is_filtered) {
    workgroupBarrier();
    sort(thread);
    if (thread < CHUNK_BEST) { candidates[chunk_at * CHUNK_BEST + thread] = order[thread]; }
  }
}
