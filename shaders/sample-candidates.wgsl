// First half of sampling: a workgroup a chunk of the vocabulary.
//
// Penalties and bias are applied to the logits, in place. Of its chunk a workgroup hands on what a greedy or an unfiltered draw needs
// (the highest, the mass, the winner of the draw) and, where top-k, top-p or min-p is on, the 64 best in order: a bitonic sort, whose
// steps over neighbours each thread does for its own eight candidates, without barriers.
#include "state.wgsl"
#include "sampling.wgsl"

@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> params: SamplingParams;
@group(0) @binding(2) var<storage, read_write> logits: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> counts: array<u32>;
@group(0) @binding(5) var<storage, read_write> candidates: array<Candidate>;
@group(0) @binding(6) var<storage, read_write> chunks: array<Chunk>;

const THREADS = 128u;
const ITEMS = CHUNK_SIZE / THREADS;

var<workgroup> merged: array<Chunk, THREADS>;
var<workgroup> order: array<Candidate, CHUNK_SIZE>;

fn adjust(id: u32) -> f32 {
  var logit = logits[id];
  let count = counts[id];                 // bit 31: in the prompt; the rest: times in the answer
  let answer_count = count & 0x7fffffffu;
  if (count != 0u) { logit = select(logit * params.repetition, logit / params.repetition, logit > 0.0); }
  if (answer_count != 0u) { logit -= params.presence + params.frequency * f32(answer_count); }
  return max(logit + bias[id], FORBIDDEN);
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
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  if (state.stopped != 0u) { return; }
  let is_greedy = params.temperature == 0.0;
  let inverse_temperature = 1.0 / select(params.temperature, 1.0, is_greedy);
  let seed = vec2<u32>(params.seed_low, params.seed_high);
  let is_filtered = !is_greedy && (params.top_k != 0u || params.top_p < 1.0 || params.min_p > 0.0);

  var chunk = NO_CHUNK;
  var own: array<f32, ITEMS>;
  for (var i = 0u; i < ITEMS; i++) {
    let local_id = i * THREADS + thread;
    let id = workgroup.x * CHUNK_SIZE + local_id;
    own[i] = LOWEST; // no mass beside any logit
    var candidate = Candidate(0u, NO_TOKEN);
    if (id < VOCAB) {
      let logit = adjust(id);
      own[i] = logit;
      logits[id] = logit;
      candidate = Candidate(rank_of(logit), id);
      if (logit > chunk.highest) {
        chunk.highest = logit;
        chunk.likeliest = id;
      }
      if (!is_greedy && !is_filtered) {
        let score = draw_score(logit, id, state.step, seed, inverse_temperature);
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
  if (thread == 0u) { chunks[workgroup.x] = chunk; }

  if (is_filtered) {
    workgroupBarrier();
    sort(thread);
    if (thread < CHUNK_BEST) { candidates[workgroup.x * CHUNK_BEST + thread] = order[thread]; }
  }
}
