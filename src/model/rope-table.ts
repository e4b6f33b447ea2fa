// cos and sin of every position and rotary pair, computed once on the CPU, since shaders compute sin and cos of large angles imprecisely. Angles are
// rounded to f32 as in PyTorch, so that results agree with it in long contexts.
import type { RopeConfig } from "../weights/model-config";

/** [positions, dimensions / 2] pairs of (cos, sin). */
export function ropeTable(rope: RopeConfig, positions: number): Float32Array<ArrayBuffer> {
  const pairs = rope.dimensions / 2;
  const frequencies = new Float32Array(pairs);
  for (let i = 0; i < pairs; i++) {
    frequencies[i] = Math.fround(1 / rope.theta ** ((2 * i) / rope.dimensions)) / (rope.frequencyDivisors?.[i] ?? 1);
  }
  const table = new Float32Array(positions * pairs * 2);
  let at = 0;
  for (let position = 0; position < positions; position++) {
    for (const frequency of frequencies) {
      const angle = Math.fround(position * frequency);
      table[at++] = Math.cos(angle);
      table[at++] = Math.sin(angle);
    }
  }
  return table;
}
