// Shared by the two sampling kernels: settings, records between them, the noise of a draw. Needs the binding `params`, of each slot.

struct SamplingParams {   // src/kernels/sampling-params.ts writes it
  temperature: f32,       // 0: greedy
  top_k: u32,             // 0: off
  top_p: f32,             // 1: off
  min_p: f32,             // 0: off
  repetition: f32,
  presence: f32,
  frequency: f32,
  seed_low: u32,
  seed_high: u32,
  stop_count: u32,
  stop_ids: array<u32, 64>,
}

fn is_greedy(slot: u32) -> bool { return params[slot].temperature == 0.0; }

fn is_filtered(slot: u32) -> bool {
  return params[slot].temperature != 0.0 && (params[slot].top_k != 0u || params[slot].top_p < 1.0 || params[slot].min_p > 0.0);
}

fn inverse_temperature(slot: u32) -> f32 {
  let temperature = params[slot].temperature;
  return 1.0 / select(temperature, 1.0, temperature == 0.0);
}

fn seed_of(slot: u32) -> vec2<u32> { return vec2<u32>(params[slot].seed_low, params[slot].seed_high); }

// A chunk of the vocabulary, or several merged.
struct Chunk {
  highest: f32,           // of the logits
  likeliest: u32,         // the lowest id with that logit
  mass: f32,              // Σ exp((logit − highest) / temperature)
  draw: f32,              // the highest score, see draw_score
  drawn: u32,             // and its id
  broken: u32,            // 1 if the logit of an allowed token is not a finite number
}

override VOCAB: u32;
const CHUNK_SIZE = 1024u;
const CHUNK_BEST = 64u;   // candidates that each chunk passes to sample-pick
const FORBIDDEN = -1e30;  // the logit of a token that must never be drawn; WGSL does not guarantee infinities
const LOWEST = -2e30;     // below every logit
const NO_TOKEN = 0xffffffffu;
const NO_CHUNK = Chunk(LOWEST, NO_TOKEN, 0.0, LOWEST, NO_TOKEN, 0u);

// A dispatch samples the last rows of the step, in order.
fn sampled_row(row_count: u32, sampled_count: u32, index: u32) -> u32 { return row_count - sampled_count + index; }

// A candidate is (rank, id). Ranks order as logits do.
alias Candidate = vec2<u32>;

fn rank_of(logit: f32) -> u32 {
  let bits = bitcast<u32>(select(logit, 0.0, logit == 0.0)); // −0 ranks as 0
  return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

fn logit_of(rank: u32) -> f32 {
  return bitcast<f32>(select(~rank, rank & 0x7fffffffu, (rank & 0x80000000u) != 0u));
}

// If ranks are equal, the lower id comes first.
fn comes_before(a: Candidate, b: Candidate) -> bool {
  return a.x > b.x || (a.x == b.x && a.y < b.y);
}

// Returns `a` with the better draw of the two; of equal ones the lower id.
fn better_draw(a: Chunk, b: Chunk) -> Chunk {
  var better = a;
  if (b.draw > a.draw || (b.draw == a.draw && b.drawn < a.drawn)) {
    better.draw = b.draw;
    better.drawn = b.drawn;
  }
  return better;
}

fn merge_chunks(a: Chunk, b: Chunk, inverse_temperature: f32) -> Chunk {
  var merged = better_draw(a, b);
  if (b.highest > a.highest || (b.highest == a.highest && b.likeliest < a.likeliest)) {
    merged.highest = b.highest;
    merged.likeliest = b.likeliest;
  }
  merged.broken = a.broken | b.broken;
  merged.mass = a.mass * exp((a.highest - merged.highest) * inverse_temperature) + b.mass * exp((b.highest - merged.highest) * inverse_temperature);
  return merged;
}

// PCG4D (Jarzynski and Olano, "Hash Functions for GPU Rendering", 2020).
fn hash(key: vec4<u32>) -> u32 {
  var v = key * 1664525u + 1013904223u;
  v.x += v.y * v.w;
  v.y += v.z * v.x;
  v.z += v.x * v.y;
  v.w += v.y * v.z;
  v ^= v >> vec4<u32>(16u);
  v.x += v.y * v.w;
  v.y += v.z * v.x;
  v.z += v.x * v.y;
  v.w += v.y * v.z;
  return v.x ^ v.w;
}

// −ln(1 − u) for u in (0, 1), with a relative error of some 1e-7 also near 0, where the winners of a draw lie and ln(1 − u) cancels.
fn exponential(u: f32) -> f32 {
  let s = u / (2.0 - u); // −ln(1 − u) = 2 artanh(s)
  let s2 = s * s;
  let series = 2.0 * s * (1.0 + s2 * (1.0 / 3.0 + s2 * (1.0 / 5.0 + s2 * (1.0 / 7.0 + s2 / 9.0))));
  return select(-log(1.0 - u), series, u < 0.25);
}

// The token with the highest score among those allowed is a draw with softmax's probabilities (the Gumbel-max trick). The noise depends
// only on seed, step and token, so every path through the kernels draws the same token.
fn draw_score(logit: f32, id: u32, step: u32, seed: vec2<u32>, inverse_temperature: f32) -> f32 {
  let bits = hash(vec4<u32>(seed, step, id));
  let u = min((f32(bits) + 0.5) * 0x1p-32, 0.99999994);
  return logit * inverse_temperature - log(exponential(u));
}
