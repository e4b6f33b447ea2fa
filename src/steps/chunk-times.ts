// Tells a chunk's fixed time from its rows' time: a line through the times of recent chunks. Pure functions.

export interface Sample {
  readonly rows: number;
  readonly ms: number;
}

/** A chunk takes `fixedMs + rows × msPerRow`. Neither is negative. */
export interface ChunkTimes {
  readonly fixedMs: number;
  readonly msPerRow: number;
}

// Sizes closer than this say more of noise than of rows.
const LEAST_SPREAD = 1.4;
// One sample of this many is left out. Without one of fewer, a line would pass through all others.
const SAMPLES_TO_DOUBT = 4;

/**
 * The line of least squares. One sample in four is left out, so that the others fit best: a driver that compiles, or a page that pauses, makes a chunk
 * slow and says nothing of the rest. Null where all samples have about the same number of rows.
 */
export function fitLine(samples: readonly Sample[]): ChunkTimes | null {
  let best: { times: ChunkTimes; error: number } | null = null;
  for (const chosen of without(samples, Math.floor(samples.length / SAMPLES_TO_DOUBT))) {
    const times = leastSquares(chosen);
    if (!times) continue;
    const error = chosen.reduce((sum, { rows, ms }) => sum + (ms - times.fixedMs - rows * times.msPerRow) ** 2, 0);
    if (!best || error < best.error) best = { times, error };
  }
  return best?.times ?? null;
}

/** All ways to leave `count` samples out. */
function without(samples: readonly Sample[], count: number): Sample[][] {
  if (count === 0) return [[...samples]];
  return samples.flatMap((_, index) => without(samples.slice(index + 1), count - 1).map((rest) => [...samples.slice(0, index), ...rest]));
}

function leastSquares(samples: readonly Sample[]): ChunkTimes | null {
  const sizes = samples.map(({ rows }) => rows);
  if (Math.max(...sizes) < LEAST_SPREAD * Math.min(...sizes)) return null;
  const meanRows = mean(sizes);
  const meanMs = mean(samples.map(({ ms }) => ms));
  const variance = mean(sizes.map((rows) => (rows - meanRows) ** 2));
  const covariance = mean(samples.map(({ rows, ms }) => (rows - meanRows) * (ms - meanMs)));
  const msPerRow = Math.max(0, Math.min(covariance / variance, meanMs / meanRows));
  return { msPerRow, fixedMs: meanMs - meanRows * msPerRow };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
