// Second half of sampling, one workgroup for each sampled row: picks the token and writes the row that the next step starts from.
//
// A greedy or an unfiltered draw only merges the chunks. Top-k, top-p and min-p each keep a prefix of the tokens sorted by logit, so together
// they keep the shortest prefix. It nearly always ends within the 64 best tokens. These are found among the chunks' candidates without a
// sort: first a floor that 64 candidates reach, then the place of each survivor by counting. If the prefix is longer, a search over all
// logits finds its end, two bits of the rank per pass. That is exact too, and takes some 20 passes over the vocabulary.
// Of equal logits, the lower id comes first.
#include "state.wgsl"
#include "sampling.wgsl"

@group(0) @binding(0) var<storage, read_write> state: State;
@group(0) @binding(1) var<storage, read> params: array<SamplingParams>;      // of each slot
@group(0) @binding(2) var<storage, read> logits: array<f32>;                 // of each sampled row
@group(0) @binding(3) var<storage, read> candidates: array<Candidate>;       // of each sampled row
@group(0) @binding(4) var<storage, read> chunks: array<Chunk>;               // of each sampled row
@group(0) @binding(5) var<storage, read_write> counts: array<u32>;           // of each slot
@group(0) @binding(6) var<storage, read_write> result: array<vec4<u32>>;    // of each sampled row: token, why the run ended, step, position

const THREADS = 256u;
// Both follow from VOCAB; Safari 26 refuses an override whose initialiser computes with another.
override CHUNK_COUNT: u32;
override LEADERS: u32; // candidates of each chunk that the floor is computed from: 64 or more in all

// Why a run ended.
const STOP_TOKEN = 1u;
const AFTER_STOP = 2u;
const NOTHING_ALLOWED = 3u;
const NOT_A_NUMBER = 4u;

var<workgroup> run: Row;
var<workgroup> merged: array<Chunk, THREADS>;
var<workgroup> pool: array<Candidate, THREADS>;
var<workgroup> pool_size: atomic<u32>;
var<workgroup> floor_rank: u32;
var<workgroup> best: array<Candidate, CHUNK_BEST>;
var<workgroup> weights: array<f32, CHUNK_BEST>;
var<workgroup> sums: array<vec3<f32>, THREADS>;
var<workgroup> shared_value: u32;

// Returns thread 0's value. The compiler then knows that it is the same for all threads.
fn uniform_value(value: u32, thread: u32) -> u32 {
  if (thread == 0u) { shared_value = value; }
  return workgroupUniformLoad(&shared_value);
}

fn merge_threads(of_thread: Chunk, inverse_temperature: f32, thread: u32) -> Chunk {
  var chunk = of_thread;
  merged[thread] = chunk;
  for (var count = THREADS / 4u; count > 0u; count /= 4u) {
    workgroupBarrier();
    if (thread < count) {
      for (var i = 1u; i < 4u; i++) { chunk = merge_chunks(chunk, merged[thread + i * count], inverse_temperature); }
      merged[thread] = chunk;
    }
  }
  return workgroupUniformLoad(&merged[0]);
}

// The parameters of a draw for the functions below. The settings are those of `slot`; the row's own logits and candidates begin at `logits_at` and
// `candidates_at`.
struct Draw {
  slot: u32,
  logits_at: u32,
  candidates_at: u32,
  inverse_temperature: f32,
  highest: f32,
  step: u32,
  seed: vec2<u32>,
}

fn weight_of(draw: Draw, logit: f32) -> f32 { return exp((logit - draw.highest) * draw.inverse_temperature); }

fn scored(draw: Draw, candidate: Candidate) -> Chunk {
  var chunk = NO_CHUNK;
  chunk.draw = draw_score(logit_of(candidate.x), candidate.y, draw.step, draw.seed, draw.inverse_temperature);
  chunk.drawn = candidate.y;
  return chunk;
}

// The place of a candidate in the order of the pool's first `count`.
fn place_of(candidate: Candidate, count: u32) -> u32 {
  var place = 0u;
  for (var i = 0u; i < count; i++) { place += u32(comes_before(pool[i], candidate)); }
  return place;
}

// Puts the 64 best tokens in order into `best`. Returns false if too many tokens are equal to them: the 64 are then unknown.
fn find_best(draw: Draw, thread: u32) -> bool {
  var leader = Candidate(0u, NO_TOKEN);
  if (thread < CHUNK_COUNT * LEADERS) { leader = candidates[draw.candidates_at + thread / LEADERS * CHUNK_BEST + thread % LEADERS]; }
  pool[thread] = leader;
  if (thread == 0u) { floor_rank = 0u; }
  if (thread < CHUNK_BEST) { best[thread] = Candidate(0u, NO_TOKEN); }
  workgroupBarrier();
  if (place_of(leader, THREADS) == CHUNK_BEST - 1u) { floor_rank = leader.x; }
  workgroupBarrier();
  for (var i = thread; i < CHUNK_COUNT * CHUNK_BEST; i += THREADS) {
    let candidate = candidates[draw.candidates_at + i];
    if (candidate.y != NO_TOKEN && candidate.x >= floor_rank) {
      let place = atomicAdd(&pool_size, 1u);
      if (place < THREADS) { pool[place] = candidate; }
    }
  }
  workgroupBarrier();
  let count = uniform_value(atomicLoad(&pool_size), thread);
  if (count > THREADS) { return false; }
  if (thread < count) {
    let place = place_of(pool[thread], count);
    if (place < CHUNK_BEST) { best[place] = pool[thread]; }
  }
  workgroupBarrier();
  return true;
}

struct Drawn { from_thread: Chunk, is_known: bool }

// Draws from the 64 best. The draw is unknown if tokens beyond them may be kept too.
fn draw_from_best(draw: Draw, mass: f32, thread: u32) -> Drawn {
  let top_k = params[draw.slot].top_k;
  var candidate = Candidate(0u, NO_TOKEN);
  if (thread < CHUNK_BEST) {
    candidate = best[thread];
    weights[thread] = select(weight_of(draw, logit_of(candidate.x)), 0.0, candidate.y == NO_TOKEN);
  }
  workgroupBarrier();
  var is_kept = candidate.y != NO_TOKEN && (top_k == 0u || thread < top_k);
  if (is_kept) {
    var before = 0.0;
    var kept_mass = mass;
    for (var i = 0u; i < thread; i++) { before += weights[i]; }
    if (top_k != 0u && top_k <= CHUNK_BEST) {
      kept_mass = 0.0;
      for (var i = 0u; i < top_k; i++) { kept_mass += weights[i]; }
    }
    let top_p = params[draw.slot].top_p;
    let is_in_nucleus = top_p >= 1.0 || thread == 0u || before < top_p * kept_mass;
    is_kept = is_in_nucleus && weights[thread] >= params[draw.slot].min_p;
  }
  var chunk = NO_CHUNK;
  if (is_kept) { chunk = scored(draw, candidate); }
  if (thread == CHUNK_BEST - 1u) { shared_value = u32(is_kept && VOCAB > CHUNK_BEST && top_k != CHUNK_BEST); }
  let goes_on = workgroupUniformLoad(&shared_value) != 0u;
  return Drawn(chunk, !goes_on);
}

// The quantity summed over the tokens whose rank reaches a threshold.
const COUNT = 0u;  // 1
const MASS = 1u;   // their weight
const TIES = 2u;   // 1; a token at the cut's rank is ranked by VOCAB − id, any other by 0

// Keeps the tokens above `rank`, and the first `ties` of those at it.
struct Cut { rank: u32, ties: f32 }

fn measure(kind: u32, cut: Cut, draw: Draw, thresholds: vec3<u32>, thread: u32) -> vec3<f32> {
  var sum = vec3<f32>();
  for (var id = thread; id < VOCAB; id += THREADS) {
    let logit = logits[draw.logits_at + id];
    var rank = rank_of(logit);
    var weight = 1.0;
    if (kind == MASS) { weight = weight_of(draw, logit); }
    if (kind == TIES) { rank = select(0u, VOCAB - id, rank == cut.rank); }
    sum += select(vec3<f32>(), vec3<f32>(weight), vec3<u32>(rank) >= thresholds);
  }
  workgroupBarrier(); // until all threads have read the result of the previous call
  sums[thread] = sum;
  for (var count = THREADS / 4u; count > 0u; count /= 4u) {
    workgroupBarrier();
    if (thread < count) { sums[thread] += sums[thread + count] + sums[thread + 2u * count] + sums[thread + 3u * count]; }
  }
  workgroupBarrier();
  return sums[0];
}

// Finds the cut of top-k (COUNT), of the nucleus within it (MASS), or of the equals at its end (TIES). It is the highest rank such that the tokens from it
// up reach a goal, found from its high bits to its low ones. A first sweep sums the tokens that `cut` keeps and gives the goal. A last sweep sums the
// tokens above the rank and gives the number kept at it.
const SWEEPS = 18u;
fn find_cut(kind: u32, cut: Cut, draw: Draw, thread: u32) -> Cut {
  var rank = 0u;
  var goal = 0.0;
  var ties = 0.0;
  let cut_weight = select(0.0, weight_of(draw, logit_of(cut.rank)), cut.rank > 0u);
  var step = 0u;
  for (var sweep = 0u; sweep < SWEEPS; sweep++) {
    let is_first = sweep == 0u;
    let base = select(rank, cut.rank, is_first);
    let thresholds = select(vec3<u32>(base) + step * vec3<u32>(1u, 2u, 3u), vec3<u32>(base + 1u), step == 0u);
    let sum = measure(kind, cut, draw, thresholds, thread);
    if (is_first) {
      goal = select(cut.ties, f32(params[draw.slot].top_k), kind == COUNT);
      if (kind == MASS) { goal = max(params[draw.slot].top_p * (sum.x + cut.ties * cut_weight), 1e-30); }
    } else if (step > 0u) {
      rank += step * dot(vec3<u32>(sum >= vec3<f32>(goal)), vec3<u32>(1u));
    } else if (rank > 0u) {
      let weight = select(1.0, weight_of(draw, logit_of(rank)), kind == MASS);
      ties = clamp(ceil((goal - sum.x) / weight), 1.0, f32(VOCAB));
    }
    step = select(step >> 2u, 1u << 30u, is_first);
  }
  return Cut(rank, ties);
}

fn draw_from_all(draw: Draw, thread: u32) -> Chunk {
  var cut = Cut(0u, 0.0);
  var last_tie = VOCAB;
  let top_k = params[draw.slot].top_k;
  let has_top_k = top_k != 0u && top_k < VOCAB;
  let has_top_p = params[draw.slot].top_p < 1.0;
  for (var kind = COUNT; kind <= TIES; kind++) {
    let is_needed = (has_top_k && kind != MASS) || (has_top_p && kind != COUNT);
    if (!is_needed) { continue; }
    let next = find_cut(kind, cut, draw, thread);
    if (kind == TIES) {
      last_tie = VOCAB - next.rank;
    } else if (next.rank > cut.rank || (next.rank == cut.rank && next.ties < cut.ties)) {
      cut = next;
    }
  }

  var chunk = NO_CHUNK;
  for (var id = thread; id < VOCAB; id += THREADS) {
    let logit = logits[draw.logits_at + id];
    let rank = rank_of(logit);
    let is_kept = (rank > cut.rank || (rank == cut.rank && id <= last_tie)) && weight_of(draw, logit) >= params[draw.slot].min_p;
    if (is_kept) { chunk = better_draw(chunk, scored(draw, Candidate(rank, id))); }
  }
  return chunk;
}

fn is_stop(slot: u32, token: u32) -> bool {
  for (var i = 0u; i < params[slot].stop_count; i++) {
    if (params[slot].stop_ids[i] == token) { return true; }
  }
  return false;
}

// The index of a row among the step's rows and among the sampled ones.
struct Place { row: u32, index: u32 }

fn finish(place: Place, before: Row, token: u32) {
  var after = Row(token, before.position + 1u, before.slot, before.step + 1u, 0u);
  if (is_stop(before.slot, token)) { after.stopped = STOP_TOKEN; }
  counts[before.slot * VOCAB + token]++;
  state.rows[place.row] = after;
  result[place.index] = vec4<u32>(token, after.stopped, before.step, before.position);
}

// Ends the run without a token.
fn fail(place: Place, before: Row, why: u32) {
  state.rows[place.row].stopped = why;
  result[place.index] = vec4<u32>(NO_TOKEN, why, before.step, before.position);
}

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = workgroup.y;
  let place = Place(sampled_row(state.row_count, workgroups.y, index), index);
  if (thread == 0u) { run = state.rows[place.row]; }
  let before = workgroupUniformLoad(&run);
  if (before.stopped != 0u) {
    if (thread == 0u) { result[index] = vec4<u32>(NO_TOKEN, AFTER_STOP, before.step, before.position); }
    return;
  }
  let slot = before.slot;
  let inverse_temperature = inverse_temperature(slot);

  var chunk = NO_CHUNK;
  if (thread < CHUNK_COUNT) { chunk = chunks[index * CHUNK_COUNT + thread]; }
  let whole = merge_threads(chunk, inverse_temperature, thread);
  let is_broken = whole.broken != 0u;
  if (is_broken || !(whole.highest > FORBIDDEN)) {
    if (thread == 0u) { fail(place, before, select(NOTHING_ALLOWED, NOT_A_NUMBER, is_broken)); }
    return;
  }

  var token = select(whole.drawn, whole.likeliest, is_greedy(slot));
  if (is_filtered(slot)) {
    let candidates_at = index * CHUNK_COUNT * CHUNK_BEST;
    let draw = Draw(slot, index * VOCAB, candidates_at, inverse_temperature, whole.highest, before.step, seed_of(slot));
    var drawn = Drawn(NO_CHUNK, false);
    // If k is over 64, only draw_from_all knows the mass of the k best.
    if ((params[slot].top_k <= CHUNK_BEST || params[slot].top_p >= 1.0) && find_best(draw, thread)) {
      drawn = draw_from_best(draw, whole.mass, thread);
    }
    if (uniform_value(u32(drawn.is_known), thread) == 0u) { drawn.from_thread = draw_from_all(draw, thread); }
    token = merge_threads(drawn.from_thread, inverse_temperature, thread).drawn;
  }
  if (thread == 0u) { finish(place, before, token); }
}
