// Test data from a seed: the same test sees the same numbers on every machine.

export interface Random {
  /** Uniform in [0, 1). */
  next(): number;
  /** Standard normal values times `scale`. `shape` only sets the length: its product. */
  normal(shape: readonly number[], scale?: number): Float32Array<ArrayBuffer>;
  /** Uniform in [low, high). */
  uniform(shape: readonly number[], low?: number, high?: number): Float32Array<ArrayBuffer>;
  /** Normal values in which one channel (index of the last dimension) is 1000 times as large, as in real activations. */
  withOutliers(shape: readonly number[]): Float32Array<ArrayBuffer>;
  /** Integers in [0, below). */
  ids(count: number, below: number): Uint32Array<ArrayBuffer>;
  /** An integer in [0, below). */
  integer(below: number): number;
  /** The numbers 0 … count−1 in random order. */
  permutation(count: number): Uint32Array<ArrayBuffer>;
}

export function seededRandom(seed: string): Random {
  const next = mulberry32(hash(seed));
  const integer = (below: number) => Math.floor(next() * below);
  // Box–Muller; 1 − next() is never 0.
  const gauss = () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
  const normal = (shape: readonly number[], scale = 1) => Float32Array.from({ length: product(shape) }, () => gauss() * scale);
  return {
    next,
    integer,
    normal,
    uniform: (shape, low = 0, high = 1) => Float32Array.from({ length: product(shape) }, () => low + (high - low) * next()),
    withOutliers(shape) {
      const values = normal(shape);
      const channels = shape.at(-1) ?? 1;
      for (let i = integer(channels); i < values.length; i += channels) values[i] = (values[i] ?? 0) * 1000;
      return values;
    },
    ids: (count, below) => Uint32Array.from({ length: count }, () => integer(below)),
    permutation(count) {
      const order = Uint32Array.from({ length: count }, (_, index) => index);
      for (let i = count - 1; i > 0; i--) {
        const j = integer(i + 1);
        [order[i], order[j]] = [order[j] ?? 0, order[i] ?? 0];
      }
      return order;
    },
  };
}

function product(shape: readonly number[]): number {
  return shape.reduce((total, size) => total * size, 1);
}

/** FNV-1a. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  return value >>> 0;
}

function mulberry32(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
